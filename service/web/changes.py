"""Route of changes: what is other at one point of the ledger than at another."""

from collections.abc import Iterable
from typing import Literal

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from service.application.past import POINT_PATTERN
from service.domain.between import ThingChange
from service.domain.changes import SpecChange
from service.web import schemas_checks as check
from service.web.context import CONTEXT
from service.web.envelope import answer
from service.web.event_secrets import marked_in
from service.web.past import point_in
from service.web.problems import Code
from service.web.routes import API, Query, Route
from service.web.secrets import hidden_changes, shows_secrets


class ThingChangeData(Struct, frozen=True):
    """A GPU (by UUID), host port, replica set or volume that differs."""

    name: str
    how: Literal["added", "removed", "changed"]
    changes: list[SpecChange]


class ChangesData(
    Struct, frozen=True, rename={"old": "from", "new": "to", "replica_sets": "replicaSets"}
):
    """What is other at the record `to` than at the record `from`."""

    old: int
    new: int
    gpus: list[ThingChangeData]
    ports: list[ThingChangeData]
    replica_sets: list[ThingChangeData]
    volumes: list[ThingChangeData]


async def _changes(request: web.Request) -> web.Response:
    if "from" not in request.query:
        raise check.bad("from", "is missing; give the point to compare with")
    past = request.app[CONTEXT].past
    old = await point_in(request, "from")
    new = await point_in(request, "to") if "to" in request.query else past.last_seq
    found = await past.changes(old, new)
    sets = found.replica_sets
    if not shows_secrets(request):
        now = request.app[CONTEXT].feed.state
        sets = tuple(_hidden(thing, marked_in(now, thing.name)) for thing in sets)
    return answer(
        ChangesData(
            old,
            new,
            gpus=_rows(found.gpus),
            ports=_rows(found.ports),
            replica_sets=_rows(sets),
            volumes=_rows(found.volumes),
        )
    )


def _hidden(thing: ThingChange, marked: set[str]) -> ThingChange:
    """A change of a replica set without the values of its environment that are secret."""
    changes = hidden_changes(thing.changes, marked.union(thing.secret_env))
    return replace(thing, changes=tuple(changes))


def _rows(things: Iterable[ThingChange]) -> list[ThingChangeData]:
    return [ThingChangeData(thing.name, thing.how, list(thing.changes)) for thing in things]


ROUTES = (
    Route(
        *("GET", f"{API}/changes", _changes, "Show what changed between two points", "Ledger"),
        data=ChangesData,
        queries=(
            Query(
                "from",
                "The earlier point: a seq, or an instant (RFC 3339).",
                needed=True,
                pattern=POINT_PATTERN,
            ),
            Query("to", "The later one; without it now.", pattern=POINT_PATTERN),
        ),
        codes=(Code.BAD_REQUEST,),
        now="it names its points itself, as from and to",
    ),
)
