"""Facts about orphans: what is on the engine or its disks in our name, and in no record."""

from msgspec import Struct

from events.values import OrphanKind


class OrphanExpired(
    Struct, frozen=True, tag_field="type", tag="orphan.expired.v1", omit_defaults=True
):
    """An orphan is to be removed: a caller said so, or it was one for longer than the grace."""

    orphan: str
    """Its id: the kind, and what no two of that kind have in common."""
    kind: OrphanKind
    name: str
    message: str
    """Why it is one, and why it goes now; for people."""
    object_id: str = ""
    """The engine's own id of it, so that nothing else of its name is removed."""
    of: str = ""
    """The replica set or volume that it says it belongs to; empty when it says none."""


class OrphanRemoved(
    Struct, frozen=True, tag_field="type", tag="orphan.removed.v1", omit_defaults=True
):
    """An orphan was seen gone."""

    orphan: str
    kind: OrphanKind
    name: str


class OrphanSpared(
    Struct, frozen=True, tag_field="type", tag="orphan.spared.v1", omit_defaults=True
):
    """An orphan could not be removed. It is left as it is, and found again at the next look."""

    orphan: str
    kind: OrphanKind
    name: str
    reason: str
    message: str
    """The engine's or the disk's own words."""
