"""`?at=` on reads: the one place that chooses what a request reads. Handlers do not know.

An answer about the past has `X-Ledger-Seq`, the record that it is as of. What looks at the host
has no past, nor has a command: there `at` is refused.
"""

from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from service.application.past import POINT_PATTERN
from service.errors import NoSuchPoint
from service.web.context import CHOSEN, CONTEXT
from service.web.problems import BadRequest, Code
from service.web.routes import API, Query, Route, check_queries

LEDGER_SEQ = "X-Ledger-Seq"

AT = Query(
    "at",
    "As it was then: a seq, an instant (RFC 3339), or a day, which is its begin in UTC. An"
    " instant is the last record of the greatest prefix of the ledger whose records are all at or"
    " before it.",
    pattern=POINT_PATTERN,
)

BY_PATTERN = web.AppKey("by_pattern", Mapping[tuple[str, str], Route])
"""The routes by their method and pattern."""


async def as_of(
    request: web.Request, pattern: tuple[str, str], handler: Handler
) -> web.StreamResponse:
    """Serve a request on the past that it asks for, or on the present. Raises BadRequest."""
    route = request.app[BY_PATTERN].get(pattern)
    if route is None or not route.path.startswith(API):
        return await handler(request)
    if "at" not in request.query:
        check_queries(request, route.parameters)
        return await handler(request)
    if not route.has_past:
        why = route.now or "a command is done now"
        raise BadRequest(Code.BAD_REQUEST, f"at is not for this: {why}", "at")
    check_queries(request, route.parameters)
    seq = await point_in(request, "at")
    token = CHOSEN.set(await request.app[CONTEXT].past.reads_at(seq))
    try:
        response = await handler(request)
    finally:
        CHOSEN.reset(token)
    response.headers[LEDGER_SEQ] = str(seq)
    return response


async def point_in(request: web.Request, field: str) -> int:
    """The sequence that a parameter means. Raises BadRequest that names the parameter."""
    try:
        return await request.app[CONTEXT].past.point(request.query[field])
    except NoSuchPoint as error:
        raise BadRequest(Code.BAD_REQUEST, f"{field} {error}", field) from error
