"""Which record an instant is at."""

from bisect import bisect_right
from itertools import accumulate
from typing import Protocol

BLOCK_RECORDS = 4_096
"""Records whose latest time is remembered as one: so many are looked through for an answer."""


class Times(Protocol):
    """What the read store says of the times of records. Raises ReadStoreError."""

    async def latest_times(self, after_seq: int, until_seq: int, block: int) -> list[int]:
        """The latest time, in microseconds, of each so many records of a range."""
        ...

    async def first_later(self, after_seq: int, until_seq: int, at_us: int) -> int | None:
        """The first record of a range that is later than an instant."""
        ...


class Instants:
    """Finds the greatest prefix of the ledger whose records are all at or before an instant.

    The time of a record is when its command was issued. Clocks are set back, and commands
    overtake each other, so that a record may be older than the one before it: it belongs to
    what came before it in the log, and is shown when that is.
    """

    def __init__(self, times: Times) -> None:
        self._times = times
        self._latest: list[int] = []
        """The latest time of each block that is full; what is stored of a record never changes."""

    async def seq_at(self, at_us: int, last_seq: int) -> int:
        """The last record of that prefix, up to `last_seq`; 0 when even the first is later.

        Raises ReadStoreError.
        """
        known, full = len(self._latest), last_seq // BLOCK_RECORDS
        if full > known:
            begin, end = known * BLOCK_RECORDS, full * BLOCK_RECORDS
            self._latest[known:] = await self._times.latest_times(begin, end, BLOCK_RECORDS)
        block = bisect_right(list(accumulate(self._latest, max)), at_us)
        begin = block * BLOCK_RECORDS
        later = await self._times.first_later(begin, last_seq, at_us)
        return last_seq if later is None else later - 1
