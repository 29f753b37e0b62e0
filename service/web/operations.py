"""Routes of operations: what callers asked for, how far it is, and how it went."""

from typing import Any

from aiohttp import web
from msgspec import UNSET, UnsetType

from events.codec import show_time
from projections.state import Operation
from service.web import schemas_checks as check
from service.web import schemas_responses as responses
from service.web.context import CONTEXT
from service.web.envelope import answer, refuse
from service.web.event_secrets import marked_in
from service.web.problems import Code, code_of_failure, not_found
from service.web.routes import API, NAME_PATTERN, Query, Route, number_in
from service.web.secrets import hidden_request, shows_secrets

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
SEQ_MAX = (1 << 63) - 1

_TAG = "Operations"
_ID_LENGTH_MAX = 128


async def _one(request: web.Request) -> web.Response:
    operation_id = request.match_info["id"]
    found = None
    if len(operation_id) <= _ID_LENGTH_MAX:
        found = await request.app[CONTEXT].reads.operation(operation_id)
    if found is None:
        text = f"there is no operation {check.shown(operation_id)}"
        return refuse(not_found(Code.OPERATION_NOT_FOUND, text, "operation_not_found"))
    return answer(data_of(found, await _request_of(found, request)))


async def _request_of(operation: Operation, request: web.Request) -> dict[str, Any]:
    """What was asked for, with secrets only for those who may see them."""
    if shows_secrets(request):
        return operation.request
    context = request.app[CONTEXT]
    revisions = await context.reads.revisions(operation.name)
    marked = {key for revision in revisions for key in revision.spec.secret_env}
    return hidden_request(operation.request, marked | marked_in(context.feed.state, operation.name))


async def _list(request: web.Request) -> web.Response:
    limit = number_in(request, "limit", PAGE_DEFAULT, 1, PAGE_MAX)
    before = number_in(request, "before", SEQ_MAX, 1, SEQ_MAX)
    name = request.query.get("name")
    if name is not None:
        check.name(name, "name")
    # One more than asked for tells whether anything follows.
    found = await request.app[CONTEXT].reads.operations(limit + 1, before, name)
    page = found[:limit]
    following = page[-1].seq if len(found) > limit else None
    return answer(responses.OperationsData([data_of(one) for one in page], following))


def data_of(
    operation: Operation, request: dict[str, Any] | UnsetType = UNSET
) -> responses.OperationData:
    """An operation as callers see it, with as much of the request as they may see."""
    failed = operation.state == "failed"
    code = None
    if failed:
        code, _ = code_of_failure((operation.kind, operation.verb), operation.reason)
    elif operation.state == "succeeded":
        code = Code.SUCCESS
    finished_us = operation.finished_us
    return responses.OperationData(
        id=operation.id,
        seq=operation.seq,
        verb=operation.verb,
        kind=operation.kind,
        name=operation.name,
        state=operation.state,
        actor=operation.actor,
        accepted_time=show_time(operation.accepted_us),
        finished_time=None if finished_us is None else show_time(finished_us),
        steps=[responses.StepData(show_time(s.at_us), s.text) for s in operation.steps],
        progress=_progress(operation),
        result=operation.result or None,
        code=code,
        reason=operation.reason if failed else None,
        message=operation.message if failed else None,
        request=request,
    )


def _progress(operation: Operation) -> responses.ProgressData | None:
    if operation.state != "running" or not operation.progress_step:
        return None
    return responses.ProgressData(
        step=operation.progress_step,
        done_bytes=operation.progress_done_bytes,
        total_bytes=operation.progress_total_bytes,
        message=operation.message,
    )


ROUTES = (
    Route(
        *("GET", f"{API}/operations", _list, "List operations, newest first", _TAG),
        data=responses.OperationsData,
        queries=(
            Query(
                "limit", f"How many at most, up to {PAGE_MAX}.", "integer", least=1, most=PAGE_MAX
            ),
            Query(
                "before",
                "Only those before this seq: `next` of the page before.",
                "integer",
                least=1,
                most=SEQ_MAX,
            ),
            Query("name", "Only those of this replica set or volume.", pattern=NAME_PATTERN),
        ),
        codes=(Code.BAD_REQUEST,),
    ),
    Route(
        *("GET", f"{API}/operations/{{id}}", _one, "Show an operation", _TAG),
        data=responses.OperationData,
        codes=(Code.OPERATION_NOT_FOUND,),
    ),
)
