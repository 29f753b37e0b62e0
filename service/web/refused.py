"""Requests that are refused, as the audit keeps them: all that would change something, and every
caller that is not let in. Never a token, and never a body."""

import asyncio
import hashlib
import re
from http import HTTPStatus

from aiohttp import web

from events.codec import RecordTooLarge
from service.application.intake import Accepted
from service.audit_ports import Refusal
from service.domain.rejections import Rejected
from service.errors import GpuledgerError
from service.web.access import GRANT
from service.web.context import CONTEXT
from service.web.past import BY_PATTERN
from service.web.problems import Action, Problem, of_error, of_rejection
from service.web.remote import REMOTE

REFUSAL_ID = "X-Refusal-Id"

ASKED = web.RequestKey("asked", tuple[str, str])
"""The name that a command is about, and the id that it would get; once it can be read."""

TEXT_MAX = 500
NAME_MAX = 128

_READS = ("GET", "HEAD", "OPTIONS")
_NOT_LET_IN = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_OF_BODIES = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_OUR_TOKEN = re.compile(r"[Bb]earer +(gpuledger_[A-Za-z0-9_-]{43}) *")
_NAMES = ("name", "id", "uuid", "month")
"""What paths call the thing that they are about."""


def note(request: web.Request, route: str, problem: Problem, request_id: str) -> str:
    """Note a refusal that the audit keeps; its id, or "" where it keeps none."""
    method = request.method[:16]
    if problem.operation_id or (method in _READS and problem.status not in _NOT_LET_IN):
        return ""  # an operation that failed was accepted: the ledger has it
    context = request.app[CONTEXT]
    grant = request.get(GRANT)
    found = request.app[BY_PATTERN].get((method, route))
    kind, verb = (found.action if found is not None else None) or ("", "")
    name, operation_id = request.get(ASKED) or (_name_in(request), "")
    return context.refusals.note(
        Refusal(
            id=context.ids.new(),
            at_us=context.now_us(),
            seq=0,
            code=problem.code,
            status=problem.status,
            reason=problem.reason,
            message=_message(problem),
            method=method,
            route=route,
            kind=kind,
            name=_plain(name, NAME_MAX),
            verb=verb,
            actor=grant.actor if grant is not None else "",
            tenant=grant.tenant if grant is not None else "",
            token="" if grant is not None else _hint(request),
            remote=request[REMOTE],
            request_id=request_id,
            operation_id=operation_id,
        )
    )


def note_unheard(
    request: web.Request,
    action: Action,
    request_id: str,
    deciding: "asyncio.Future[Accepted | Rejected]",
) -> None:
    """Note what became of a command whose caller had gone away by then, if it was refused."""
    if deciding.cancelled():
        return
    error = deciding.exception()
    if isinstance(error, GpuledgerError | RecordTooLarge):
        problem = of_error(error)
    elif error is None and isinstance(decided := deciding.result(), Rejected):
        problem = of_rejection(action, decided)
    else:
        return
    resource = request.match_info.route.resource
    note(request, resource.canonical if resource else "unknown", problem, request_id)


def _message(problem: Problem) -> str:
    """What was answered; of a body that cannot be read only which field, as it may be quoted."""
    if problem.status in _OF_BODIES:
        text = f"{problem.field or 'the request'}: {problem.code.meaning}"
    else:
        text = problem.message
    return _plain(text, TEXT_MAX)


def _plain(text: str, most: int) -> str:
    """Cut off, and with nothing in it that would act on the terminal of who reads it, or that is
    no text at all: a path may hold any bytes."""
    return "".join(char if char.isprintable() else "?" for char in text[:most])


def _name_in(request: web.Request) -> str:
    found = request.match_info
    return next((found[key] for key in _NAMES if key in found), "")


def _hint(request: web.Request) -> str:
    token = _OUR_TOKEN.fullmatch(request.headers.get("Authorization", ""))
    return "" if token is None else hashlib.sha256(token[1].encode()).hexdigest()[:8]
