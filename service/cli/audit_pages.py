"""The pages of the audit, one after the other."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from service.cli.addresses import path_of
from service.cli.session import Session

PAGE = 500

OWN = Annotated[
    bool, typer.Option("--all", help="Also what the service did of its own accord")
]


def query_of(**wanted: str) -> dict[str, str]:
    """What was given, for the query string."""
    return {name: value for name, value in wanted.items() if value}


def page_through(
    session: Session, query: dict[str, str], limit: int = PAGE
) -> Iterator[list[dict[str, Any]]]:
    """The rows of every page, newest first. Pages may be empty before the last one."""
    asked = {**query, "limit": str(min(limit, PAGE))}
    while True:
        data = session.api.get(path_of("audit"), patient=True, **asked)
        yield data["rows"]
        if data["next"] is None:
            return
        asked["before"] = data["next"]
