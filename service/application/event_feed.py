"""The feed: what is folded, for any number of readers, each at its own place in the ledger.

A reader asks for what follows a sequence, and is answered from the newest records, which are kept
in memory, or from the ledger when it is further behind. So nothing is kept for a reader, a slow
one costs no more than a fast one, and there is no seam at which a record could be lost or come
twice: a place is a number.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Protocol

from msgspec import Struct, field

from events.codec import decode
from events.record import Record
from projections.projector import Subscriber
from projections.state import State
from service.errors import LedgerDamaged, ServiceBusy
from service.ports import Ledger

KEPT_RECORDS = 1024
"""So many of the newest records are kept in memory, at least; at most twice as many."""

GIVEN_RECORDS = 256
"""So many are given out at once: some 5 ms of decoding."""

GIVEN_BYTES = 4 << 20
"""What is read of the ledger for one answer ends above so many bytes."""

CATCHING_UP_MAX = 8
"""So many readers are served from the ledger at the same time; the others wait for their turn."""

READERS_MAX = 2_000
"""More readers are refused: each costs a socket, and a turn of the loop for every event."""

WAKE_EVERY_S = 0.02
"""Readers are woken so often at most: with many of them, that is most of what a record costs."""


class FeedEnded(Exception):
    """There is no more to be read here. The text says why."""


class Fed(Struct, frozen=True):
    """A record of the ledger, and what was made of it to be sent."""

    seq: int
    record: Record
    sent_as: dict[bool, Sequence[bytes]] = field(default_factory=dict)
    """Made once for all readers, by whether they may see secrets."""


class Folded(Protocol):
    """What the feed needs of the projector."""

    state: State
    folded_seq: int
    failure: str | None

    def subscribe(self, callback: Subscriber) -> None:
        """Call back after each record folded from now on."""
        ...


class EventFeed:
    """Gives out what is folded, and nothing before that. Make it once the ledger is caught up."""

    def __init__(self, ledger: Ledger, projector: Folded) -> None:
        self._ledger = ledger
        self._projector = projector
        self._newest: list[Fed] = []
        self._waiting: dict[asyncio.Event, None] = {}
        self._wake_at_s = 0.0
        self._waking = False
        self._ended: str | None = None
        self._turns = asyncio.Semaphore(CATCHING_UP_MAX)
        self._readers: Counter[str] = Counter()
        projector.subscribe(self._on_folded)

    @property
    def last_seq(self) -> int:
        """The last record that can be read now."""
        return self._projector.folded_seq

    @property
    def state(self) -> State:
        """What all records up to `last_seq` are folded into."""
        return self._projector.state

    @property
    def readers(self) -> int:
        """How many there are."""
        return self._readers.total()

    @contextmanager
    def reader(self, caller: str) -> Iterator[None]:
        """Around all reading of one reader. Raises ServiceBusy when there are too many, or when
        its caller has as many as are left for all others."""
        own, there_are = self._readers[caller], self.readers
        if own >= READERS_MAX - there_are:
            raise ServiceBusy(
                f"{there_are} readers follow the events already, {own} of them this caller's, and"
                f" there is room for {READERS_MAX}; come again when some have gone"
            )
        self._readers[caller] += 1
        try:
            yield
        finally:
            self._readers[caller] -= 1
            self._readers += Counter()  # without those that have none

    def end(self, reason: str) -> None:
        """Have all reading end, for good."""
        self._ended = reason
        self._wake()

    async def after(self, seq: int, patience_s: float) -> Sequence[Fed]:
        """Some of the records after `seq`, in order and without gaps.

        None of them when nothing came in `patience_s`. Raises FeedEnded, and what the ledger
        raises when it is read.
        """
        if seq >= self.last_seq and self._ended is None:
            await self._wait(patience_s)
        if self._ended is not None:
            raise FeedEnded(self._ended)
        if seq >= self.last_seq:
            if self._projector.failure is not None:
                raise FeedEnded(self._projector.failure)
            return ()
        newest = self._newest
        if newest and newest[0].seq <= seq + 1:
            begin = seq + 1 - newest[0].seq
            return newest[begin : begin + GIVEN_RECORDS]
        return await self._catch_up(seq)

    async def record(self, seq: int) -> Fed:
        """One record that is folded. Raises what the ledger raises when it is read."""
        newest = self._newest
        if newest and newest[0].seq <= seq:
            return newest[seq - newest[0].seq]
        async with self._turns, aclosing(self._ledger.read(seq - 1, seq)) as batches:
            async for entries in batches:
                return Fed(seq, decode(entries[0].body))
        raise LedgerDamaged(f"record {seq} cannot be read any more")

    async def _catch_up(self, seq: int) -> Sequence[Fed]:
        found: list[Fed] = []
        size = 0
        async with self._turns:
            until_seq = min(seq + GIVEN_RECORDS, self.last_seq)
            async with aclosing(self._ledger.read(seq, until_seq)) as batches:
                async for entries in batches:
                    for entry in entries:
                        found.append(Fed(entry.seq, decode(entry.body)))
                        size += len(entry.body)
                    if size > GIVEN_BYTES:
                        break
        return found

    async def _wait(self, patience_s: float) -> None:
        woken = asyncio.Event()
        self._waiting[woken] = None
        try:
            async with asyncio.timeout(patience_s):
                await woken.wait()
        except TimeoutError:
            return
        finally:
            del self._waiting[woken]

    def _on_folded(self, seq: int, record: Record) -> None:
        """Runs within the fold: it only keeps the record, and has the readers woken later."""
        self._newest.append(Fed(seq, record))
        if len(self._newest) >= 2 * KEPT_RECORDS:
            # A new list: what was given out of the old one is not changed.
            self._newest = self._newest[KEPT_RECORDS:]
        if self._waiting and not self._waking:
            self._waking = True
            loop = asyncio.get_running_loop()
            loop.call_at(max(self._wake_at_s, loop.time()), self._wake)

    def _wake(self) -> None:
        self._waking = False
        self._wake_at_s = asyncio.get_running_loop().time() + WAKE_EVERY_S
        for waiting in self._waiting:
            waiting.set()
