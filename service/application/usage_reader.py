"""The bill of a window, from the rows: a page at a time, and all of it as of one record."""

from collections.abc import Sequence
from typing import Protocol

from projections.usage import Opened
from projections.usage_queries import Place, UsageBasis, place_after, place_of
from service.domain.billing import Bill, PriceBook, Window

PAGE_ROWS = 250
"""Read and added up at a stretch, a few ms, before the event loop has its turn."""


class UsageReads(Protocol):
    """The questions that are asked of the read store."""

    async def usage_basis(self, before_us: int) -> UsageBasis:
        """The prices, and the open rows that began before an instant, of one snapshot."""
        ...

    async def usage_ended(self, after: Place, before_us: int, limit: int) -> Sequence[Opened]:
        """The next rows that ended, by their end; only those begun before an instant."""
        ...


async def bill_of(
    reads: UsageReads, window: Window, group_by: tuple[str, ...]
) -> tuple[Bill, int]:
    """The bill, and the last record that it was made from."""
    basis = await reads.usage_basis(window.end_us)
    bill = Bill(window, PriceBook(basis.prices), group_by)
    for row in basis.open:
        _add(bill, row)
    after = place_after(window.begin_us)
    while page := await reads.usage_ended(after, window.end_us, PAGE_ROWS):
        for row in page:
            # What was closed since the snapshot was open in it, and is in the bill as that.
            if row.closed_seq is not None and row.closed_seq <= basis.seq:
                _add(bill, row)
        after = place_of(page[-1])
    return bill, basis.seq


def _add(bill: Bill, row: Opened) -> None:
    for interval in row.intervals:
        bill.add(interval)
