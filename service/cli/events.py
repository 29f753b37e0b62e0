"""`gpuledger events`: what happened and what happens; `gpuledger asyncapi`: what that can be."""

import json
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, Any, get_args

import msgspec
import typer
from msgspec import Struct

from events.values import Kind
from service.cli.addresses import path_of
from service.cli.failures import CliFailure, Unreachable
from service.cli.serve import PANEL
from service.cli.session import INTERRUPTED_EXIT_CODE, Session, command

AGAIN_S = 2.0
"""A lost connection is made again after so long, until it is there."""

KINDS = (*get_args(Kind), "node")
DETAILS_LENGTH_MAX = 200
_TOLD_BEFORE = {"type", "name", "kind", "operation_id", "fingerprint"}
"""What a line says already, or what is of use to programs only."""


class _Envelope(Struct, frozen=True):
    """An event as it comes, as far as a line needs it."""

    id: str
    type: str
    subject: str
    time: str
    data: dict[str, Any] = {}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    command(app, "events", panel=PANEL)(events)
    app.command("asyncapi", rich_help_panel=PANEL)(asyncapi)


def asyncapi() -> None:
    """Print the AsyncAPI 3 document: every type of event, with its JSON Schema."""
    from events.asyncapi import document

    typer.echo(json.dumps(document(version("gpuledger")), indent=2))


def events(
    session: Session,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what happens, until Ctrl-C")
    ] = False,
    name: Annotated[
        str,
        typer.Option(metavar="NAME", help="Only of this replica set, volume, GPU, webhook…"),
    ] = "",
    kind: Annotated[
        str, typer.Option(metavar="KIND", help=f"Only of this kind: {', '.join(KINDS)}")
    ] = "",
    type_: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="A,B",
            help="Only of this type, or of these, with commas between; 'asyncapi' has them all",
        ),
    ] = "",
    tenant: Annotated[
        str, typer.Option(metavar="NAME", help="Only what tokens of this tenant asked for")
    ] = "",
    after: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="Begin after this event (17.0) or record (17); 0 is the beginning, which is the"
            " default without --follow",
        ),
    ] = "",
) -> None:
    """Show what happened: every event, oldest first. With --json, a line of JSON for each."""
    wanted = {"name": name, "kind": kind, "type": type_, "tenant": tenant}
    query = {key: value for key, value in wanted.items() if value}
    if not follow:
        query["follow"] = "0"
    try:
        if after or not follow:
            query["after"] = after or "0"
        for text in _messages(session, query, follow):
            typer.echo(text if session.as_json else _line(text))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED_EXIT_CODE) from None
    except CliFailure as failure:
        failure.data = None  # every line of the output is an event
        raise


def _messages(session: Session, query: dict[str, str], follow: bool) -> Iterator[str]:
    """The data of the events; with `follow` without an end, whatever becomes of a connection."""
    heard, place = False, None  # what was heard last counts more than `after`
    while True:
        try:
            lines = session.api.listen(path_of("events"), place, query)
            for seen, data in _dispatched(lines):
                heard, place = True, seen
                if data:
                    yield data
            if not follow:
                return
        except Unreachable as error:
            if not (follow and heard):
                raise
            typer.echo(f"{error}; trying again", err=True)
        time.sleep(AGAIN_S)


def _dispatched(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """The place and the data of each message, once it is whole; without data it is only a place."""
    place, data = "", ""
    for line in lines:
        field, _colon, value = line.partition(":")
        if field == "id":
            place = value.removeprefix(" ")
        elif field == "data":
            data = value.removeprefix(" ")
        elif not line and place:
            yield place, data
            data = ""


def _line(text: str) -> str:
    """An event for people."""
    try:
        event = msgspec.json.decode(text, type=_Envelope)
    except msgspec.DecodeError as error:
        raise CliFailure(f"an event cannot be read ({error}); is it another version?") from None
    details = " ".join(
        # As JSON, ASCII only: what comes from a container is kept from acting on the terminal.
        f"{key}={json.dumps(value)}"
        for key, value in event.data.items()
        if key not in _TOLD_BEFORE
    )
    if len(details) > DETAILS_LENGTH_MAX:
        details = f"{details[:DETAILS_LENGTH_MAX]}..."
    moment = event.time[:19].replace("T", " ")
    return f"{moment}Z  {event.id}  {event.subject}  {event.type}  {details}".rstrip()
