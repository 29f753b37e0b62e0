"""Health: is every part that an operation needs there?"""

from typing import Protocol

from msgspec import Struct


class Component(Struct, frozen=True):
    """One part of the service, such as the ledger, the projector or Docker."""

    ok: bool
    detail: str
    """One line for people: what was seen, and what to do when it is not well."""


class Health(Protocol):
    """What the page /readyz asks."""

    async def report(self) -> dict[str, Component]:
        """Every component by name. Does not raise; answers within a few seconds."""
        ...
