"""Single records of the ledger, by their sequences: read in few goes, and each only once."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Protocol

from events.codec import decode
from service.domain.explaining import Told

GAP_MAX = 64
"""Records between two that are wanted, which are read along: to begin a reading anew costs more."""


class StoredRecord(Protocol):
    """A record as the ledger gives it out."""

    @property
    def seq(self) -> int: ...

    @property
    def body(self) -> bytes: ...


ReadBetween = Callable[[int, int], AsyncGenerator[Sequence[StoredRecord], None]]
"""Batches of records in order, beginning after one sequence and ending with another."""


class StoredRecords:
    """What was read stays in memory: make one for an answer, and forget it."""

    def __init__(self, read: ReadBetween) -> None:
        self._read = read
        self._known: dict[int, Told] = {}

    async def told(self, seqs: Iterable[int]) -> list[Told]:
        """Records in the order that is asked for. Raises what reading the ledger raises."""
        wanted = list(seqs)
        for first, last in _runs(sorted(set(wanted) - self._known.keys())):
            await self._read_run(first, last, set(wanted))
        return [self._known[seq] for seq in wanted]

    async def one(self, seq: int) -> Told:
        """One record. Raises what reading the ledger raises."""
        return (await self.told([seq]))[0]

    async def _read_run(self, first: int, last: int, wanted: set[int]) -> None:
        async with aclosing(self._read(first - 1, last)) as batches:
            async for batch in batches:
                for entry in batch:
                    if entry.seq in wanted:
                        self._known[entry.seq] = Told(entry.seq, decode(entry.body))


def _runs(seqs: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of the stretches in which to read."""
    runs: list[tuple[int, int]] = []
    for seq in seqs:
        if runs and seq - runs[-1][1] <= GAP_MAX:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs
