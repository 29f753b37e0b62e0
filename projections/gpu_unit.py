"""A GPU in the state: what it is, who has it, how it fares, and whether it is lent."""

from msgspec import Struct

from events.gpu_health import GpuCause


class Ailment(Struct, frozen=True, gc=False, omit_defaults=True):
    """A fault that a GPU has. `number` tells it from others of its cause, or how bad it is."""

    cause: GpuCause
    message: str
    since_us: int
    number: int = 0
    boot: str = ""
    """The boot of the host in which it came."""


class Quarantine(Struct, frozen=True, gc=False, omit_defaults=True):
    """Why, and since when, a GPU is not lent; by the rules, or by hand."""

    why: str
    since_us: int
    by_hand: bool = False


class SeenError(Struct, frozen=True, gc=False):
    """When an error of this number was last recorded of a GPU."""

    xid: int
    at_us: int


class GpuUnit(Struct, frozen=True, gc=False):
    """A GPU that was seen, and its lease: one holder, through one or two of its revisions."""

    uuid: str
    index: int
    name: str
    memory_bytes: int
    pci_bus_id: str
    parent_uuid: str | None
    present: bool
    holder: str | None = None
    revisions: tuple[int, ...] = ()
    ailments: tuple[Ailment, ...] = ()
    quarantine: Quarantine | None = None
    occupants: tuple[int, ...] = ()
    """Processes of the host that are on it though nobody leases it."""
    errors: tuple[SeenError, ...] = ()
    """The newest last, one of a number."""

    @property
    def obstacle(self) -> str:
        """Why it is not lent, whoever asks, for people; empty when it may be."""
        if self.quarantine is not None:
            return self.quarantine.why
        if not self.present:
            return "the driver does not show it"
        if self.occupants:
            some = ", ".join(map(str, self.occupants[:3]))
            more = f" and {len(self.occupants) - 3} more" * (len(self.occupants) > 3)
            if len(self.occupants) == 1:
                return f"process {some} of the host is on it"
            return f"processes {some}{more} of the host are on it"
        return ""

    @property
    def is_free(self) -> bool:
        """May it be lent to somebody who does not have it?"""
        return self.holder is None and not self.obstacle
