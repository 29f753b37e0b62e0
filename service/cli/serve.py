"""`gpuledger serve`: the flags of every setting, and the service itself."""

from typing import Annotated, Any

import typer

from service.cli.failures import reported
from service.cli.surroundings import Surroundings
from service.settings import Settings
from service.settings_table import SETTINGS

PANEL = "Service"


def _flag(name: str) -> Any:
    """The option of a setting. None means not given, so that the environment can speak."""
    setting = SETTINGS[name]
    return typer.Option(*setting.flags, help=setting.help, show_default=False, metavar="VALUE")


Addr = Annotated[str | None, _flag("addr")]
DataDir = Annotated[str | None, _flag("data_dir")]
Nats = Annotated[str | None, _flag("nats")]
NatsCredentials = Annotated[str | None, _flag("nats_credentials")]
PortRange = Annotated[str | None, _flag("port_range")]
Docker = Annotated[str | None, _flag("docker")]
Node = Annotated[str | None, _flag("node")]
Gpus = Annotated[str | None, _flag("gpus")]
GpuRuntime = Annotated[str | None, _flag("gpu_runtime")]
SystemDisk = Annotated[str | None, _flag("system_disk")]
KeepRevisions = Annotated[str | None, _flag("keep_revisions")]
KeepDays = Annotated[str | None, _flag("keep_days")]
FreeSpace = Annotated[str | None, _flag("free_space")]
OrphanGrace = Annotated[str | None, _flag("orphan_grace")]
VolumeBackend = Annotated[str | None, _flag("volume_backend")]
VolumeFileSystem = Annotated[str | None, _flag("volume_file_system")]
OverCommit = Annotated[str | None, _flag("over_commit")]
BindRoot = Annotated[str | None, _flag("bind_root")]
TlsCert = Annotated[str | None, _flag("tls_cert")]
TlsKey = Annotated[str | None, _flag("tls_key")]
Insecure = Annotated[bool, typer.Option("--insecure", help=SETTINGS["insecure"].help)]
RateLimit = Annotated[str | None, _flag("rate_limit")]
WaitingLimit = Annotated[str | None, _flag("waiting_limit")]
CorsOrigin = Annotated[str | None, _flag("cors_origin")]
TrustedProxy = Annotated[str | None, _flag("trusted_proxy")]
AuditDir = Annotated[str | None, _flag("audit_dir")]
LogLevel = Annotated[str | None, _flag("log_level")]
DataDiskPath = Annotated[str | None, _flag("data_disk_path")]
FileStoragePath = Annotated[str | None, _flag("file_storage_path")]
WaitTimeout = Annotated[str | None, _flag("wait_timeout")]
StopTimeout = Annotated[str | None, _flag("stop_timeout")]
OtlpEndpoint = Annotated[str | None, _flag("otlp_endpoint")]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("serve", rich_help_panel=PANEL)(serve)


def serve(
    ctx: typer.Context,
    addr: Addr = None,
    data_dir: DataDir = None,
    nats: Nats = None,
    nats_credentials: NatsCredentials = None,
    port_range: PortRange = None,
    docker: Docker = None,
    node: Node = None,
    gpus: Gpus = None,
    gpu_runtime: GpuRuntime = None,
    system_disk: SystemDisk = None,
    keep_revisions: KeepRevisions = None,
    keep_days: KeepDays = None,
    free_space: FreeSpace = None,
    orphan_grace: OrphanGrace = None,
    volume_backend: VolumeBackend = None,
    volume_file_system: VolumeFileSystem = None,
    over_commit: OverCommit = None,
    bind_root: BindRoot = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure: Insecure = False,
    rate_limit: RateLimit = None,
    waiting_limit: WaitingLimit = None,
    cors_origin: CorsOrigin = None,
    trusted_proxy: TrustedProxy = None,
    audit_dir: AuditDir = None,
    log_level: LogLevel = None,
    data_disk_path: DataDiskPath = None,
    file_storage_path: FileStoragePath = None,
    wait_timeout: WaitTimeout = None,
    stop_timeout: StopTimeout = None,
    otlp_endpoint: OtlpEndpoint = None,
) -> None:
    """Run the service until Ctrl-C or SIGTERM."""
    with reported():
        settings = settings_of(ctx)
        # Here and not above: Docker, NATS and telemetry take longer to import than `ps` to run.
        import uvloop

        from service import bootstrap

        code = uvloop.run(bootstrap.serve(settings))
    raise typer.Exit(code)


def settings_of(ctx: typer.Context) -> Settings:
    """The settings from a command's flags and the environment. Raises SettingsError."""
    surroundings: Surroundings = ctx.obj
    given = {name: value for name, value in ctx.params.items() if name in SETTINGS}
    # A flag without a value: when it is not there, the environment may speak.
    if "insecure" in given:
        given["insecure"] = "yes" if given["insecure"] else None
    return Settings.from_mapping(
        surroundings.env,
        host_name=surroundings.host_name,
        superuser=surroundings.superuser,
        **given,
    )
