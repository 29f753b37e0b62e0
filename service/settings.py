"""Settings: everything that can be set, read once, checked, and handed on as one value.

A setting has a flag of `gpuledger serve` and an environment variable; the flag wins, an empty
variable counts as unset. Nothing here reads the environment: it is handed in as a mapping.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from service import settings_text as parse
from service.errors import SettingsError
from service.settings_table import SETTINGS, Setting
from service.settings_text import (
    FileSystemChoice,
    GpuRuntimeChoice,
    LogLevel,
    Network,
    SystemDiskChoice,
    VolumeBackendChoice,
)

T = TypeVar("T")


class AccessSettings(Struct, frozen=True):
    """What the service was told about who may reach it."""

    tls: tuple[Path, Path] | None
    """Certificate and key, PEM; None is plain http."""
    insecure: bool
    """May it listen beyond loopback without tokens, or without TLS?"""
    rate_limit: int
    """Requests of one caller in a second; 0 is no limit."""
    waiting_limit: int
    """Requests of one caller that wait at the same time; 0 is no limit."""
    cors_origins: tuple[str, ...]
    trusted_proxies: tuple[Network, ...]
    """Whose X-Forwarded-For is believed."""


class Settings(Struct, frozen=True):
    """What the service was told. Build it with `from_mapping`, once."""

    host: str
    """A name or an address; an IPv6 address without its brackets."""
    port: int
    """0 lets the system choose a free one."""
    data_dir: Path
    nats: str
    """"embedded", or the URLs of servers, separated by commas."""
    nats_credentials: Path | None
    port_first: int
    port_last: int
    docker: str | None
    """A URL; None is the default socket."""
    node: str
    gpus: str
    """"auto", "none" or "simulated:N"; see `simulated_gpus`."""
    gpu_runtime: GpuRuntimeChoice
    system_disk: SystemDiskChoice
    keep_revisions: int
    keep_days: float
    free_bytes_min: int
    orphan_grace_s: int
    volume_backend: VolumeBackendChoice
    volume_file_system: FileSystemChoice
    over_commit: bool
    bind_roots: tuple[Path, ...]
    """Below these a container may mount directories of the host."""
    access: AccessSettings
    audit_dir: Path | None
    """Where signed checkpoints are kept a second time."""
    log_level: LogLevel
    data_disk_path: str
    file_storage_path: str
    wait_timeout_s: float
    stop_timeout_s: int
    otlp_endpoint: str | None

    @classmethod
    def from_mapping(
        cls,
        env: Mapping[str, str],
        *,
        host_name: str = "localhost",
        superuser: bool = False,
        **overrides: object,
    ) -> "Settings":
        """Read the settings from an environment, with flags (named as in SETTINGS) on top.

        An override that is None was not given. `host_name` is the default for `node`;
        `superuser` says whose data directory is the default. Raises SettingsError that names
        the flag and the variable of the first setting that makes no sense.
        """
        if unknown := overrides.keys() - SETTINGS.keys():
            raise TypeError(f"there is no setting named {', '.join(sorted(unknown))}")
        source = _Source(env, overrides)
        host, port = source.read("addr", parse.addr)
        port_first, port_last = source.read("port_range", parse.port_range)
        data_disk_path = source.read("data_disk_path", parse.container_path)
        nats = source.read("nats", parse.nats)
        return cls(
            host=host,
            port=port,
            data_dir=source.read_or("data_dir", parse.host_path, lambda: _data_dir(env, superuser)),
            nats=nats,
            nats_credentials=source.read_or(
                "nats_credentials", lambda text: parse.nats_credentials(text, nats), lambda: None
            ),
            port_first=port_first,
            port_last=port_last,
            docker=source.read_or("docker", parse.docker, lambda: _docker_host(env)),
            node=source.read_or("node", parse.node, lambda: parse.node_of_host(host_name)),
            gpus=source.read("gpus", parse.gpus),
            gpu_runtime=source.read("gpu_runtime", parse.gpu_runtime),
            system_disk=source.read("system_disk", parse.system_disk),
            keep_revisions=source.read("keep_revisions", parse.keep_revisions),
            keep_days=source.read("keep_days", parse.keep_days),
            free_bytes_min=source.read("free_space", parse.space),
            orphan_grace_s=source.read("orphan_grace", parse.orphan_grace),
            volume_backend=source.read("volume_backend", parse.volume_backend),
            volume_file_system=source.read("volume_file_system", parse.volume_file_system),
            over_commit=source.read("over_commit", parse.yes_or_no),
            bind_roots=source.read_or(
                "bind_root", parse.bind_roots, lambda: parse.default_bind_roots(host)
            ),
            access=_access(source),
            audit_dir=source.read_or("audit_dir", parse.host_path, lambda: None),
            log_level=source.read("log_level", parse.log_level),
            data_disk_path=data_disk_path,
            file_storage_path=source.read(
                "file_storage_path", lambda text: parse.container_path(text, data_disk_path)
            ),
            wait_timeout_s=source.read("wait_timeout", parse.wait_timeout),
            stop_timeout_s=source.read("stop_timeout", parse.stop_timeout),
            otlp_endpoint=source.read_or("otlp_endpoint", parse.otlp_endpoint, lambda: None),
        )

    @property
    def simulated_gpus(self) -> int:
        """How many GPUs to simulate; 0 when they are not simulated."""
        return int(self.gpus.removeprefix("simulated:")) if ":" in self.gpus else 0

    @property
    def addr(self) -> str:
        """Host and port as one writes them in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Source:
    """Where a setting's text comes from, so that an error can name it."""

    def __init__(self, env: Mapping[str, str], overrides: Mapping[str, object]) -> None:
        self._env = env
        self._overrides = overrides

    def read(self, name: str, parser: Callable[[str], T]) -> T:
        given = self._given(name)
        setting = SETTINGS[name]
        return _parsed(setting, setting.default if given is None else given, parser)

    def read_or(self, name: str, parser: Callable[[str], T], default: Callable[[], T]) -> T:
        given = self._given(name)
        return default() if given is None else _parsed(SETTINGS[name], given, parser)

    def _given(self, name: str) -> str | None:
        override = self._overrides.get(name)
        if override is not None:
            return str(override)
        return self._env.get(SETTINGS[name].env) or None


