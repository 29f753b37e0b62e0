"""The commands about orphans, and what they are about."""

from msgspec import Struct

from events.values import OrphanKind


class Thing(Struct, frozen=True):
    """Something that a label or its place says is ours, as it was seen."""

    id: str
    """The kind, and what no two of that kind have in common."""
    kind: OrphanKind
    name: str
    owner: str
    """Whose the label or the place says it is."""
    object_id: str = ""
    """The engine's id of it, where it has one."""
    of: str = ""
    """The replica set or volume that it says it belongs to; empty when it says none."""
    number: int = 0
    size_bytes: int | None = None
    """None where that is not cheap to know."""


class RemoveOrphan(Struct, frozen=True, tag=True):
    """Remove what no record accounts for, now. `name` is its id; the facts say what it is."""

    name: str


class ExpireOrphan(Struct, frozen=True, tag=True):
    """The service found what no record accounts for, `since_us` and ever since."""

    name: str
    thing: Thing
    since_us: int
    grace_us: int
