"""The steps of question (f), each run as a module with the path of a read store.

Prints seconds and memory as JSON. Whatever a step needs is made before its time begins.
"""

import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter

import msgspec
import uvloop
from msgspec import Struct

from events.codec import encode
from projections.price_book import Price
from projections.projector import rebuild
from projections.store import ReadStore
from projections.usage_queries import UsageBasis, place_after, place_of
from service.application.usage_reader import PAGE_ROWS, bill_of
from service.domain.billing import CLOSED_BY
from service.domain.months import month_of, window_of
from service.ports import StoredEntry
from tests.kit.histories import BEGIN_US, records

BATCH = 1_000

_window = window_of(month_of(BEGIN_US))
assert _window is not None
MONTH = _window

PRICES = [
    Price("gpu", "*", "", BEGIN_US, "2.40", "EUR", 1),
    Price("gpu", "*", "", BEGIN_US + 500_000_000, "2.60", "EUR", 2),
    Price("memory", "*", "", 0, "0.01", "EUR", 3),
    Price("volume", "*", "", 0, "0.0002", "EUR", 4),
]


class Step(Struct, frozen=True):
    """How long a step took, and what memory."""

    seconds: float
    intervals: int
    grown_mib: float
    """What the peak of the resident memory is above what it was before."""
    peak_mib: float


class PricedStore(ReadStore):
    """The store with prices, which the log of the bench has none of."""

    async def usage_basis(self, before_us: int) -> UsageBasis:
        """As the store's."""
        found = await super().usage_basis(before_us)
        return UsageBasis(found.seq, PRICES, found.open)


async def make(path: Path, count: int, names: int) -> None:
    """Write the rows of a made-up log of so many records, which is not kept anywhere."""

    async def read(after_seq: int) -> AsyncIterator[Sequence[StoredEntry]]:
        numbered = enumerate(records(count, names), 1)
        while batch := [
            StoredEntry(seq, "", record.command_id, encode(record))
            for seq, record in islice(numbered, BATCH)
        ]:
            yield batch

    async with ReadStore(path) as store:
        await rebuild(read, store)


async def bill(path: Path) -> Step:
    """What a request for the usage of a month does."""
    async with PricedStore(path) as store:
        before, begun = _forget_peak(), perf_counter()
        made, _ = await bill_of(store, MONTH, CLOSED_BY)
        intervals = sum(len(line.records) for line in made.lines())
        return _step(before, begun, intervals)


async def read(path: Path) -> Step:
    """Read and decode the same pages."""
    intervals = 0
    async with PricedStore(path) as store:
        before, begun = _forget_peak(), perf_counter()
        basis = await store.usage_basis(MONTH.end_us)
        intervals += sum(len(row.intervals) for row in basis.open)
        after = place_after(MONTH.begin_us)
        while page := await store.usage_ended(after, MONTH.end_us, PAGE_ROWS):
            intervals += sum(len(row.intervals) for row in page)
            after = place_of(page[-1])
        return _step(before, begun, intervals)


def _step(before_mib: float, begun: float, intervals: int) -> Step:
    peak_mib = _peak_mib()
    return Step(perf_counter() - begun, intervals, peak_mib - before_mib, peak_mib)


def _forget_peak() -> float:
    """From now on the peak is that of what follows; what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_mib()


def _peak_mib() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


STEPS: dict[str, Callable[[Path], Coroutine[None, None, object]]] = {"bill": bill, "read": read}


if __name__ == "__main__":
    step, where, *sizes = sys.argv[1:]
    if step == "make":
        uvloop.run(make(Path(where), *map(int, sizes)))
        measured: object = None
    else:
        measured = uvloop.run(STEPS[step](Path(where)))
    sys.stdout.buffer.write(msgspec.json.encode(measured))
