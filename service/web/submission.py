"""A command on its way in and its outcome on the way out: the same for every route that changes.

By default a request waits for the outcome, as the predecessor's clients expect. With
`Prefer: respond-async` it is answered 202 as soon as the command is stored.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web
from msgspec import Struct

from projections.state import Operation
from service.application.intake import Accepted, Caller
from service.domain.commands import Request
from service.domain.rejections import Rejected
from service.telemetry import REQUEST_ID, checked_traceparent, current_traceparent
from service.web.access import GRANT
from service.web.context import CONTEXT, WebContext
from service.web.envelope import answer, refuse
from service.web.problems import Action, BadRequest, Code, of_failure, of_rejection
from service.web.refused import ASKED, note_unheard
from service.web.remote import REMOTE
from service.web.schemas_responses import AcceptedData

IDEMPOTENCY_KEY_LENGTH_MAX = 255

Outcome = tuple[Any, str]
"""`data` and `msg` of a success."""

_KEY = re.compile(rf"[!-~]{{1,{IDEMPOTENCY_KEY_LENGTH_MAX}}}")
_WAIT = re.compile(r"wait\s*=\s*(\d{1,6})")


class Preference(Struct, frozen=True):
    """How long the caller wants to wait, and which of its wishes we follow."""

    wait_s: float
    applied: str = ""


def preference(header: str | None, wait_timeout_s: float) -> Preference:
    """The meaning of a Prefer header (RFC 7240): respond-async, wait=N, or both."""
    if not header:
        return Preference(wait_timeout_s)
    if header == "respond-async":
        return Preference(0, "respond-async")
    wishes = [wish.strip() for wish in header.lower().split(",")]
    waits = [match for wish in wishes if (match := _WAIT.fullmatch(wish))]
    applied = [wish for wish in wishes if wish == "respond-async"][:1]
    wait_s = 0.0 if applied else wait_timeout_s
    if waits:
        wait_s = min(float(waits[0][1]), wait_timeout_s)
        applied.append(f"wait={waits[0][1]}")
    return Preference(wait_s, ", ".join(applied))


def _caller(request: web.Request) -> Caller:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise BadRequest(
            Code.BAD_REQUEST,
            f"Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} visible ASCII characters",
            "Idempotency-Key",
        )
    # While spans are off, the caller's own trace context still goes into the record.
    traceparent = current_traceparent() or checked_traceparent(
        request.headers.get("traceparent", "")
    )
    grant = request[GRANT]
    return Caller(
        actor=grant.actor,
        tenant=grant.tenant,
        remote=request[REMOTE],
        idempotency_key=key or "",
        traceparent=traceparent,
        command_id=request.app[CONTEXT].ids.new(),
    )


def outcome_as_recorded(context: WebContext, operation: Operation) -> Outcome:
    """The result in the contract's words, as the operation has it; null where there is none."""
    return operation.result or None, "success"


async def submit(
    request: web.Request,
    action: Action,
    command: Request,
    body: Mapping[str, Any],
    outcome: Callable[[WebContext, Operation], Outcome] = outcome_as_recorded,
) -> web.Response:
    """Hand a command in, wait as long as the caller wants, and answer."""
    context = request.app[CONTEXT]
    wish = preference(request.headers.get("Prefer"), context.wait_timeout_s)
    caller = _caller(request)
    request[ASKED] = command.name, caller.operation_id
    # Shielded: a caller that goes away ends its waiting, never a command halfway in.
    deciding = asyncio.ensure_future(context.intake.submit(command, body, caller))
    try:
        decided = await asyncio.shield(deciding)
    except asyncio.CancelledError:
        deciding.add_done_callback(partial(note_unheard, request, action, REQUEST_ID.get()))
        raise
    if isinstance(decided, Rejected):
        return refuse(of_rejection(action, decided))
    headers = {"Preference-Applied": wish.applied} if wish.applied else None
    ended: Operation | None = None
    if wish.wait_s > 0:
        ended = await context.intake.wait(decided.operation_id, wish.wait_s)
    if ended is None:
        return _accepted(decided, headers)
    if ended.state == "failed":
        return refuse(of_failure(ended), headers)
    data, message = outcome(context, ended)
    return answer(data, message=message, headers=headers)


def _accepted(decided: Accepted, headers: Mapping[str, str] | None) -> web.Response:
    where = f"/api/v1/operations/{decided.operation_id}"
    return answer(
        AcceptedData(decided.operation_id, decided.seq),
        HTTPStatus.ACCEPTED,
        f"accepted; it goes on, ask {where} for the outcome",
        {"Location": where, **(headers or {})},
    )
