"""What must not be, by kind, as the checks find it."""

from typing import Literal

from msgspec import Struct

FaultKind = Literal["leak", "double lease", "lost", "other", "of Docker"]

KINDS: tuple[FaultKind, ...] = ("leak", "double lease", "lost", "other")
NOT_OURS: FaultKind = "of Docker"
"""What a killed dockerd itself did not put right when it was started again: told, not counted."""


class Fault(Struct, frozen=True, order=True):
    """One thing that is wrong, named for people."""

    kind: FaultKind
    text: str


class ChaosStopped(Exception):
    """The run cannot go on: what was killed did not come up again. The text is for people."""
