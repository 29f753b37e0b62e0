"""The command that says why: explain."""

from collections.abc import Iterator
from typing import Annotated

import typer
from msgspec import Struct

from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import read
from service.cli.replica_sets import PANEL
from service.cli.session import Session, command, replica_set_names

KINDS = {
    "set": "replicaSet",
    "volume": "volume",
    "gpu": "gpu",
    "port": "port",
    "op": "operation",
    "seq": "record",
    "refusal": "refusal",
}
"""What people type for a kind, and the API's word for it."""

_BLANK = " "


class Fact(Struct, frozen=True):
    """Something that is so, and the record that it is so by."""

    text: str
    seq: int | None = None


class Link(Struct, frozen=True, rename="camel"):
    """A record of the chain."""

    seq: int
    time: str
    actor: str
    says: tuple[str, ...]
    decided_from: tuple[Fact, ...] = ()
    outcome: str = ""
    ended_seq: int | None = None
    cause: int | None = None


class Explanation(Struct, frozen=True):
    """GET /explain/{kind}/{what}."""

    seq: int
    answer: tuple[Fact, ...]
    chain: tuple[Link, ...]
    older: bool = False


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    command(app, "explain", panel=PANEL, past=True)(explain)


def explain(
    session: Session,
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|KIND",
            help="A replica set, or a version of it (foo@2); or, with NAME behind it, one of"
            f" {', '.join(KINDS)}",
            autocompletion=replica_set_names,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Which one: a replica set or a version of it, a volume, a GPU by UUID or index,"
            " a host port, an operation's ID, a record's seq, or a refusal's ID (X-Refusal-Id)",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show the whole history, not only what still matters")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", help="Show the newest N records of a history"),
    ] = None,
) -> None:
    """Say why it is so: by which records, who asked for them, and from what they were decided."""
    kind, thing = _asked(what, name)
    query = {"all": "1"} if everything else {}
    if limit is not None:
        query["limit"] = str(limit)
    data = session.api.get(path_of("explain", kind, thing), patient=True, **query)
    session.print(data, _described(read(data, Explanation)))


def _asked(what: str, name: str | None) -> tuple[str, str]:
    """The API's word for the kind, and the name."""
    if name is None and what not in KINDS:
        return "replicaSet", what
    if name is None:
        raise typer.BadParameter(
            f"which {what}? write: explain {what} NAME (a replica set of that name: explain set"
            f" {what})"
        )
    if what not in KINDS:
        raise typer.BadParameter(f"{what!r} is none of {', '.join(KINDS)}")
    return KINDS[what], name


def _described(found: Explanation) -> str:
    """The answer, and the records below it."""
    facts = [("" if fact.seq is None else str(fact.seq), fact.text) for fact in found.answer]
    text = show.table(("RECORD", "ANSWER"), facts)
    rows = [row for link in found.chain for row in _rows(link)]
    if rows:
        text += f"\n{show.table(('RECORD', 'TIME', 'BY', 'WHAT'), rows, whole=('TIME',))}"
    if found.older:
        text += "there are older records about it; --all --limit N shows the newest N\n"
    return text


def _rows(link: Link) -> Iterator[tuple[str, ...]]:
    """A line for each sentence, the first of them with the record."""
    head = (str(link.seq), show.moment(link.time), link.actor)
    for sentence in (*link.says, *_reasons(link)):
        yield (*head, sentence)
        head = (_BLANK, _BLANK, _BLANK)


def _reasons(link: Link) -> Iterator[str]:
    for fact in link.decided_from:
        yield f"<- {_cited(fact)}"
    if link.cause is not None:
        yield f"<- record {link.cause}"
    if link.outcome:
        ended = f", record {link.ended_seq}" if link.ended_seq is not None else ""
        yield f"-> {link.outcome}{ended}"


def _cited(fact: Fact) -> str:
    return fact.text if fact.seq is None else f"{fact.text} (record {fact.seq})"
