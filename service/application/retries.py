"""Retries: starts ended containers again when it is time, as the ledger says."""

import asyncio
import logging
from collections.abc import Callable

from events.observations import RetryScheduled
from events.record import Record
from projections.projector import Projector
from service.application.engine_gate import EngineGate
from service.application.writer import Writer
from service.domain.commands import Envelope, Facts
from service.domain.observing import is_retry_due
from service.domain.observing_commands import RetryReplicaSet
from service.errors import EngineUnavailable, LedgerError, ServiceBusy
from service.ports import Clock, Ids

log = logging.getLogger(__name__)

LOOK_S_MAX = 1.0
"""So often it looks at least, also at what could not be begun when it was due."""


class Retries:
    """`run` waits for what is due until it is cancelled. The ledger is all that it remembers."""

    def __init__(
        self,
        projector: Projector,
        writer: Writer,
        gate: EngineGate,
        clock: Clock,
        ids: Ids,
        facts: Callable[[], Facts],
    ) -> None:
        self._projector = projector
        self._writer = writer
        self._gate = gate
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._scheduled: set[str] = set()
        self._wake = asyncio.Event()
        projector.subscribe(self._on_record)

    def _on_record(self, seq: int, record: Record) -> None:
        if any(isinstance(event, RetryScheduled) for event in record.events):
            self._scheduled.add(record.name)
            self._wake.set()

    async def run(self) -> None:
        """Begin each retry when it is due."""
        state = self._projector.state
        self._scheduled |= {s.name for s in state.replica_sets.values() if s.retry_due_us}
        while True:
            wait_s = await self._begin_due()
            self._wake.clear()
            if wait_s is None:
                await self._wake.wait()
            else:
                await self._clock.sleep(wait_s)

    async def _begin_due(self) -> float | None:
        """Begin what is due; for how many seconds nothing else is, None for ever."""
        wait_s: float | None = None
        for name in sorted(self._scheduled):
            replica_set = self._projector.state.live(name)
            if replica_set is None or not replica_set.retry_due_us:
                self._scheduled.discard(name)
                continue
            now_us, due_us = self._clock.now_us(), replica_set.retry_due_us
            if is_retry_due(due_us, now_us):
                await self._begin(name, replica_set.retry, now_us)
            left_s = (due_us - now_us) / 1e6 if due_us > now_us else LOOK_S_MAX
            wait_s = min(left_s, LOOK_S_MAX if wait_s is None else wait_s)
        return wait_s

    async def _begin(self, name: str, attempt: int, now_us: int) -> None:
        try:
            await self._gate.require()  # what the engine can do is one of the facts
            envelope = Envelope(
                command_id=self._ids.new(),
                issued_at_us=now_us,
                command=RetryReplicaSet(name, attempt),
                facts=self._facts(),
                actor="retries",
            )
            await self._writer.submit(envelope)
        except (EngineUnavailable, LedgerError, ServiceBusy) as error:
            log.warning("%s was not started again yet: %s", name, error)
