"""Writer: the only appender. Reads its queue, decides, appends, and only then answers.

What waits is decided in order on a state that runs ahead of the ledger by a few batches, and
appended together. Nobody is answered before all that the answer rests on is confirmed. When the
ledger does not confirm, that state is thrown away: it is taken anew from the projector, once that
has folded all that the ledger holds.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from time import perf_counter

from msgspec import Struct

from events.codec import RecordTooLarge
from events.record import Event, Record, acceptance
from projections.evolve import evolve
from projections.projector import Projector, ProjectorStopped
from projections.state import State
from service.application.chain import Chain, chain_after
from service.domain.commands import Envelope, RecordOutcome, RecordProgress
from service.domain.decide import VERBS, address, decide
from service.domain.rejections import Reason, Rejected
from service.errors import LedgerConflict, LedgerUnavailable, ServiceBusy
from service.ports import Entry, Ledger
from service.telemetry import Metrics

log = logging.getLogger(__name__)

WAITING_MAX = 1000
"""So many commands may wait; one more is told that the service is busy."""

BATCH_MAX = 256
"""So many are decided and appended together; the ledger takes up to 1,000."""

ON_THEIR_WAY_MAX = 4
"""So many batches may be unconfirmed; the next is decided and sent while they are written."""

RECOVERY_S = 15.0
"""So long a command waits for a ledger that does not confirm; a leader election takes 5 s."""

ENDED = "the service is stopping, or its writer has failed"


class Receipt(Struct, frozen=True):
    """Proof of append: the record is in the ledger at `seq`."""

    seq: int
    operation_id: str


class _Waiting(Struct):
    envelope: Envelope
    answer: "asyncio.Future[Receipt | Rejected]"
    message_id: str = ""
    """Of the entry that was made of it."""


Answers = list[tuple[_Waiting, Receipt | Rejected]]
"""What to tell whom, once what it was decided on is stored."""


class Writer:
    """Submit from anywhere; `run` does the work, in one place and in order."""

    def __init__(self, ledger: Ledger, projector: Projector, node: str, metrics: Metrics) -> None:
        self._ledger = ledger
        self._projector = projector
        self._node = node
        self._metrics = metrics
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue(WAITING_MAX)
        self._state: State | None = None
        self._chain = Chain("")
        """Goes with the state."""
        self._sent: deque[asyncio.Task[bool]] = deque()
        """Batches on their way, oldest first; each is confirmed only after those before it."""
        self._unresolved: list[tuple[Answers, int]] = []
        """Batches that were not confirmed, with the sequence each was to follow."""
        self._fault: Exception | None = None
        """What a batch met that no ledger should do: it ends the writer."""
        self._ended = False
        self.confirmed_seq = 0
        """The last record that the ledger has confirmed to this writer."""

    async def submit(self, envelope: Envelope) -> Receipt | Rejected:
        """Decide on a command and store the decision, durably.

        Raises ServiceBusy (nothing was stored), LedgerUnavailable (it may be stored: the same
        command id may be sent again), RecordTooLarge (nothing was stored).
        """
        if self._ended:
            raise LedgerUnavailable(ENDED)
        answer: asyncio.Future[Receipt | Rejected] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Waiting(envelope, answer))
        except asyncio.QueueFull:
            raise ServiceBusy(
                f"{WAITING_MAX} commands are waiting already; send it again in a moment"
            ) from None
        return await answer

    async def run(self) -> None:
        """Serve the queue until cancelled. However it ends, nobody is left waiting."""
        batch: list[_Waiting] = []
        try:
            while True:
                batch = await self._next()
                if self._fault is not None:
                    raise self._fault
                if self._unresolved:
                    await self._recover()
                if batch:
                    await self._write(batch)
        finally:
            self._ended = True
            for task in self._sent:
                task.cancel()
            await asyncio.gather(*self._sent, return_exceptions=True)
            left = [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            _refuse([*batch, *self._unanswered(), *(one for one in left if one)], ENDED)

    async def _next(self) -> list[_Waiting]:
        """What waits, in order; empty when there is only something to be resolved."""
        batch = [await self._queue.get()]
        while len(batch) < BATCH_MAX and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return [waiting for waiting in batch if waiting is not None]

    async def _write(self, batch: list[_Waiting]) -> None:
        if self._state is not None and self._projector.folded_seq > self._state.seq:
            # What a writer before this one sent was stored only after this one had looked. Who is
            # refused because of that would be so for ever: a refusal meets no conflict.
            log.warning("the ledger has records after %d of another writer", self._state.seq)
            self._state = None
        if self._state is None:
            try:
                self._state = await asyncio.wait_for(self._caught_up(), RECOVERY_S)
            except (LedgerUnavailable, ProjectorStopped, TimeoutError) as error:
                _refuse(batch, f"the ledger cannot be reached: {_why(error)}")
                return
        before = self._state.seq
        entries: list[Entry] = []
        answers: Answers = []
        for waiting in batch:
            answer = self._decide(self._state, waiting, entries)
            if answer is not None:
                answers.append((waiting, answer))
        earlier = self._sent[-1] if self._sent else None
        task = asyncio.create_task(self._send(entries, before, answers, earlier))
        self._sent.append(task)
        task.add_done_callback(self._sent.remove)
        if len(self._sent) >= ON_THEIR_WAY_MAX:
            await asyncio.wait([self._sent[0]])

    async def _send(
        self,
        entries: list[Entry],
        before: int,
        answers: Answers,
        earlier: "asyncio.Task[bool] | None",
    ) -> bool:
        """Append a batch and answer it. What is not confirmed is left to be resolved."""
        confirmed = False
        try:
            confirmed = not entries or await self._append(entries, before)
            if earlier is not None:
                if not earlier.done():
                    await asyncio.wait([earlier])
                confirmed = confirmed and not earlier.cancelled() and earlier.result()
        except Exception as error:
            confirmed, self._fault = False, error
        finally:
            if not confirmed:
                self._unresolved.append((answers, before))
                with suppress(asyncio.QueueFull):  # full: then there is somebody to wake it
                    self._queue.put_nowait(None)
        if confirmed:
            self.confirmed_seq = before + len(entries)
            for waiting, answer in answers:
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)
        return confirmed

    def _decide(
        self, state: State, waiting: _Waiting, entries: list[Entry]
    ) -> Receipt | Rejected | None:
        """The answer to give once the entries are stored; None when it was given already."""
        envelope = waiting.envelope
        known = state.operations.get(envelope.command_id)
        if known is not None:
            if known.fingerprint != envelope.fingerprint:
                return Rejected(
                    Reason.IDEMPOTENCY_KEY_REUSED,
                    f"this idempotency key was used for a {known.verb} of {known.name}",
                )
            return Receipt(known.seq, known.id)
        decision = decide(state, envelope)
        if isinstance(decision, Rejected):
            return decision
        record = _record(envelope, decision, self._node)
        try:
            entry = self._chain.link(state.seq + 1, record, envelope)
        except RecordTooLarge as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
            return None
        waiting.message_id = entry.message_id
        entries.append(entry)
        evolve(state, state.seq + 1, record)
        state.forget_touched()
        return Receipt(state.seq, record.operation_id)

    async def _append(self, entries: list[Entry], before: int) -> bool:
        begun = perf_counter()
        try:
            await self._ledger.append(entries, before)
        except (LedgerUnavailable, LedgerConflict) as error:
            log.warning("%d records after %d not confirmed: %s", len(entries), before, error)
            return False
        self._metrics.append_duration.observe(perf_counter() - begun)
        return True

    async def _caught_up(self) -> State:
        """A state as of the end of the ledger."""
        last_seq = await self._ledger.last_seq()
        await self._projector.wait_folded(last_seq)
        self.confirmed_seq = max(self.confirmed_seq, last_seq)
        state = self._projector.state.copy()
        self._chain = await chain_after(self._ledger, state.seq)
        return state

    async def _recover(self) -> None:
        """Throw away the state that ran ahead; find out what of it was stored, and say so."""
        if self._sent:
            await asyncio.wait(self._sent)
        self._state = None
        try:
            async with asyncio.timeout(RECOVERY_S):
                self._state = await self._caught_up()
                for answers, before in self._unresolved:
                    for waiting, answer in answers:
                        await self._resolve_one(waiting, answer, before)
        except (LedgerUnavailable, ProjectorStopped, TimeoutError) as error:
            message = (
                f"the ledger did not confirm, so it is not known what it stored: {_why(error)}"
            )
            _refuse(self._unanswered(), message)
        self._unresolved.clear()

    def _unanswered(self) -> list[_Waiting]:
        return [waiting for answers, _ in self._unresolved for waiting, _ in answers]

    async def _resolve_one(
        self, waiting: _Waiting, answer: Receipt | Rejected, before: int
    ) -> None:
        """A refusal is not told: what it was decided on may never have come to be."""
        seq: int | None = None
        if isinstance(answer, Receipt):
            known = answer.seq <= before  # it was sent before, and stored then
            seq = answer.seq if known else await self._ledger.find(waiting.message_id, before)
        if seq is None:
            _refuse([waiting], "the ledger did not confirm, and nothing was stored")
        elif not waiting.answer.done():
            waiting.answer.set_result(Receipt(seq, _operation_of(waiting.envelope)))


def _operation_of(envelope: Envelope) -> str:
    """The caller's operation that a command belongs to: its own, or that of its effect."""
    command = envelope.command
    if isinstance(command, RecordOutcome | RecordProgress):
        return command.effect.operation_id
    return envelope.command_id if type(command) in VERBS else ""


def _record(envelope: Envelope, events: tuple[Event, ...], node: str) -> Record:
    kind, name, verb = address(envelope.command)
    accepted = acceptance(events)
    return Record(
        command_id=envelope.command_id,
        node=node,
        kind=kind,
        name=name,
        verb=verb,
        at_us=envelope.issued_at_us,
        events=events,
        actor=envelope.actor,
        tenant=envelope.tenant,
        remote=envelope.remote,
        operation_id=accepted.operation_id if accepted else _operation_of(envelope),
        traceparent=envelope.traceparent,
    )


def _why(error: Exception) -> str:
    return str(error) or f"no answer within {RECOVERY_S:.0f} s"


def _refuse(batch: list[_Waiting], message: str) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(LedgerUnavailable(message))
