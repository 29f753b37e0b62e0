"""What a debug copy begins with, and what it is made of meanwhile. Pure values of the state."""

from msgspec import Struct

from events.values import DiskSource


class CopiedDisk(Struct, frozen=True, gc=False, omit_defaults=True):
    """The system disk of another replica set that a debug copy begins with a copy of."""

    of: str
    version: int
    source: DiskSource
    image: str = ""
    """The copy's own image; empty when it needs none."""
    imaged: bool = False
    """That image was made."""


class Loan(Struct, frozen=True, gc=False, omit_defaults=True):
    """The system disk of a version is being copied for the debug copy `to`."""

    version: int
    to: str
    operation: str
    live: bool = False
    """It is the one that the container has now, so nothing else may go on with that."""
