"""`gpuledger audit verify`: of an installation, a backup or an export; needs no service."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.failures import reported
from service.cli.maintain import AsJson, say
from service.cli.serve import (
    AuditDir,
    DataDir,
    LogLevel,
    Nats,
    NatsCredentials,
    Node,
    settings_of,
)
from service.cli.show import plural

Backup = Annotated[
    Path | None,
    typer.Option("--file", metavar="DIR", help="A backup, in place of the installation"),
]
Export = Annotated[
    Path | None,
    typer.Option("--export", metavar="FILE", help="An export with records, in place of it"),
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option("--checkpoint", metavar="FILE", help="Checkpoints to compare with; repeatable"),
]
PublicKey = Annotated[
    Path | None,
    typer.Option(
        "--key", metavar="FILE", help="The public key, PEM; else that of the data directory"
    ),
]


def verify(
    ctx: typer.Context,
    backup: Backup = None,
    export: Export = None,
    checkpoint: Checkpoints = None,
    key: PublicKey = None,
    data_dir: DataDir = None,
    nats: Nats = None,
    nats_credentials: NatsCredentials = None,
    node: Node = None,
    audit_dir: AuditDir = None,
    log_level: LogLevel = None,
    as_json: AsJson = False,
) -> None:
    """Find the first record that was changed, taken out or put in; exit code 1 if there is one."""
    if backup is not None and export is not None:
        raise typer.BadParameter("give --file or --export, not both", param_hint="--export")
    files = checkpoint or []
    with reported():
        settings = settings_of(ctx)
        import uvloop

        from service import bootstrap

        if export is not None:
            found = uvloop.run(bootstrap.verify_export(settings, export, key))
        elif backup is not None:
            found = uvloop.run(bootstrap.verify_backup_chain(settings, backup, files, key))
        else:
            found = uvloop.run(bootstrap.verify_audit(settings, files, key))
    fault = found.fault
    data = {
        "records": found.records,
        "unchained": found.unchained,
        "lastSeq": found.last_seq,
        "checkpoints": found.checkpoints,
        "vouchedSeq": found.vouched_seq,
        "fault": None if fault is None else {"seq": fault.seq, "what": fault.what},
    }
    if fault is not None:
        where = f"seq {fault.seq}: " if fault.seq else ""
        say(as_json, data, f"{where}{fault.what}\nthis is NOT as it was written")
        raise typer.Exit(1)
    lines = [f"{plural(found.records, 'record')}: all is as it was written"]
    if found.unchained:
        lines.append(f"{found.unchained} of them are from before 0.5.0: nothing proves those")
    if found.checkpoints:
        lines.append(
            f"{plural(found.checkpoints, 'checkpoint')} compared; the newest proves seq 1 to"
            f" {found.vouched_seq}"
        )
    if found.vouched_seq < found.last_seq:
        lines.append(
            f"no checkpoint proves seq {found.vouched_seq + 1} to {found.last_seq}: an end that was"
            " cut off, or all of it written anew, would not be seen"
        )
    say(as_json, data, "\n".join(lines))
