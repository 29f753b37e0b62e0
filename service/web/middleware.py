"""Around every request: its id, its span, its time, and the one place where errors are answered.

One middleware and not five: each costs every request a call. Nothing is swallowed: what nobody
foresaw is logged with its traceback and answered 500.
"""

import logging
import re
from http import HTTPStatus
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry.trace import SpanKind, Status, StatusCode

from events.codec import RecordTooLarge
from projections.store import ReadStoreError
from service.access_ports import Role
from service.errors import GpuledgerError
from service.telemetry import REQUEST_ID, checked_traceparent, span_from
from service.web.access import CALLER, NotAdmitted
from service.web.context import CONTEXT, WebContext
from service.web.envelope import PROBLEM, refuse
from service.web.past import as_of
from service.web.problems import BadRequest, Code, Problem, of_error, of_reads_away
from service.web.refused import REFUSAL_ID, note
from service.web.remote import REMOTE

BODY_BYTES_MAX = 1 << 20
"""Of a request's body, unpacked; a record of the ledger is no larger."""

NEEDS = web.AppKey("needs", dict[tuple[str, str], Role | None])
"""The role that a route needs, by its method and pattern."""

STREAMS = web.AppKey("streams", frozenset[str])
"""The patterns of the routes that go on answering for as long as the caller listens."""

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"[!-~]{1,128}")


@web.middleware
async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Serve one request, whatever comes of it."""
    context = request.app[CONTEXT]
    begun = perf_counter()
    request_id = _request_id(request, context)
    resource = request.match_info.route.resource
    # The pattern, never the path: a label for every name would have no end.
    route = resource.canonical if resource is not None else "unknown"
    parent = checked_traceparent(request.headers.get("traceparent", ""))
    token = REQUEST_ID.set(request_id)
    request[REMOTE] = context.access.remotes.of(request)
    try:
        with span_from(parent, f"{request.method} {route}", SpanKind.SERVER) as span:
            response = await _answered(request, route, handler, request_id)
            if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                span.set_status(Status(StatusCode.ERROR, f"HTTP {response.status}"))
    finally:
        REQUEST_ID.reset(token)
    response.headers["X-Request-Id"] = request_id
    problem = response.get(PROBLEM)
    if problem is not None and (noted := note(request, route, problem, request_id)):
        response.headers[REFUSAL_ID] = noted
    method = request.method if resource is not None else "any"
    context.metrics.observe_http(method, route, response.status, perf_counter() - begun)
    return response


async def _answered(
    request: web.Request, route: str, handler: Handler, request_id: str
) -> web.StreamResponse:
    try:
        return await _admitted(request, route, handler)
    except NotAdmitted as error:
        return refuse(error.problem, error.headers)
    except BadRequest as error:
        return refuse(error.problem)
    except (GpuledgerError, RecordTooLarge) as error:
        problem = of_error(error)
        _log.warning("%s %s: %s", request.method, request.path, problem.message)
        return refuse(problem)
    except ReadStoreError as error:
        _log.warning("%s %s: %s", request.method, request.path, error)
        return refuse(of_reads_away())
    except web.HTTPException as error:
        return _of_http(request, error)
    except web.RequestPayloadError as error:
        text = f"the body cannot be read: {error}"
        return refuse(Problem(Code.BAD_REQUEST, HTTPStatus.BAD_REQUEST, text, "bad_request"))
    except ConnectionError:
        # The caller is gone; there is nobody to answer, and aiohttp closes the connection.
        raise
    except Exception:
        _log.exception("%s %s", request.method, request.path)
        text = f"an error that nobody foresaw; the log says more under request id {request_id}"
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return refuse(Problem(Code.SERVER_BUSY, status, text, "internal_error"))


async def _admitted(request: web.Request, route: str, handler: Handler) -> web.StreamResponse:
    """Serve a request if its caller may send it. Raises NotAdmitted."""
    access = request.app[CONTEXT].access
    if (preflight := access.cors.preflight(request)) is not None:
        return preflight
    method = "GET" if request.method == "HEAD" else request.method
    # What is no route is nobody's business but those who may look.
    needed = request.app[NEEDS].get((method, route), "viewer")
    if needed is None:
        return await handler(request)
    request[CALLER] = caller = await access.admit(request, needed)
    if route in request.app[STREAMS]:
        # Whoever listens does not wait for us: how many may is for the feed to say.
        await request.app[CONTEXT].intake.caught_up()
        return await handler(request)
    with access.counted(caller):
        if request.method == "GET" and request.path.startswith("/api/"):
            await request.app[CONTEXT].intake.caught_up()
        return await as_of(request, (method, route), handler)


def _of_http(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """What aiohttp itself refuses, in the envelope."""
    path = request.path[:128]
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{path} takes {allowed}, not {request.method[:16]}"
        problem = Problem(Code.NO_SUCH_ROUTE, error.status, text, "method_not_allowed")
        return refuse(problem, {"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        text = f"there is nothing at {path}; /docs shows what there is"
        return refuse(Problem(Code.NO_SUCH_ROUTE, error.status, text, "route_not_found"))
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        text = f"the body is larger than {BODY_BYTES_MAX} bytes"
        return refuse(Problem(Code.BAD_REQUEST, error.status, text, "too_large", "body"))
    text = error.text or error.reason
    return refuse(Problem(Code.BAD_REQUEST, error.status, text, "bad_request"))


def _request_id(request: web.Request, context: WebContext) -> str:
    """The caller's own id for the request, when it is one, else a new one."""
    given = request.headers.get("X-Request-Id", "")
    return given if _REQUEST_ID.fullmatch(given) else context.ids.new()
