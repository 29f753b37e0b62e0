"""The timeline: the state as it was at any record of the ledger.

    checkpoint ──▶ the records between ──▶ evolve ──▶ the state at `seq`

The fold is the one that makes today's state. Checkpoints are written as the projector passes
them; those that are missing (the log is older than they are, the folder was deleted, a file was
thrown away) are made from the ledger in the background, with rests, so that nobody notices.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import takewhile
from typing import Protocol

from events.codec import decode
from events.record import Record
from projections.checkpoints import Checkpoint, Checkpoints, CheckpointUnusable
from projections.evolve import evolve
from projections.projector import SLICE_RECORDS, Projector
from projections.state import State

EVERY_RECORDS = 2_500
"""Records from one checkpoint to the next. Reading and folding one takes some 20 µs, so that the
records between take 50 ms at most."""

BASED_CHECKPOINTS = 20
"""So many hold only what is other than in one that holds all of the state; then comes the next."""

FOLD_RECORDS_MAX = 50_000
"""Records folded for one answer at most: a second's work. There are more to fold only while
checkpoints are being made."""

STATES_KEPT = 2
"""Somebody who looks at a point asks several questions about it."""

PASSED_MAX = 16
"""So many states wait to be written; what comes on top is made from the ledger later."""

REST_S = 0.02
"""Between the slices of work in the background, which take 5 ms."""

log = logging.getLogger(__name__)


class StoredRecord(Protocol):
    """A record as the ledger gives it out."""

    @property
    def seq(self) -> int: ...

    @property
    def body(self) -> bytes: ...


ReadBetween = Callable[[int, int], AsyncGenerator[Sequence[StoredRecord], None]]
"""Batches of records in order, beginning after one sequence and ending with another."""


class TimelineBehind(Exception):
    """Too many records would have to be folded: checkpoints are still being made."""


class _Foreign(Exception):
    """A checkpoint is not of this ledger."""


class Timeline:
    """States of the past. What is asked for must be folded by the projector already."""

    def __init__(
        self, read: ReadBetween, checkpoints: Checkpoints, every: int = EVERY_RECORDS
    ) -> None:
        self._read = read
        self._files = checkpoints
        self._every = every
        self.based_records = BASED_CHECKPOINTS * every
        self._known: set[int] | None = None
        """Where there are checkpoints; None until somebody has looked."""
        self._states: OrderedDict[int, State] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()
        self._in_files = asyncio.Lock()
        self._passed: asyncio.Queue[tuple[State, str]] = asyncio.Queue()
        self._missing = asyncio.Event()
        self._missing.set()
        self._whole = asyncio.Event()

    async def state_at(self, seq: int) -> State:
        """The state at a record, which nobody may change; operations that had ended may be missing.

        Raises TimelineBehind, and what reading raises.
        """
        async with self._one_at_a_time:  # two that ask for the same fold it once
            if seq not in self._states:
                self._states[seq] = await self._folded(seq)
                if len(self._states) > STATES_KEPT:
                    self._states.popitem(last=False)
            self._states.move_to_end(seq)
            return self._states[seq]

    def follow(self, projector: Projector, each: int = 1) -> None:
        """Have checkpoints written as the projector passes them, one of so many; `run` and
        `writing` do it."""
        every = each * self._every

        def pass_by(seq: int, record: Record) -> None:
            if seq % every:
                return
            if self._passed.qsize() < PASSED_MAX:
                self._passed.put_nowait((projector.state.copy(), record.command_id))
            else:
                self._missing.set()

        projector.subscribe(pass_by)

    async def run(self, end: Callable[[], int]) -> None:
        """Write what the projector passes, and make what is missing up to `end`, for ever."""
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._write_passed())
                both.create_task(self._make_missing(end))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write what the projector passes within; all of it is written at the end."""
        writer = asyncio.create_task(self._write_passed())
        try:
            yield
            await self._passed.join()
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def whole(self) -> None:
        """Return when no checkpoint is missing, or none can be written; `run` must be at work."""
        await self._whole.wait()

    async def forget(self) -> None:
        """Throw all checkpoints away."""
        for seq in sorted(await self._checkpoints()):
            await self._discard(seq)

    # -- to a state ---------------------------------------------------------------------------

    async def _folded(self, seq: int) -> State:
        """Load and read at the same time: either waits for another process or thread."""
        while True:
            held, at = await self._nearest(seq)
            begin = at or held
            if seq - begin > FOLD_RECORDS_MAX:
                raise TimelineBehind(
                    f"the way back to record {seq} is being made: {seq - begin} records"
                    " would have to be folded"
                )
            reading = asyncio.create_task(self._read_all(begin - 1 if at else begin, seq))
            try:
                if not at:
                    state = self._states[held].copy() if held else State()
                    await self._fold(state, "", await reading)
                    return state
                if (found := await self._load(at)) is not None:
                    await self._fold(found.state, found.record, await reading)
                    return found.state
            except _Foreign:
                log.warning("the checkpoint at %d is of another ledger", at)
                await self._discard(at)
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _nearest(self, seq: int) -> tuple[int, int]:
        """The last state in memory that is no later, and a checkpoint that is nearer, if any."""
        held = max((known for known in self._states if known <= seq), default=0)
        files = (at for at in await self._checkpoints() if held < at <= seq)
        return held, max(files, default=0)

    async def _read_all(self, after: int, until: int) -> list[StoredRecord]:
        if after == until:
            return []
        async with aclosing(self._read(after, until)) as batches:
            return [entry async for entries in batches for entry in entries]

    async def _fold(
        self, state: State, record: str, entries: Sequence[StoredRecord], rest_s: float = 0
    ) -> str:
        """Fold what was read; the id of the last record.

        `record` is the id that the record at which the state is must have, and that record is the
        first that was read; "" for a state of this ledger, and the empty one. Raises _Foreign:
        then nothing was folded.
        """
        last = record
        for begin in range(0, len(entries), SLICE_RECORDS):
            for entry in entries[begin : begin + SLICE_RECORDS]:
                found = decode(entry.body)
                last = found.command_id
                if entry.seq > state.seq:
                    evolve(state, entry.seq, found)
                elif last != record:
                    raise _Foreign
            state.forget_touched()
            await asyncio.sleep(rest_s)  # a turn for everybody else
        return last

    # -- the files ----------------------------------------------------------------------------

    async def _checkpoints(self) -> set[int]:
        if self._known is None:
            try:
                self._known = set(await asyncio.to_thread(self._files.seqs))
            except OSError as error:
                log.warning("the checkpoints cannot be listed: %s", error)
                return set()
        return self._known

    async def _load(self, seq: int) -> Checkpoint | None:
        """A checkpoint; None when it cannot be used, and it is gone then."""
        try:
            async with self._in_files:
                return await asyncio.to_thread(self._files.load, seq)
        except (CheckpointUnusable, OSError) as error:
            log.warning("the checkpoint at %d is thrown away: %s", seq, error)
            await self._discard(seq)
            return None

    async def _discard(self, seq: int) -> None:
        (await self._checkpoints()).discard(seq)
        try:
            async with self._in_files:
                await asyncio.to_thread(self._files.discard, seq)
        except OSError as error:
            log.warning("the checkpoint at %d cannot be removed: %s", seq, error)
        self._missing.set()

    async def write(
        self, state: State, record: str, base: Checkpoint | None
    ) -> Checkpoint | None:
        """Write a checkpoint; None when that cannot be done now."""
        known = await self._checkpoints()
        try:
            async with self._in_files:
                written = await asyncio.to_thread(self._files.write, state, record, base)
        except OSError as error:
            log.warning("the checkpoint at %d cannot be written: %s", state.seq, error)
            return None
        known.add(state.seq)
        return written

    async def _write_passed(self) -> None:
        maker = _Maker(self)
        while True:
            await maker.make(*await self._passed.get())
            self._passed.task_done()

    async def _make_missing(self, end: Callable[[], int]) -> None:
        while True:
            await self._missing.wait()
            self._missing.clear()
            self._whole.clear()
            for seq in [seq for seq in await self._checkpoints() if seq > end()]:
                await self._discard(seq)  # the ledger was longer once
            while (first := await self._first_missing(end())) is not None:
                if not await self._make_from(first, end()):
                    break
            self._whole.set()

    async def _first_missing(self, end: int) -> int | None:
        known = await self._checkpoints()
        wanted = range(self._every, end + 1, self._every)
        return next((seq for seq in wanted if seq not in known), None)

    async def _make_from(self, first: int, end: int) -> bool:
        """Make the checkpoint at `first`, and those behind it up to one that is there.

        False when one cannot be written: whoever needs it will see that it is missing.
        """
        known = await self._checkpoints()
        before = max((seq for seq in known if seq < first), default=0)
        found = await self._load(before) if before else Checkpoint(State(), "", 0)
        if found is None:
            return True  # now it is the first that is missing
        maker, state, record = _Maker(self), found.state, found.record
        for seq in takewhile(lambda seq: seq not in known, range(first, end + 1, self._every)):
            try:
                entries = await self._read_all(state.seq - 1 if record else state.seq, seq)
                record = await self._fold(state, record, entries, REST_S)
            except _Foreign:
                log.warning("the checkpoint at %d is of another ledger", before)
                await self._discard(before)
                return True
            if not await maker.make(state.copy(), record):
                return False
        return True


class _Maker:
    """Writes checkpoints one after the other, each based on the last that holds everything."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._base: Checkpoint | None = None

    async def make(self, state: State, record: str) -> bool:
        """Write one; False when that cannot be done now."""
        base = self._base
        if base is not None and state.seq - base.state.seq >= self._timeline.based_records:
            base = None
        written = await self._timeline.write(state, record, base)
        self._base = base or written
        return written is not None
