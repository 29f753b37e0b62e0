"""Values that say how GPUs fare: what a look at the driver gives, and what a GPU can be sick of."""

from typing import Literal

from msgspec import Struct

from events.values import Gpu

GpuCause = Literal[
    "lost", "no_answer", "xid", "ecc", "row_remap", "remap_failed", "page_retirement"
]
"""What a GPU is sick of: it fell off the bus, or the driver shows it and cannot ask it; an error
that is the hardware's (XID); uncorrected memory errors; memory rows that are to be remapped at
the next reset, or could not be; memory pages that are to be retired at the next reset."""


class GpuReport(Struct, frozen=True):
    """How a GPU (or MIG instance) fares. What the driver cannot tell of it has the default."""

    uuid: str
    ecc_uncorrected: int = 0
    """Uncorrected memory errors since the driver began to count: a reset, or its loading."""
    remap_pending: bool = False
    remap_failed: bool = False
    retirement_pending: bool = False
    pids: tuple[int, ...] = ()
    """The processes of the host, those in containers too, that compute on it."""


class MissingGpu(Struct, frozen=True):
    """A GPU that the driver counts and that did not answer; only its number is known."""

    index: int
    lost: bool
    """The driver says that it fell off the bus."""
    message: str
    """The driver's own words."""


class GpuHealth(Struct, frozen=True):
    """One look at all GPUs."""

    gpus: tuple[Gpu, ...] = ()
    """Those that answer, by index."""
    reports: tuple[GpuReport, ...] = ()
    missing: tuple[MissingGpu, ...] = ()
    boot: str = ""
    """Changes when the host is booted, which resets all GPUs; empty when it is not known."""


class GpuError(Struct, frozen=True):
    """An error that the driver reported of a GPU, by NVIDIA's number (XID)."""

    uuid: str
    xid: int
    pids: tuple[int, ...] = ()
    """The processes that were on it then, as far as they are known."""
