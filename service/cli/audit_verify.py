"""`gpuledger audit verify`: of an installation, a backup or an export; needs no service."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.failures import reported
from service.cli.maintain import AsJson, say
from service.cli.refusals_found import refusals_data, refusals_lines
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

if TYPE_CHECKING:
    from service.audit_ports import Verified

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
    """Find the first record or refusal that was changed, taken out or put in; exit code 1 if there
    is one.
    """
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
    say(as_json, _data(found), "\n".join(_lines(found)))
    if not found.is_well:
        raise typer.Exit(1)


def _data(found: "Verified") -> dict[str, Any]:
    fault = found.fault
    return {
        "records": found.records,
        "unchained": found.unchained,
        "lastSeq": found.last_seq,
        "checkpoints": found.checkpoints,
        "vouchedSeq": found.vouched_seq,
        "fault": None if fault is None else {"seq": fault.seq, "what": fault.what},
        "refusals": refusals_data(found.refusals),
    }


def _lines(found: "Verified") -> Iterator[str]:
    fault = found.fault
    if fault is not None:
        where = f"seq {fault.seq}: " if fault.seq else ""
        yield f"{where}{fault.what}"
    else:
        yield f"{plural(found.records, 'record')}: all is as it was written"
        yield from _proven(found)
    yield from refusals_lines(found.refusals)
    if not found.is_well:
        yield "this is NOT as it was written"


def _proven(found: "Verified") -> Iterator[str]:
    if found.unchained:
        yield f"{found.unchained} of them are from before 0.5.0: nothing proves those"
    if found.checkpoints:
        yield (
            f"{plural(found.checkpoints, 'checkpoint')} compared; the newest proves seq 1 to"
            f" {found.vouched_seq}"
        )
    if found.vouched_seq < found.last_seq:
        yield (
            f"no checkpoint proves seq {found.vouched_seq + 1} to {found.last_seq}: an end that was"
            " cut off, or all of it written anew, would not be seen"
        )
