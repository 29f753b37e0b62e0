"""Writer: the only appender. Reads its queue, decides, appends, and only then answers.

What waits is decided in order on a state that runs ahead of the ledger by at most one batch,
and appended together. When the ledger does not confirm, that state is thrown away: it is taken
anew from the projector, once that has folded all that the ledger holds.
"""

import asyncio
import logging
from time import perf_counter

from msgspec import Struct

from events.codec import RecordTooLarge, encode
from events.record import Event, Record
from events.subjects import subject_of
from projections.evolve import evolve
from projections.projector import Projector, ProjectorStopped
from projections.state import State
from service.domain.commands import Envelope, RecordOutcome, RecordProgress
from service.domain.decide import address, decide
from service.domain.rejections import Reason, Rejected
from service.errors import LedgerConflict, LedgerUnavailable, ServiceBusy
from service.ports import Entry, Ledger
from service.telemetry import Metrics

log = logging.getLogger(__name__)

WAITING_MAX = 1000
"""So many commands may wait; one more is told that the service is busy."""

BATCH_MAX = 256
"""So many are decided and appended together; the ledger takes up to 1,000."""

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


class Writer:
    """Submit from anywhere; `run` does the work, in one place and in order."""

    def __init__(self, ledger: Ledger, projector: Projector, node: str, metrics: Metrics) -> None:
        self._ledger = ledger
        self._projector = projector
        self._node = node
        self._metrics = metrics
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(WAITING_MAX)
        self._state: State | None = None
        self._ended = False

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
                batch = [await self._queue.get()]
                while len(batch) < BATCH_MAX and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                await self._write(batch)
        finally:
            self._ended = True
            waiting = [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            _refuse([*batch, *waiting], ENDED)

    async def _write(self, batch: list[_Waiting]) -> None:
        if self._state is None:
            try:
                self._state = await asyncio.wait_for(self._caught_up(), RECOVERY_S)
            except (LedgerUnavailable, ProjectorStopped, TimeoutError) as error:
                _refuse(batch, f"the ledger cannot be reached: {_why(error)}")
                return
        before = self._state.seq
        entries: list[Entry] = []
        answers: list[tuple[_Waiting, Receipt | Rejected]] = []
        for waiting in batch:
            answer = self._decide(self._state, waiting, entries)
            if answer is not None:
                answers.append((waiting, answer))
        if entries and not await self._append(entries, before):
            self._state = None
            await self._resolve(answers, before)
            return
        for waiting, answer in answers:
            if not waiting.answer.done():
                waiting.answer.set_result(answer)

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
            body = encode(record)
        except RecordTooLarge as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
            return None
        entries.append(Entry(subject_of(record), record.command_id, body))
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
        await self._projector.wait_folded(await self._ledger.last_seq())
        return self._projector.state.copy()

    async def _resolve(
        self, answers: list[tuple[_Waiting, Receipt | Rejected]], before: int
    ) -> None:
        """Find out what of an unconfirmed batch was stored, and answer accordingly."""
        try:
            async with asyncio.timeout(RECOVERY_S):
                self._state = await self._caught_up()
                for waiting, answer in answers:
                    await self._resolve_one(waiting, answer, before)
        except (LedgerUnavailable, ProjectorStopped, TimeoutError) as error:
            message = (
                f"the ledger did not confirm, so it is not known what it stored: {_why(error)}"
            )
            _refuse([waiting for waiting, _ in answers], message)

    async def _resolve_one(
        self, waiting: _Waiting, answer: Receipt | Rejected, before: int
    ) -> None:
        """A refusal is not told: what it was decided on may never have come to be."""
        seq: int | None = None
        if isinstance(answer, Receipt):
            known = answer.seq <= before  # it was sent before, and stored then
            command_id = waiting.envelope.command_id
            seq = answer.seq if known else await self._ledger.find(command_id, before)
        if seq is None:
            _refuse([waiting], "the ledger did not confirm, and nothing was stored")
        elif not waiting.answer.done():
            waiting.answer.set_result(Receipt(seq, _operation_of(waiting.envelope)))


def _operation_of(envelope: Envelope) -> str:
    """The caller's operation that a command belongs to: its own, or that of its effect."""
    command = envelope.command
    if isinstance(command, RecordOutcome | RecordProgress):
        return command.effect.operation_id
    return "" if address(command)[0] == "node" else envelope.command_id


def _record(envelope: Envelope, events: tuple[Event, ...], node: str) -> Record:
    kind, name, verb = address(envelope.command)
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
        operation_id=_operation_of(envelope),
        traceparent=envelope.traceparent,
    )


def _why(error: Exception) -> str:
    return str(error) or f"no answer within {RECOVERY_S:.0f} s"


def _refuse(batch: list[_Waiting], message: str) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(LedgerUnavailable(message))
