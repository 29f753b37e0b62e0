"""Route: one entry of the table that both the routing and the OpenAPI document are made from."""

import re
from collections.abc import Collection
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from events.values import NAME_LENGTH_MAX
from service.access_ports import Role
from service.web.problems import Action, BadRequest, Code

API = "/api/v1"

NAME_PATTERN = f"^[A-Za-z0-9][A-Za-z0-9_]{{0,{NAME_LENGTH_MAX - 1}}}$"
UUID_PATTERN = "^[A-Za-z0-9-]{1,128}$"
"""What a name and a GPU's UUID are, in JSON Schema's words."""

_NUMBER = re.compile(r"[0-9]{1,19}")
_SHOWN_MAX = 48


class Query(Struct, frozen=True):
    """A query parameter."""

    name: str
    about: str
    kind: str = "string"
    """JSON Schema's word for its type."""
    needed: bool = False
    least: int | None = None
    """With `most`: the bounds of a number."""
    most: int | None = None
    pattern: str = ""


class Route(Struct, frozen=True):
    """A method and path, what serves it, and what is to be known of it."""

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    data: Any = None
    """The type of `data` on success; None is null."""
    body: Any = None
    """The type of the request's body; None when it has none."""
    action: Action | None = None
    """What is asked for, where it is a command: that says which refusals there are."""
    queries: tuple[Query, ...] = ()
    codes: tuple[Code, ...] = ()
    """What it can refuse with, beside what every command can."""
    enveloped: bool = True
    media_type: str = "application/json"
    role: Role | None = None
    """Who may, where that is not what `needs` says of its method."""
    open: bool = False
    """True where nobody is asked who he is."""
    streams: bool = False
    """True where the answer goes on for as long as the caller listens."""
    now: str = ""
    """Why a read under /api/v1 cannot be asked for the past; empty where it can."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its query parameters."""
        return (*(query.name for query in self.queries), *(("at",) if self.has_past else ()))

    @property
    def has_past(self) -> bool:
        """Can it be asked with `at`?"""
        return self.method == "GET" and self.path.startswith(API) and not self.now

    @property
    def needs(self) -> Role | None:
        """The least role that may; None is anybody, also where tokens are asked for."""
        if self.open:
            return None
        return self.role or ("viewer" if self.method == "GET" else "operator")


def check_queries(request: web.Request, known: Collection[str]) -> None:
    """Refuse a parameter that is not among the known ones. Raises BadRequest that names it.

    A misspelled `at` would be answered with the present, and a misspelled filter with everything.
    """
    for name in request.query:
        if name not in known:
            shown = name[:_SHOWN_MAX]
            there = f"there are {', '.join(known)}" if known else "there are none"
            text = f"{shown} is no parameter of this; {there}"
            raise BadRequest(Code.BAD_REQUEST, text, shown)


def number_in(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query string. Raises BadRequest that names the parameter."""
    text = request.query.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise BadRequest(
            Code.BAD_REQUEST, f"{name} must be a whole number from {least} to {most}", name
        )
    return int(text)
