"""`gpuledger audit`: who did what, and what proves it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import read
from service.cli.audit_export import export
from service.cli.audit_pages import OWN, page_through, query_of
from service.cli.audit_verify import verify
from service.cli.failures import CliFailure
from service.cli.serve import PANEL
from service.cli.session import Session, command, group_options

From = Annotated[
    str,
    typer.Option(
        "--from", metavar="POINT", help="From a seq, an instant (RFC 3339) or a day (UTC) on"
    ),
]
To = Annotated[str, typer.Option("--to", metavar="POINT", help="Up to a seq or an instant")]


class Refusal(Struct, frozen=True, rename="camel"):
    """What is known of a refusal beside what every row has."""

    id: str
    code: int
    method: str
    route: str
    token: str = ""


class Row(Struct, frozen=True, rename="camel"):
    """A row of GET /audit."""

    time: str
    seq: int
    actor: str
    remote: str
    kind: str
    name: str
    verb: str
    result: str
    times: int
    finished_time: str | None
    reason: str
    message: str
    refusal: Refusal | None


class Rows(Struct, frozen=True):
    """Those of all pages."""

    rows: tuple[Row, ...]


class Key(Struct, frozen=True):
    """GET /audit/key."""

    key: str
    pem: str


def register(app: typer.Typer) -> None:
    """Add the group to the app."""
    group = typer.Typer(
        name="audit", help="Who did what, the refused included; and what proves it.",
        no_args_is_help=True,
    )
    group.callback()(group_options)
    command(group, "ls")(listing)
    command(group, "checkpoint")(checkpoint)
    command(group, "key")(public_key)
    command(group, "export")(export)
    group.command("verify")(verify)
    app.add_typer(group, rich_help_panel=PANEL)


def listing(
    session: Session,
    begin: From = "",
    end: To = "",
    actor: Annotated[
        str, typer.Option(metavar="NAME", help="Only what this token asked for")
    ] = "",
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Only of this tenant")] = "",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Only about this replica set, volume, GPU…")
    ] = "",
    verb: Annotated[
        str, typer.Option(metavar="VERB", help="Only of this verb, such as run")
    ] = "",
    result: Annotated[
        str,
        typer.Option(
            metavar="RESULT", help="Only of accepted (it goes on), succeeded, failed or refused"
        ),
    ] = "",
    own: OWN = False,
    limit: Annotated[int, typer.Option(metavar="N", help="How many at most", min=1)] = 100,
) -> None:
    """List who did what, newest first: every command of a caller, and every refusal."""
    query = query_of(
        **{"from": begin, "to": end, "all": "1" if own else ""},
        actor=actor,
        tenant=tenant,
        name=name,
        verb=verb,
        result=result,
    )
    rows: list[dict[str, Any]] = []
    for page in page_through(session, query, limit):
        rows.extend(page[: limit - len(rows)])
        if len(rows) == limit:
            break
    data = {"rows": rows}
    session.print(data, _table(read(data, Rows)) if rows else "nothing\n")


def _table(found: Rows) -> str:
    """With a column of ids where something was refused: `explain refusal` takes them."""
    headings = ["TIME", "SEQ", "WHO", "FROM", "WHAT", "RESULT", "WHY"]
    lines = [list(line) for line in _lines(found)]
    if any(row.refusal is not None for row in found.rows):
        headings.insert(-1, "REFUSAL")
        for line, row in zip(lines, found.rows, strict=True):
            line.insert(-1, row.refusal.id if row.refusal is not None else "")
    return show.explained_table(headings, lines)


def _lines(found: Rows) -> Iterator[tuple[str, ...]]:
    for row in found.rows:
        kind = "" if row.kind == "replica_set" else row.kind
        what = " ".join(filter(None, (row.verb, kind, row.name)))
        who = row.actor
        if row.refusal is not None:
            what = what or f"{row.refusal.method} {row.refusal.route}"
            who = who or (f"token {row.refusal.token}…" if row.refusal.token else "")
        # What was refused has no record: its seq is that of the last one there was by then.
        seq = "" if row.refusal is not None else str(row.seq)
        result = row.result if row.times == 1 else f"{row.result} x{row.times}"
        if took := show.lasted(row.time, row.finished_time or ""):
            result = f"{result} after {took}"
        why = row.message
        if row.refusal is not None:
            why = f"{why} (code {row.refusal.code})"
        yield show.moment(row.time), seq, who, row.remote, what, result, why


def checkpoint(
    session: Session,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Add it to this file, as a line")
    ] = None,
    seq: Annotated[int | None, typer.Option(help="Up to this record; else to the end")] = None,
) -> None:
    """Sign what the log holds; kept elsewhere, it proves that nobody changed the log since."""
    query = {} if seq is None else {"seq": str(seq)}
    data = session.api.get(path_of("audit", "checkpoint"), patient=True, **query)
    line = json.dumps(data, separators=(",", ":"), ensure_ascii=False) + "\n"
    if out is None:
        typer.echo(line, nl=False)
        return
    try:
        with out.open("a") as file:
            file.write(line)
    except OSError as error:
        raise CliFailure(f"{out} cannot be written ({error.strerror})") from None
    session.print(data, f"seq {data['seq']} is in {out}\n")


def public_key(session: Session) -> None:
    """Show the public key that checkpoints are signed with; keep it where you keep those."""
    data = session.api.get(path_of("audit", "key"))
    session.print(data, read(data, Key).pem)
