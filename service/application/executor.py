"""Executor: does what reconcile says is due, and reports each outcome as a command.

Level-triggered: it asks the folded ledger what is due and remembers only what it is doing just
now, so a start after a crash is the normal path. An effect that is refused is reported; one
whose reply was lost is done again after a pause (it is idempotent), for as long as it is due; of
what an operation can fail by, for AWAY_S_MAX.
"""

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from events.codec import RecordTooLarge
from events.operations import OperationFailed, OperationSucceeded
from events.record import Record
from events.values import split_at_version
from projections.evolve_replica_sets import volumes_of
from projections.projector import Projector, ProjectorStopped
from service.application.performer import Performer
from service.application.writer import Writer
from service.domain.commands import (
    Command,
    Envelope,
    Facts,
    Failed,
    RecordOutcome,
    RecordProgress,
    Succeeded,
)
from service.domain.effects import (
    CreateContainer,
    Effect,
    Execute,
    Settle,
    kind_of,
)
from service.domain.giving_up import MUST_SUCCEED, may_give_up
from service.domain.reconcile import reconcile
from service.domain.reconcile_idle import is_under_way
from service.domain.rejections import Rejected
from service.errors import EngineUnavailable, LedgerError, ServiceBusy
from service.ports import Clock, Progress
from service.telemetry import Metrics, span_from

log = logging.getLogger(__name__)

AT_ONCE_MAX = 32
"""So many effects are being done at a time; Docker's own work is mostly serial below that."""

EXECUTIONS_MAX = 128
"""So many commands run in containers at a time. They are counted apart, because they take as
long as they like: the stop that ends one must never wait for it."""

PAUSE_S_MIN = 0.25
RETRY_S_MAX = 30.0
"""So long, at most, until what was refused, or not recorded, is tried again."""

AWAY_PAUSE_S_MAX = 5.0
"""And what the engine did not answer: when it is back, everybody waits for us."""

PROGRESS_EVERY_S = 2.0
"""Progress is recorded at most this often, so that a long pull does not fill the log."""

AWAY_S_MAX = 600.0
"""So long an operation waits for an engine that does not answer. Then it fails; what it had begun
is undone, and what it leased is given back, as soon as the engine answers again."""


