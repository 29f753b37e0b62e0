"""`gpuledger backup` and `gpuledger restore`: the log as files, and the files as a log again."""

from pathlib import Path
from typing import Annotated

import typer

from events.values import show_size
from service.cli.failures import reported
from service.cli.maintain import AsJson, say
from service.cli.recovery import recover
from service.cli.refusals_found import refusals_data, refusals_lines
from service.cli.serve import (
    PANEL,
    BindRoot,
    DataDir,
    Docker,
    GpuRuntime,
    Gpus,
    LogLevel,
    Nats,
    NatsCredentials,
    Node,
    OverCommit,
    PortRange,
    SystemDisk,
    VolumeBackend,
    VolumeFileSystem,
    settings_of,
)
from service.cli.show import plural
from service.errors import SettingsError

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", show_default=False, help="The folder of the backup")
]
Restored = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        show_default=False,
        help="The folder of the backup; with --execute none is the log that is there",
    ),
]
Execute = Annotated[
    bool,
    typer.Option("--execute", help="Make containers and volumes again that this host has not"),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what --execute would do, and what is lost")
]
AcceptLosses = Annotated[
    bool, typer.Option("--accept-losses", help="Do it though something is lost")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Only check the backup that is there, without a log")
]

NOT_COMPARED = (
    "; another version's schema made the fold's digest, so only checksums were compared"
)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("backup", rich_help_panel=PANEL)(backup)
    app.command("restore", rich_help_panel=PANEL)(restore)


def backup(
    ctx: typer.Context,
    folder: Folder,
    verify: Verify = False,
    data_dir: DataDir = None,
    nats: Nats = None,
    nats_credentials: NatsCredentials = None,
    node: Node = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
) -> None:
    """Write what is new in the log to a folder, also while the service runs."""
    with reported():
        settings = settings_of(ctx)
        import uvloop

        from service import bootstrap

        if verify:
            done = uvloop.run(bootstrap.verify_backup(folder))
        else:
            done = uvloop.run(bootstrap.back_up(settings, folder))
    data = {
        "records": done.records,
        "bytes": done.bytes,
        "node": done.node,
        "refusals": refusals_data(done.refusals),
    }
    total = f"{plural(done.records, 'record')} of node {done.node}, {show_size(done.bytes)}"
    refusals = "\n".join(refusals_lines(done.refusals))
    if verify:
        text = f"{total}: all is as it was written"
        data["foldCompared"] = done.fold_compared
        compared = text if done.fold_compared else text + NOT_COMPARED
        say(as_json, data, f"{compared}\n{refusals}")
        if done.refusals is not None and done.refusals.fault:
            raise typer.Exit(1)
        return
    volumes = settings.data_dir / "volumes"
    lines = (
        f"{plural(done.new_records, 'new record')}; {folder} holds {total}",
        refusals,
        "data disks are not in it: with the service stopped, copy them with"
        f" 'rsync -aS {volumes}/ TARGET/'",
    )
    say(as_json, {"newRecords": done.new_records, **data}, "\n".join(lines))


def restore(
    ctx: typer.Context,
    folder: Restored = None,
    execute: Execute = False,
    dry_run: DryRun = False,
    accept_losses: AcceptLosses = False,
    data_dir: DataDir = None,
    nats: Nats = None,
    nats_credentials: NatsCredentials = None,
    node: Node = None,
    docker: Docker = None,
    gpus: Gpus = None,
    gpu_runtime: GpuRuntime = None,
    port_range: PortRange = None,
    system_disk: SystemDisk = None,
    volume_backend: VolumeBackend = None,
    volume_file_system: VolumeFileSystem = None,
    over_commit: OverCommit = None,
    bind_root: BindRoot = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
) -> None:
    """Make the log anew from a backup; with --execute, containers and volumes as well."""
    with reported():
        settings = settings_of(ctx)
        if execute or dry_run:
            recover(
                settings,
                folder,
                execute=execute and not dry_run,
                accept_losses=accept_losses,
                as_json=as_json,
            )
            return
        if accept_losses:
            raise SettingsError("--accept-losses is for --execute: the log alone loses nothing")
        if folder is None:
            raise SettingsError("name the folder of the backup, or give --execute or --dry-run")
        import uvloop

        from service import bootstrap

        done = uvloop.run(bootstrap.restore(settings, folder))
    first = f"{plural(done.records, 'record')} restored"
    where = f"--data-dir {settings.data_dir} --node {done.node}"
    lines = (
        first if done.fold_compared else first + NOT_COMPARED,
        *refusals_lines(done.refusals),
        "1. data disks are not in a backup: put them back with"
        f" 'rsync -aS COPY/ {settings.data_dir / 'volumes'}/'",
        "2. if Docker does not have the containers any more, make them again with 'gpuledger"
        f" restore --execute {where}': a service that finds none takes them for removed",
        f"3. start the service: 'gpuledger serve {where}'",
    )
    found = {"foldCompared": done.fold_compared, "refusals": refusals_data(done.refusals)}
    say(as_json, {"records": done.records, "node": done.node, **found}, "\n".join(lines))
