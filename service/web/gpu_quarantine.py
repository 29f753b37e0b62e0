"""Routes that put a GPU in quarantine, and take it out again."""

import re
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from service.domain.commands import QuarantineGpu, RestoreGpu
from service.web import schemas_checks as check
from service.web.problems import Action, Code
from service.web.routes import API, Route
from service.web.submission import submit

_ONE = f"{API}/resources/gpus/{{uuid}}/quarantine"
_TAG = "Resources"
_QUARANTINE: Action = ("gpu", "quarantine")
_RESTORE: Action = ("gpu", "restore")

WHY_LENGTH_MAX = 200

_UUID = re.compile(r"[A-Za-z0-9-]{1,128}")


class QuarantineBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Do not lend a GPU."""

    why: Annotated[
        str,
        Meta(
            description="For people.",
            examples=["fan noise"],
            extra_json_schema={"minLength": 1, "maxLength": WHY_LENGTH_MAX},
        ),
    ]


_body = msgspec.json.Decoder(QuarantineBody)


async def _quarantine(request: web.Request) -> web.Response:
    uuid = _uuid(request)
    asked = check.decode(_body, await request.read())
    why = asked.why.strip()
    if not why or len(why) > WHY_LENGTH_MAX or not why.isprintable():
        raise check.bad("why", f"must be a line of text, 1 to {WHY_LENGTH_MAX} characters")
    return await submit(request, _QUARANTINE, QuarantineGpu(uuid, why), {"why": why})


async def _restore(request: web.Request) -> web.Response:
    return await submit(request, _RESTORE, RestoreGpu(_uuid(request)), {})


def _uuid(request: web.Request) -> str:
    uuid = request.match_info["uuid"]
    if not _UUID.fullmatch(uuid):
        raise check.bad("uuid", f"is {check.shown(uuid)}, which is no UUID of a GPU")
    return uuid


ROUTES = (
    Route(
        *("POST", _ONE, _quarantine, "Do not lend a GPU; whoever has it keeps it", _TAG),
        body=QuarantineBody,
        action=_QUARANTINE,
        codes=(Code.BAD_REQUEST,),
        role="admin",
    ),
    Route(
        *("DELETE", _ONE, _restore, "Lend a GPU again", _TAG),
        action=_RESTORE,
        codes=(Code.BAD_REQUEST,),
        role="admin",
    ),
)
