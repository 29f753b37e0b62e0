"""The envelope around every answer, as bytes."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from service.web.problems import Code, Problem
from service.web.schemas_responses import Envelope, Refusal

PROBLEM = web.ResponseKey("problem", Problem)
"""What a refusal says, on the answer that says it."""

CONTENT_TYPE = "application/json; charset=utf-8"
"""The predecessor's spelling."""

_encoder = msgspec.json.Encoder()


def plain(data: Any, status: int = HTTPStatus.OK) -> web.Response:
    """An answer without the envelope."""
    return web.Response(
        body=_encoder.encode(data), status=status, headers={"Content-Type": CONTENT_TYPE}
    )


def encode(code: int, message: str, data: Any) -> bytes:
    """The bytes of an answer in its envelope."""
    return _encoder.encode(Envelope(code, message, data))


def answer(
    data: Any,
    status: int = HTTPStatus.OK,
    message: str = "success",
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A success."""
    return web.Response(
        body=encode(Code.SUCCESS, message, data),
        status=status,
        headers={"Content-Type": CONTENT_TYPE, **(headers or {})},
    )


def refuse(problem: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    """A refusal or an error."""
    data = Refusal(problem.reason, problem.field, problem.operation_id)
    all_headers = {"Content-Type": CONTENT_TYPE, **(headers or {})}
    if problem.retry_after_s:
        all_headers["Retry-After"] = str(problem.retry_after_s)
    response = web.Response(
        body=encode(problem.code, problem.message, data),
        status=problem.status,
        headers=all_headers,
    )
    response[PROBLEM] = problem
    return response