def _access(source: _Source) -> AccessSettings:
    cert = source.read_or("tls_cert", parse.host_path, lambda: None)
    key = source.read_or("tls_key", parse.host_path, lambda: None)
    if (cert is None) != (key is None):
        raise SettingsError("--tls-cert and --tls-key go together: give both, or neither")
    return AccessSettings(
        tls=(cert, key) if cert and key else None,
        insecure=source.read("insecure", parse.yes_or_no),
        rate_limit=source.read("rate_limit", parse.rate_limit),
        waiting_limit=source.read("waiting_limit", parse.waiting_limit),
        cors_origins=source.read("cors_origin", parse.cors_origins),
        trusted_proxies=source.read("trusted_proxy", parse.networks),
    )


def _parsed(setting: Setting, text: str, parser: Callable[[str], T], names: str = "") -> T:
    try:
        return parser(text)
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        shown = f"{text!r}{why}"
        if "@" in text:  # a password may be before it, and this goes into logs
            shown = repr(f"***@{text.rpartition('@')[2]}")
        spelled = names or f"{' / '.join(setting.flags)} (or {setting.env})"
        raise SettingsError(f"{spelled} is {shown}; allowed: {setting.allowed}") from None


def _docker_host(env: Mapping[str, str]) -> str | None:
    setting = SETTINGS["docker"]
    names = f"DOCKER_HOST (--docker and {setting.env} go before it)"
    given = env.get("DOCKER_HOST")
    return _parsed(setting, given, parse.docker, names) if given else None


def _data_dir(env: Mapping[str, str], superuser: bool) -> Path:
    if superuser:
        return Path("/var/lib/gpuledger")
    if (xdg := env.get("XDG_DATA_HOME", "")).startswith("/"):
        # The XDG specification: a relative path is to be ignored.
        return Path(xdg, "gpuledger")
    if home := env.get("HOME"):
        return Path(home, ".local", "share", "gpuledger")
    setting = SETTINGS["data_dir"]
    raise SettingsError(f"there is no HOME: say where to keep data with --data-dir ({setting.env})")
