"""Facts about debug copies: replica sets that begin with the system disk of another one."""

from msgspec import Struct

from events.values import DiskSource


class DebugCopyBegun(
    Struct, frozen=True, tag_field="type", tag="debug_copy.begun.v1", omit_defaults=True
):
    """A revision is to begin with a copy of another replica set's system disk.

    Until the copy is made, that disk is not given up, moved or written to.
    """

    name: str
    number: int
    of: str
    """The replica set whose system disk is copied."""
    version: int
    """The version whose container or kept disk has it: the one asked for, or what that became."""
    source: DiskSource
    image: str = ""
    """The copy's own image, which goes when it is deleted; empty when it needs none."""


class DebugImageMade(
    Struct, frozen=True, tag_field="type", tag="debug_copy.image_made.v1", omit_defaults=True
):
    """The image that a debug copy lies on has its own name, and stays as long as the copy."""

    name: str
    number: int
    image: str
    size_bytes: int


class DebugImageRemoved(
    Struct, frozen=True, tag_field="type", tag="debug_copy.image_removed.v1", omit_defaults=True
):
    """The image that a debug copy lay on is gone, or never came to be."""

    name: str
    number: int
    image: str


class DebugCopyEnded(
    Struct, frozen=True, tag_field="type", tag="debug_copy.ended.v1", omit_defaults=True
):
    """The system disk of `of` is not being copied any more: it was, or will not be."""

    name: str
    number: int
    of: str