class Executor:
    """`run` does effects until it is cancelled."""

    def __init__(
        self,
        projector: Projector,
        writer: Writer,
        performer: Performer,
        clock: Clock,
        facts: Callable[[], Facts],
        metrics: Metrics,
    ) -> None:
        self._projector = projector
        self._writer = writer
        self._performer = performer
        self._clock = clock
        self._facts = facts
        self._metrics = metrics
        self._wanted: dict[tuple[str, str], None] = {}
        self._wake = asyncio.Event()
        self._doing: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        self._executions = asyncio.Semaphore(EXECUTIONS_MAX)
        self._traces: dict[str, str] = {}
        self._begun: set[str] = set()
        """Operations whose execution was begun, perhaps in an earlier life: never again."""
        self._reports: set[asyncio.Future[None]] = set()
        self._executing: set[asyncio.Task[None]] = set()
        self._finishing = False
        projector.subscribe(self._on_record)

    def _on_record(self, seq: int, record: Record) -> None:
        if record.kind in ("node", "gpu", "price", "month"):
            return  # nothing is ever due for these
        if record.traceparent and record.operation_id == record.command_id:
            self._traces[record.operation_id] = record.traceparent
        if isinstance(record.events[-1], OperationSucceeded | OperationFailed):
            self._traces.pop(record.operation_id, None)
            self._begun.discard(record.operation_id)
        self._want(record.kind, record.name)
        self._wake.set()

    def _want(self, kind: str, name: str) -> None:
        """Look at a name again, and at those that stand still or wait because of it."""
        self._wanted[kind, name] = None
        state = self._projector.state
        if kind == "orphan":
            return
        if kind == "volume":
            for user in sorted(state.volume_users.get(name, ())):
                self._wanted["replica_set", user] = None
            return
        self._wanted["volume", name] = None  # its data disk, if it has one
        replica_set = state.replica_sets.get(name)
        if replica_set is not None and (of := split_at_version(replica_set.debug_of)):
            self._wanted["replica_set", of[0]] = None  # what waits for its disk to be copied
        for loan in replica_set.loans if replica_set is not None else ():
            self._wanted["replica_set", loan.to] = None
        revision = state.revisions.get((name, replica_set.current)) if replica_set else None
        if revision is not None:
            for volume in sorted(volumes_of(revision.spec)):
                self._wanted["volume", volume] = None

    async def run(self) -> None:
        """Do what is due until cancelled; cancelling leaves effects to the next start.

        Raises ProjectorStopped.
        """
        self._resume()
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._projector.failure is not None:
                    # The fold stands still: what it says is due may have been done since.
                    raise ProjectorStopped(self._projector.failure)
                wanted, self._wanted = self._wanted, {}
                for kind, name in wanted:
                    for effect in reconcile(self._projector.state, kind, name):
                        self._begin(effect)
        finally:
            doing = (*self._doing.values(), *self._reports)
            for task in doing:
                task.cancel()
            await asyncio.gather(*doing, return_exceptions=True)

    async def finish(self, *, executions_s: float, steps_s: float) -> None:
        """Begin nothing new; return when what is being done is done and recorded, or time is up.

        Executions have a time of their own, as they are never repeated.
        """
        self._finishing = True
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while self._doing:
            left = (executions_s if self._executing else steps_s) - (loop.time() - begun)
            if left <= 0:
                break
            await asyncio.wait(
                self._doing.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            await asyncio.sleep(0)  # `run` has its turn, and settles what has ended

    def _resume(self) -> None:
        """After a start: everything unfinished is looked at; executions are not repeated."""
        state = self._projector.state
        for operation in state.operations.values():
            if operation.state == "running":
                self._want(operation.kind, operation.name)
                if operation.verb == "execute":
                    self._begun.add(operation.id)
        for replica_set in state.replica_sets.values():
            current = state.revisions.get((replica_set.name, replica_set.current))
            begun = current is not None and is_under_way(current)
            if replica_set.expiring or replica_set.to_compact or begun:
                self._want("replica_set", replica_set.name)
        for orphan in state.node.expiring if state.node is not None else ():
            self._want("orphan", orphan.id)
        self._wake.set()

    def _begin(self, effect: Effect) -> None:
        if effect.effect_id in self._doing:
            return
        if self._finishing and not isinstance(effect, Settle):
            return
        task = asyncio.create_task(self._do(effect), name=effect.effect_id)
        self._doing[effect.effect_id] = task
        if isinstance(effect, Execute):
            self._executing.add(task)
        task.add_done_callback(lambda done: self._done(effect, done))

    def _done(self, effect: Effect, task: "asyncio.Task[None]") -> None:
        del self._doing[effect.effect_id]
        self._executing.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("effect %s broke off", effect.effect_id, exc_info=error)
        # What became due meanwhile, or is due again, is seen on the next look.
        self._want(kind_of(effect), effect.name)
        self._wake.set()

    async def _do(self, effect: Effect) -> None:
        traceparent = self._traces.get(effect.operation_id, "")
        with span_from(traceparent, type(effect).__name__):
            outcome = await self._outcome(effect)
        if outcome is not None:
            await self._report(effect, RecordOutcome(effect, outcome))

    async def _outcome(self, effect: Effect) -> Succeeded | Failed | None:
        """What came of it: tried until there is an answer, and taking away until it is done.

        None when it is not due any more: its outcome was on its way into the ledger before this
        process began.
        """
        attempt, asked_s = 0, self._clock.monotonic_s()
        while self._is_due(effect):
            outcome = await self._attempt(effect)
            pause_s_max = RETRY_S_MAX
            if isinstance(outcome, EngineUnavailable):
                away_s = self._clock.monotonic_s() - asked_s
                if away_s >= AWAY_S_MAX and may_give_up(self._projector.state, effect):
                    text = f"given up, as Docker has not answered for {away_s / 60:.0f} minutes"
                    return Failed("engine_unavailable", f"{text}: {outcome}")
                pause_s_max = AWAY_PAUSE_S_MAX
            elif isinstance(outcome, Failed) and isinstance(effect, MUST_SUCCEED):
                log.warning("%s refused, trying again: %s", effect.effect_id, outcome.message)
            elif outcome is not None:
                return outcome
            await self._pause(attempt, pause_s_max)
            attempt += 1
        return None

    def _is_due(self, effect: Effect) -> bool:
        due = reconcile(self._projector.state, kind_of(effect), effect.name)
        return any(other.effect_id == effect.effect_id for other in due)

    async def _attempt(self, effect: Effect) -> Succeeded | Failed | EngineUnavailable | None:
        """Do it; the engine's silence, or None, when it is not known what came of it."""
        name = type(effect).__name__
        if isinstance(effect, Execute):
            if effect.operation_id in self._begun:
                return Failed(
                    "interrupted",
                    "the service stopped while the command ran: whether it ran to its end is"
                    " not known",
                )
            self._begun.add(effect.operation_id)
        async with self._executions if isinstance(effect, Execute) else self._slots:
            begun = self._clock.monotonic_s()
            outcome: Succeeded | Failed | EngineUnavailable | None
            try:
                outcome = await self._performer.perform(effect, self._progress_of(effect))
            except EngineUnavailable as error:
                log.warning("%s: no answer, trying again: %s", effect.effect_id, error)
                outcome = error
            except Exception:
                # A fault of ours. It is tried again with pauses, and other effects go on.
                log.exception("%s broke off, trying again", effect.effect_id)
                outcome = None
        if outcome is None or isinstance(outcome, EngineUnavailable):
            self._metrics.effects.labels(name, "unknown").inc()
            return outcome
        self._metrics.effect_duration.labels(name).observe(self._clock.monotonic_s() - begun)
        word = "succeeded" if isinstance(outcome, Succeeded) else "failed"
        self._metrics.effects.labels(name, word).inc()
        return outcome

    async def _report(self, effect: Effect, command: RecordOutcome) -> None:
        """Record it, and wait until the fold shows it: until then the effect counts as doing."""
        attempt = 0
        while True:
            try:
                receipt = await self._writer.submit(self._envelope(effect, command, "done"))
                if not isinstance(receipt, Rejected):
                    about = {"seq": receipt.seq, "operation_id": effect.operation_id}
                    word = "done" if isinstance(command.outcome, Succeeded) else "failed"
                    log.info("%s %s", effect.effect_id, word, extra=about)
                    await self._projector.wait_folded(receipt.seq)
                else:
                    # An old story, which the fold shows in a moment: not to be done again at once.
                    await self._pause(0)
                return
            except (LedgerError, ServiceBusy) as error:
                log.warning("%s not recorded yet: %s", effect.effect_id, error)
            except ProjectorStopped:
                return  # health is red, and nothing more will be folded
            except RecordTooLarge as error:
                command = _told_shortly(effect, error)
            await self._pause(attempt)
            attempt += 1

    async def _report_progress(self, effect: Effect, command: RecordProgress, what: str) -> None:
        """Record it, or not: the next one says more.

        Never a second time: one that was stored and not confirmed would be due still, and the
        ledger refuses the id, and with it every command in the same batch.
        """
        try:
            await self._writer.submit(self._envelope(effect, command, what))
        except (LedgerError, ServiceBusy) as error:
            log.info("progress of %s not recorded: %s", effect.effect_id, error)

    async def _pause(self, attempt: int, most_s: float = RETRY_S_MAX) -> None:
        await self._clock.sleep(min(PAUSE_S_MIN * 2**attempt, most_s))

    def _envelope(self, effect: Effect, command: Command, what: str) -> Envelope:
        operation = self._projector.state.operations.get(effect.operation_id)
        return Envelope(
            command_id=f"{effect.effect_id}/{what}",
            issued_at_us=self._clock.now_us(),
            command=command,
            facts=self._facts(),
            actor="executor",
            tenant=operation.tenant if operation else "",
            traceparent=self._traces.get(effect.operation_id, ""),
        )

    def _progress_of(self, effect: Effect) -> Callable[[Progress], None]:
        last = [self._clock.monotonic_s()]

        def report(progress: Progress) -> None:
            now = self._clock.monotonic_s()
            if now - last[0] < PROGRESS_EVERY_S:
                return
            last[0] = now
            command = RecordProgress(effect, progress.done_bytes, progress.total_bytes)
            task = asyncio.ensure_future(
                self._report_progress(effect, command, f"progress-{self._clock.now_us()}")
            )
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)

        return report


def _told_shortly(effect: Effect, error: RecordTooLarge) -> RecordOutcome:
    """That its outcome has no room in a record: it is undone, as it would never end. Of the effect
    is told which one it is, and nothing that a caller could make long."""
    if isinstance(effect, CreateContainer):
        effect = replace(effect, config={})
    return RecordOutcome(effect, Failed("too_large", str(error)))
