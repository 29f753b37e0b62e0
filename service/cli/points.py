"""`gpuledger diff A B` of two points of the ledger: what changed between them."""

import re
from collections.abc import Iterator

from msgspec import Struct

from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import SpecChange, read
from service.cli.session import Session

_POINT = re.compile(r"[0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].*)?")


class Thing(Struct, frozen=True):
    """A GPU, host port, replica set or volume that differs."""

    name: str
    how: str
    changes: tuple[SpecChange, ...]


class Changes(Struct, frozen=True, rename={"old": "from", "new": "to", "sets": "replicaSets"}):
    """GET /changes."""

    old: int
    new: int
    gpus: tuple[Thing, ...]
    ports: tuple[Thing, ...]
    sets: tuple[Thing, ...]
    volumes: tuple[Thing, ...]


def is_point(text: str) -> bool:
    """Is it a point of the ledger, a seq, an instant or a day? What names a version has an @."""
    return _POINT.fullmatch(text) is not None


def show_changes(session: Session, old: str, new: str | None) -> None:
    """Print what is other at one point than at another; without the second, now."""
    query = {"from": old}
    if new is not None:
        query["to"] = new
    data = session.api.get(path_of("changes"), patient=True, **query)
    found = read(data, Changes)
    rows = [
        row
        for what, things in (
            ("replica set", found.sets),
            ("volume", found.volumes),
            ("GPU", found.gpus),
            ("port", found.ports),
        )
        for thing in things
        for row in _rows(what, thing)
    ]
    text = show.table(("WHAT", "NAME", "", "FIELD", "BEFORE", "AFTER"), rows)
    same = f"nothing differs between {found.old} and {found.new}\n"
    session.print(data, text if rows else same)


def _rows(what: str, thing: Thing) -> Iterator[tuple[str, ...]]:
    """A line for each field, the first of them with the name."""
    head = (what, thing.name, thing.how)
    for change in thing.changes:
        yield (*head, change.field, change.old, change.new)
        head = (" ", " ", " ")
