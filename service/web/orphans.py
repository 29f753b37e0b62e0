"""Routes of orphans: what is there in our name and in no record, and how to be rid of it."""

import re

from aiohttp import web
from msgspec import Struct

from events.codec import show_time
from events.values import OrphanKind
from service.domain.orphan_commands import RemoveOrphan
from service.web import schemas_checks as check
from service.web.context import CONTEXT
from service.web.envelope import answer
from service.web.problems import Action, Code
from service.web.routes import API, Route
from service.web.submission import submit

_TAG = "Orphans"
_REMOVE: Action = ("orphan", "remove")

_ID = re.compile(r"[a-z_]+-[A-Za-z0-9_.-]{1,255}")


class OrphanData(Struct, frozen=True, rename="camel"):
    """Something that a label or its place says is ours, and that no record accounts for."""

    id: str
    kind: OrphanKind
    name: str
    """The engine's name of it, or the disk's."""
    why: str
    """Why it is an orphan, for people."""
    size_bytes: int | None
    """What it takes, where that is cheap to know."""
    since_time: str
    """Since when the running service has seen it without a break."""
    removal_time: str | None
    """From when on the service removes it by itself; null for never."""


class UnseenData(Struct, frozen=True):
    """A kind that could not be looked at."""

    kind: OrphanKind
    why: str


class OrphansData(Struct, frozen=True):
    """All orphans that were seen, those that use others first."""

    orphans: list[OrphanData]
    unseen: list[UnseenData]


class RemovedData(Struct, frozen=True):
    """What was removed."""

    kind: OrphanKind
    name: str


async def _list(request: web.Request) -> web.Response:
    found = await request.app[CONTEXT].orphans()
    orphans = [
        OrphanData(
            id=orphan.thing.id,
            kind=orphan.thing.kind,
            name=orphan.thing.name,
            why=orphan.why,
            size_bytes=orphan.thing.size_bytes,
            since_time=show_time(orphan.since_us),
            removal_time=show_time(orphan.due_us) if orphan.due_us else None,
        )
        for orphan in found.orphans
    ]
    unseen = [UnseenData(kind, why) for kind, why in found.unseen.items()]
    return answer(OrphansData(orphans, unseen))


async def _remove(request: web.Request) -> web.Response:
    orphan_id = request.match_info["id"]
    if not _ID.fullmatch(orphan_id):
        raise check.bad("id", f"is {check.shown(orphan_id)}, which is no id of an orphan")
    return await submit(request, _REMOVE, RemoveOrphan(orphan_id), {})


ROUTES = (
    Route(
        *("GET", f"{API}/orphans", _list, "List what is ours and in no record", _TAG),
        data=OrphansData,
        now="it is what is on the host now",
    ),
    Route(
        *("DELETE", f"{API}/orphans/{{id}}", _remove, "Remove an orphan now", _TAG),
        data=RemovedData,
        action=_REMOVE,
        codes=(Code.BAD_REQUEST,),
        role="admin",
    ),
)
