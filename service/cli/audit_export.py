"""`gpuledger audit export`: the rows as a file, with the checkpoint that proves them."""

import csv
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from service.cli.addresses import path_of
from service.cli.audit_pages import page_through, query_of
from service.cli.failures import CliFailure
from service.cli.session import Session
from service.cli.show import plural

FORMAT = 1
_PRIVATE = 0o600

COLUMNS = (
    *("time", "seq", "actor", "tenant", "remote", "kind", "name", "verb", "result", "times"),
    *("finishedTime", "finishedSeq", "operationId", "reason", "message"),
    *("refusalId", "code", "status", "method", "route", "requestId", "token"),
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell must not begin with: spreadsheets would take it for a formula."""


def export(
    session: Session,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write")],
    begin: Annotated[
        str, typer.Option("--from", metavar="POINT", help="From a seq or an instant on")
    ] = "",
    end: Annotated[
        str, typer.Option("--to", metavar="POINT", help="Up to a seq or an instant")
    ] = "",
    form: Annotated[str, typer.Option("--format", help="jsonl or csv")] = "jsonl",
    records: Annotated[
        bool,
        typer.Option(
            "--records",
            help="With the records and refusals, which prove the rows: secrets included",
        ),
    ] = False,
) -> None:
    """Write the audit to a file, oldest first; 'audit verify --export' checks one with records."""
    if form not in ("jsonl", "csv"):
        raise typer.BadParameter(f"{form!r}; allowed: jsonl, csv", param_hint="--format")
    if records and form == "csv":
        raise typer.BadParameter("records go into jsonl only", param_hint="--records")
    query = query_of(**{"from": begin, "to": end})
    bounds = session.api.get(path_of("audit"), patient=True, **{**query, "limit": "1"})
    first, last = bounds["first"], bounds["last"]
    query["to"] = query.get("to") or str(last)
    rows = [row for page in page_through(session, query) for row in page][::-1]
    proof = session.api.get(path_of("audit", "checkpoint"), patient=True, seq=str(last))
    try:
        with open(out, "w", newline="", opener=_private) as file:
            if form == "csv":
                _write_csv(file, rows)
                beside = out.with_name(f"{out.name}.checkpoint.json")
                beside.write_text(_json(proof) + "\n")
            else:
                about = {"format": FORMAT, "first": first, "last": last, "records": records}
                asked = {"from": begin, "to": end}
                _write_lines(file, "export", [{**about, **query_of(**asked)}])
                _write_lines(file, "row", rows)
                if records:
                    _write_lines(file, "record", _records(session, first, last))
                    proof = _write_refusals(session, file, rows, last)
                _write_lines(file, "checkpoint", [proof])
    except OSError as error:
        raise CliFailure(f"{out} cannot be written ({error.strerror})") from None
    data = {"rows": len(rows), "first": first, "last": last, "file": str(out)}
    session.print(data, f"{plural(len(rows), 'row')}, seq {first} to {last}, in {out}\n")


def _records(session: Session, first: int, last: int) -> Iterator[dict[str, Any]]:
    after: int | None = first - 1
    while after is not None and after < last:
        query = {"after": str(after), "until": str(last)}
        data = session.api.get(path_of("audit", "records"), patient=True, **query)
        yield from data["records"]
        after = data["next"]


def _write_refusals(
    session: Session, file: TextIO, rows: list[dict[str, Any]], last: int
) -> dict[str, Any]:
    """All from the first that has a row to the last; the checkpoint that proves just these."""
    numbers = [row["number"] for row in rows if row["number"] is not None]
    begin, end = min(numbers, default=1), max(numbers, default=0)
    after: int | None = begin - 1
    while after is not None and after < end:
        query = {"after": str(after), "until": str(end)}
        data = session.api.get(path_of("audit", "refusals"), patient=True, **query)
        _write_lines(file, "refusal", data["refusals"])
        after = data["next"]
    # Signed last: what the log forgets meanwhile is in the file, and not missed.
    query = {"seq": str(last), "firstRefusal": str(begin), "lastRefusal": str(end)}
    return session.api.get(path_of("audit", "checkpoint"), patient=True, **query)


def _write_lines(file: TextIO, what: str, values: Any) -> None:
    for value in values:
        file.write(_json({what: value}) + "\n")


def _write_csv(file: TextIO, rows: list[dict[str, Any]]) -> None:
    table = csv.writer(file)
    table.writerow(COLUMNS)
    for row in rows:
        refusal = row["refusal"] or {}
        known = {**row, **refusal, "refusalId": refusal.get("id")}
        table.writerow([_cell(known.get(column)) for column in COLUMNS])


def _cell(value: object) -> str:
    """A value as a cell that is nothing but text."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _private(path: str, flags: int) -> int:
    """For its owner only, also where there was a file before: who did what is not for everybody,
    and records hold secrets."""
    descriptor = os.open(path, flags, _PRIVATE)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # not /dev/stdout
        os.fchmod(descriptor, _PRIVATE)
    return descriptor
