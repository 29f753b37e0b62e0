"""Route: one entry of the table that both the routing and the OpenAPI document are made from."""

from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from service.web.problems import Action, BadRequest, Code

API = "/api/v1"


class Query(Struct, frozen=True):
    """A query parameter."""

    name: str
    about: str
    kind: str = "string"
    """JSON Schema's word for its type."""


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
    """What a read can refuse with."""
    enveloped: bool = True
    media_type: str = "application/json"


def number_in(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """A whole number of the query string. Raises BadRequest that names the parameter."""
    text = request.query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        number = -1
    else:
        number = int(text)
    if not least <= number <= most:
        raise BadRequest(
            Code.BAD_REQUEST, f"{name} must be a whole number from {least} to {most}", name
        )
    return number
