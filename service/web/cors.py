"""Which pages of other sites may call the API from a browser: none but those that are listed."""

from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

_METHODS = "GET, HEAD, POST, PATCH, DELETE"
_HEADERS = "Authorization, Content-Type, Idempotency-Key, Prefer, X-Request-Id, traceparent"
_EXPOSED = "Location, Preference-Applied, Retry-After, X-Ledger-Seq, X-Refusal-Id, X-Request-Id"
_MAX_AGE_S = 600
"""So long a browser remembers the answer to its question; the longest that all of them honour."""


class Cors:
    """The origins that are listed. Tokens are sent by scripts, never by the browser itself, so
    nothing here allows credentials."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origins)

    def lists(self, request: web.Request) -> bool:
        """Does the request come from a page of one of them?"""
        return request.headers.get("Origin") in self._origins

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks whether it may; None when this is no such question."""
        if (
            request.method != "OPTIONS"
            or "Access-Control-Request-Method" not in request.headers
            or not self.lists(request)
        ):
            return None
        return web.Response(
            status=HTTPStatus.NO_CONTENT,
            headers={
                "Access-Control-Allow-Methods": _METHODS,
                "Access-Control-Allow-Headers": _HEADERS,
                "Access-Control-Max-Age": str(_MAX_AGE_S),
            },
        )

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say that the page may read the answer, whatever that is, streams included."""
        if not self._origins:
            return
        response.headers.add("Vary", "Origin")
        if self.lists(request):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED
