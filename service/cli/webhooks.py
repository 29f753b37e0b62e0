"""Commands for webhooks: who is told of events, what was sent, and what was not taken."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from msgspec import Struct

from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import read
from service.cli.arguments import given
from service.cli.failures import CliFailure
from service.cli.serve import PANEL
from service.cli.session import Session, command, group_options

PING_FAILED_EXIT_CODE = 1

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of a webhook")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="So many at most")]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Of dead letters, as listed; none means all"),
]


class Attempt(Struct, frozen=True, rename="camel"):
    """One request."""

    id: str
    type: str
    attempt: int
    time: str
    duration_ms: float
    status: int | None
    error: str
    outcome: str


class Delivery(Struct, frozen=True, rename="camel"):
    """Where a webhook is."""

    place: str
    behind: int
    pending: int
    dead: int
    next_time: str | None
    last: Attempt | None
    trouble: str


class Webhook(Struct, frozen=True, rename="camel"):
    """GET /webhooks/{name}."""

    name: str
    url: str
    events: dict[str, Any]
    enabled: bool
    disabled_why: str | None
    create_time: str
    created_by: str
    seq: int
    old_secret_until_time: str | None
    delivery: Delivery | None


class Webhooks(Struct, frozen=True):
    """GET /webhooks."""

    webhooks: tuple[Webhook, ...]


class Attempts(Struct, frozen=True):
    """GET /webhooks/{name}/deliveries."""

    deliveries: tuple[Attempt, ...]


class DeadLetter(Struct, frozen=True, rename="camel"):
    """An event that was given up."""

    id: str
    type: str
    attempts: int
    dead_time: str
    error: str


class DeadLetters(Struct, frozen=True, rename="camel"):
    """GET /webhooks/{name}/deadLetters."""

    dead_letters: tuple[DeadLetter, ...]


def register(app: typer.Typer) -> None:
    """Add the group to the app."""
    group = typer.Typer(
        name="webhook", help="Have events sent to an address.", no_args_is_help=True
    )
    group.callback()(group_options)
    command(group, "add")(add)
    command(group, "ls", past=True)(listing)
    command(group, "show", past=True)(details)
    command(group, "ping")(ping)
    command(group, "deliveries")(deliveries)
    command(group, "dead")(dead)
    command(group, "redeliver")(redeliver)
    command(group, "discard")(discard)
    command(group, "rotate")(rotate)
    command(group, "disable")(disable)
    command(group, "enable")(enable)
    command(group, "rm")(remove)
    app.add_typer(group, rich_help_panel=PANEL)


def add(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Where to POST each event; https")],
    kind: Annotated[
        str, typer.Option(help="Only of this kind, such as replica_set, volume or gpu")
    ] = "",
    of: Annotated[
        str, typer.Option("--name", help="Only of this replica set, volume, GPU or node")
    ] = "",
    type_: Annotated[
        str, typer.Option("--type", help="Only of this type, or of these, with commas between")
    ] = "",
    tenant: Annotated[str, typer.Option(help="Only what tokens of this tenant asked for")] = "",
    after: Annotated[
        int | None,
        typer.Option(metavar="SEQ", help="Begin after this record; 0 is all there ever was"),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Also http, where others may read on the way")
    ] = False,
) -> None:
    """Register a webhook, and print its secret: it is shown this once."""
    types = [one for one in type_.split(",") if one]
    chosen = {"kind": kind, "name": of, "tenant": tenant, "types": types}
    events = {key: value for key, value in chosen.items() if value}
    body = given(webhookName=name, url=url, events=events or None, after=after)
    if insecure:
        body["insecure"] = True
    _told_secret(session, path_of("webhooks"), body)


def rotate(session: Session, name: Name) -> None:
    """Make a new secret, and print it: it is shown this once. The old one signs for a day more."""
    _told_secret(session, path_of("webhooks", name, "rotate"), None)


def _told_secret(session: Session, path: str, body: dict[str, Any] | None) -> None:
    """It is in the answer to the request itself only, so that is waited for."""
    answer = session.api.command("POST", path, body, wait=True)
    if answer.accepted or answer.data is None:
        raise CliFailure("what came of it is not known yet; see: gpuledger webhook ls")
    session.print(answer.data, f"{answer.data.get('secret', '')}\n")


def listing(session: Session) -> None:
    """List the webhooks, and how they get on."""
    data = session.api.get(path_of("webhooks"))
    rows = [_row(one) for one in read(data, Webhooks).webhooks]
    headings = ("NAME", "URL", "EVENTS", "PENDING", "DEAD", "STATE")
    session.print(data, show.table(headings, rows) if rows else "no webhooks\n")


def details(session: Session, name: Name) -> None:
    """Show a webhook, and where it is."""
    data = session.api.get(path_of("webhooks", name))
    one = read(data, Webhook)
    pairs = [
        ("name", one.name),
        ("url", one.url),
        ("events", _events(one)),
        ("registered", f"{show.moment(one.create_time)} by {one.created_by} (record {one.seq})"),
        ("state", _state(one)),
    ]
    if one.old_secret_until_time is not None:
        pairs.append(("old secret", f"signs too until {show.moment(one.old_secret_until_time)}"))
    if (at := one.delivery) is not None:
        behind = f", {show.plural(at.behind, 'record')} behind" if at.behind else ""
        pending = f"{at.pending}, next {show.moment(at.next_time)}" if at.next_time else "0"
        last = "-" if at.last is None else f"{_said(at.last)} at {show.moment(at.last.time)}"
        pairs += [
            ("place", f"{at.place}{behind}"),
            ("pending", pending),
            ("dead", str(at.dead)),
            ("last", last),
        ]
    session.print(data, show.details(pairs))


def ping(session: Session, name: Name) -> None:
    """Send a test message now, and say what was answered; exit code 1 when it was not taken."""
    answer = session.api.command("POST", path_of("webhooks", name, "ping"), None, wait=True)
    found = read(answer.data or {}, Attempt)
    session.print(answer.data, f"{show.escaped(_said(found))} in {found.duration_ms:.0f} ms\n")
    if found.outcome != "delivered":
        raise typer.Exit(PING_FAILED_EXIT_CODE)


def deliveries(session: Session, name: Name, limit: Limit = 50) -> None:
    """Show the newest requests to a webhook, newest first."""
    data = session.api.get(path_of("webhooks", name, "deliveries"), limit=str(limit))
    rows = [
        (
            show.moment(one.time),
            one.id,
            one.type,
            str(one.attempt),
            one.outcome,
            f"{one.duration_ms:.0f} ms",
            one.error or str(one.status or ""),
        )
        for one in read(data, Attempts).deliveries
    ]
    headings = ("TIME", "EVENT", "TYPE", "TRY", "OUTCOME", "TOOK", "ANSWER")
    session.print(data, show.table(headings, rows) if rows else "nothing was sent\n")


def dead(session: Session, name: Name, limit: Limit = 100) -> None:
    """List the events that were given up."""
    data = session.api.get(path_of("webhooks", name, "deadLetters"), limit=str(limit))
    rows = [
        (one.id, one.type, show.moment(one.dead_time), str(one.attempts), one.error)
        for one in read(data, DeadLetters).dead_letters
    ]
    headings = ("EVENT", "TYPE", "GIVEN UP", "TRIES", "ANSWER")
    session.print(data, show.table(headings, rows) if rows else "no dead letters\n")


def redeliver(session: Session, name: Name, ids: Ids = None) -> None:
    """Send dead letters again."""
    _of_dead(session, name, "redeliver", ids or [], "will be sent again")


def discard(session: Session, name: Name, ids: Ids = None) -> None:
    """Forget dead letters: they will not be sent."""
    _of_dead(session, name, "discard", ids or [], "will not be sent any more")


def _of_dead(session: Session, name: str, verb: str, ids: list[str], done: str) -> None:
    path = path_of("webhooks", name, "deadLetters", verb)
    data = session.api.command("POST", path, {"ids": ids}, wait=True).data or {}
    session.print(data, f"{show.plural(int(data.get('count', 0)), 'dead letter')} {done}\n")


def disable(
    session: Session,
    name: Name,
    why: Annotated[str, typer.Option("--why", help="Why, for people")] = "by hand",
) -> None:
    """Send nothing until it is enabled; it goes on from where it was."""
    path = path_of("webhooks", name, "disable")
    session.change("POST", path, {"why": why}, done=lambda _: f"{name} is disabled")


def enable(session: Session, name: Name) -> None:
    """Go on sending, from where it was."""
    path = path_of("webhooks", name, "enable")
    session.change("POST", path, done=lambda _: f"{name} is enabled")


def remove(session: Session, name: Name) -> None:
    """Remove a webhook, with what is still to be sent."""
    path = path_of("webhooks", name)
    session.change("DELETE", path, done=lambda _: f"{name} is removed")


def _row(one: Webhook) -> Sequence[str]:
    at = one.delivery
    counts = ("", "") if at is None else (str(at.pending), str(at.dead))
    return one.name, one.url, _events(one), *counts, _state(one)


def _state(one: Webhook) -> str:
    if not one.enabled:
        return f"disabled: {one.disabled_why}"
    return one.delivery.trouble if one.delivery is not None and one.delivery.trouble else "well"


def _events(one: Webhook) -> str:
    """Which it wants, for people."""
    chosen = {**one.events, "types": ",".join(one.events.get("types", ()))}
    return " ".join(f"{key}={value}" for key, value in chosen.items() if value) or "all"


def _said(one: Attempt) -> str:
    return one.error or f"{one.outcome}, HTTP {one.status}"
