"""The projector: follows the ledger, folds every record into the state, and writes the rows.

Folding and writing go on side by side. While one batch is written, the records that arrive are
folded into the next one, and what several of them changed is written once.

    read ──▶ decode ──▶ evolve ──▶ state ─ touched ─▶ batch ──▶ read store
                          └─▶ subscribers, wait_folded             └─▶ wait_stored
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from msgspec import Struct

from events.codec import UnreadableRecord, decode
from events.record import Record
from projections.evolve import evolve
from projections.state import State
from projections.store import ReadStore, ReadStoreError, StoreAway
from projections.tables import Batch, Row, history_row, take_batch
from projections.usage import Usage
from projections.usage_folds import meter
from projections.waiters import Waiters

BATCH_RECORDS_MAX = 5_000
"""Records folded ahead of the rows; above it, folding waits for the batch being written."""

LINGER_S = 0.02
"""So long may rows stay unwritten that nobody waits for. A transaction, and the way to its thread
and back, cost as much for one record as for ten; under load it is sixty records then."""

SLICE_RECORDS = 250
"""Records folded at a stretch, some 5 ms, before the event loop has its turn."""


AGAIN_S = 1.0
"""Rows that cannot be written for want of room are tried again after so long."""

log = logging.getLogger(__name__)


class ProjectorStopped(Exception):
    """The projector follows the ledger no more. The text says why, naming the record."""


class RowsBehind(ProjectorStopped):
    """What is folded goes on, but the rows cannot be written for now. The text says why."""


class StoredRecord(Protocol):
    """A record as the ledger gives it out."""

    @property
    def seq(self) -> int: ...

    @property
    def body(self) -> bytes: ...


Read = Callable[[int], AsyncIterator[Sequence[StoredRecord]]]
"""Batches of records in order, beginning after a sequence."""

Subscriber = Callable[[int, Record], None]


class RebuildReport(Struct, frozen=True):
    """What a rebuild went through."""

    records: int
    events: int
    last_seq: int


class Projector:
    """Folds a ledger into `state` and into a read store.

    `failure` says why it stopped, and is None before. `trouble` says why the rows stay behind,
    while they cannot be written or are being written anew; what is folded goes on.
    """

    def __init__(self, read: Read, store: ReadStore) -> None:
        self.state = State()
        self.usage = Usage()
        self.failure: str | None = None
        self.trouble: str | None = None
        self.stored_seq = 0
        """The last record that is in the rows."""
        self.folded_seq = 0
        """The last record that is in the state."""
        self._read = read
        self._store = store
        self._loaded = False
        self._history: list[Row] = []
        self._subscribers: list[Subscriber] = []
        self._folded = Waiters()
        self._stored = Waiters()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self._hurry = asyncio.Event()
        self._ended = False
        self._lost: str | None = None
        self._behind: str | None = None

    def subscribe(self, callback: Subscriber) -> None:
        """Call back after each record folded from now on, with its sequence.

        It runs within the fold: it must be quick, and an exception in it stops the projector.
        """
        self._subscribers.append(callback)

    async def load(self) -> None:
        """Take the state from the rows, if that was not done. Raises ReadStoreError."""
        if not self._loaded:
            self.state, self.usage = await self._store.load()
            self.folded_seq = self.stored_seq = self.state.seq
            self._loaded = True

    async def run(self) -> None:
        """Follow the ledger until cancelled; return when what is read comes to an end.

        Raises ProjectorStopped on a record that cannot be read or folded, and on whatever the
        ledger or the read store raises. Nothing that comes after such a record is folded.
        """
        try:
            await self.load()
            await self._run()
            self._stop("what it reads has come to an end")
        except asyncio.CancelledError:
            self._stop("it was cancelled")
            raise
        except Exception as error:
            reason = str(error) or repr(error)
            self._stop(reason)
            raise ProjectorStopped(reason) from error

    async def wait_folded(self, seq: int) -> None:
        """Return when the record is in the state. Raises ProjectorStopped."""
        if self.folded_seq < seq:
            await self._wait(self._folded, seq)

    async def wait_stored(self, seq: int) -> None:
        """Return when the record is in the rows. Raises ProjectorStopped, RowsBehind."""
        if self.stored_seq < seq:
            if self._behind is not None:
                raise RowsBehind(self._behind)
            self._hurry.set()
            await self._wait(self._stored, seq)

    async def look_at_rows(self) -> None:
        """Have all rows written anew when the file is not what was written. Raises as the store."""
        if self.trouble is None and (reason := await self._store.lost()) is not None:
            self._lost = reason
            self._work.set()

    async def _wait(self, waiters: "Waiters", seq: int) -> None:
        if self.failure is not None:
            raise ProjectorStopped(self.failure)
        await waiters.wait(seq)

    def _stop(self, reason: str) -> None:
        self.failure = reason
        self._folded.fail(ProjectorStopped(reason))
        self._stored.fail(ProjectorStopped(reason))

    async def _run(self) -> None:
        folding = asyncio.create_task(self._fold_all())
        writing = asyncio.create_task(self._write_all())
        try:
            await asyncio.wait((folding, writing), return_when=asyncio.FIRST_COMPLETED)
            if folding.done():
                self._ended = True
                self._work.set()
                await writing
                await folding
            else:
                await writing
        finally:
            folding.cancel()
            writing.cancel()
            await asyncio.gather(folding, writing, return_exceptions=True)

    async def _fold_all(self) -> None:
        batches = self._read(self.state.seq)
        try:
            async for entries in batches:
                for begin in range(0, len(entries), SLICE_RECORDS):
                    await self._fold_slice(entries[begin : begin + SLICE_RECORDS])
        finally:
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()

    async def _fold_slice(self, entries: Sequence[StoredRecord]) -> None:
        while len(self._history) >= BATCH_RECORDS_MAX:
            self._room.clear()
            await self._room.wait()
        self._fold(entries)
        self._folded.reached(self.folded_seq)
        self._work.set()
        await asyncio.sleep(0)  # a turn for everybody else

    def _fold(self, entries: Sequence[StoredRecord]) -> None:
        state, usage = self.state, self.usage
        history, subscribers = self._history, self._subscribers
        for entry in entries:
            seq = entry.seq
            if seq != state.seq + 1 and state.seq:
                raise ProjectorStopped(f"record {seq} came after record {state.seq}")
            try:
                record = decode(entry.body)
            except UnreadableRecord as error:
                raise ProjectorStopped(f"record {seq} cannot be read: {error}") from error
            try:
                evolve(state, seq, record)
                meter(usage, state, seq, record)
            except Exception as error:
                # The state is in the middle of a record: no row may be made from it any more.
                history.clear()
                named = f"record {seq} ({record.events[0].__struct_config__.tag})"
                raise ProjectorStopped(f"{named} cannot be folded: {error!r}") from error
            history.append(history_row(seq, record))
            self.folded_seq = seq
            for callback in subscribers:
                callback(seq, record)

    async def _write_all(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._lost is not None:
                await self._write_anew(self._lost, self.stored_seq)
            if self._history:
                await self._linger()
            if self._history:  # emptied meanwhile by a record that cannot be folded
                batch = take_batch(self.state, self.usage, self.stored_seq, self._history)
                self._history = []
                self._room.set()
                await self._write(batch)
                self.stored_seq = batch.seq
                self._stored.reached(batch.seq)
                self._work.set()
            elif self._ended:
                return

    async def _write(self, batch: Batch) -> None:
        """Apply a batch, as soon as that can be done."""
        while True:
            try:
                await self._store.apply(batch)
            except (ReadStoreError, sqlite3.Error) as error:
                if (reason := await self._store.lost()) is not None:
                    return await self._write_anew(reason, batch.seq)
                if not isinstance(error, StoreAway):
                    raise
                await self._fall_behind(str(error))
            else:
                self.trouble = self._behind = None
                return None

    async def _write_anew(self, reason: str, seq: int) -> None:
        """All rows up to a record, from the ledger; until that is done there is nothing to read."""
        self._in_trouble(f"the read store is written anew: {reason}")
        while True:
            try:
                await rebuild(lambda after: _until(self._read(after), seq), self._store)
                break
            except (ReadStoreError, ProjectorStopped, sqlite3.Error, OSError) as error:
                cause = error.__cause__ if isinstance(error, ProjectorStopped) else error
                if not isinstance(cause, ReadStoreError | sqlite3.Error | OSError):
                    raise
                await self._fall_behind(f"the read store cannot be written anew yet: {error}")
        log.warning("the read store is whole again, with %d records", seq)
        self._lost = self.trouble = self._behind = None

    async def _fall_behind(self, text: str) -> None:
        """Nobody waits for rows of which nobody knows when they can be written."""
        self._in_trouble(text)
        self._behind = text
        self._stored.fail(RowsBehind(text))
        await asyncio.sleep(AGAIN_S)

    def _in_trouble(self, text: str) -> None:
        if text != self.trouble:
            log.warning("%s", text)
        self.trouble = text

    async def _linger(self) -> None:
        """Rows that nobody waits for yet are written together with those that follow soon."""
        if self._stored or self._ended or len(self._history) >= SLICE_RECORDS:
            return
        self._hurry.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                await self._hurry.wait()


async def _until(
    batches: AsyncIterator[Sequence[StoredRecord]], seq: int
) -> AsyncGenerator[Sequence[StoredRecord], None]:
    """What is read up to a sequence."""
    try:
        while seq and (entries := await anext(batches, None)) is not None:
            if within := [entry for entry in entries if entry.seq <= seq]:
                yield within
            if entries[-1].seq >= seq:
                return
    finally:
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


async def rebuild(
    read: Read, store: ReadStore, follow: Callable[[Projector], None] = lambda projector: None
) -> RebuildReport:
    """Write the read store anew from all records that `read(0)` gives before it ends.

    `follow` may subscribe to what is folded. Raises ProjectorStopped; the store is then empty
    when it is opened again.
    """
    records = events = 0

    def count_record(_: int, record: Record) -> None:
        nonlocal records, events
        records += 1
        events += len(record.events)

    async with store.fast_rebuild():
        projector = Projector(read, store)
        projector.subscribe(count_record)
        follow(projector)
        await projector.run()
    return RebuildReport(records, events, projector.stored_seq)
