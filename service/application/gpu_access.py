"""GpuAccessWatch: looks whether running containers are still let at their GPUs.

A running container can lose them: `systemctl daemon-reload` on the host takes the rules away by
which it may open their devices, and tells nobody. So all are looked at every two minutes, and those
that were started or whose GPUs reported errors a moment later. What is new is recorded; what is
done about it is the rules' (`service/domain/observing.py`).
"""

import asyncio
import logging
from collections.abc import Callable
from zlib import crc32

from events.observations import ContainerFoundRunning
from events.outcomes import ContainerStarted
from events.record import Record
from events.resources import GpuErrorReported, GpuFellIll
from events.values import versioned
from projections.projector import Projector
from service.application.instants import instant_us
from service.application.writer import Writer
from service.domain.commands import Envelope, Facts
from service.domain.observing import has_gpus, observed_access, observes
from service.domain.observing_commands import ObserveGpuAccess
from service.errors import EngineError, LedgerError, ServiceBusy
from service.ports import Clock, GpuAccessProbe, Ids

log = logging.getLogger(__name__)

LOOK_EVERY_S = 120.0
AFTER_EVENT_S = 5.0
"""So long after something happened; the NVIDIA hook is through by then."""


class GpuAccessWatch:
    """`run` looks until it is cancelled."""

    def __init__(
        self,
        probe: GpuAccessProbe,
        writer: Writer,
        projector: Projector,
        clock: Clock,
        ids: Ids,
        facts: Callable[[], Facts],
    ) -> None:
        self._probe = probe
        self._writer = writer
        self._projector = projector
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._unknown: dict[str, str] = {}
        """By container why nothing is known of it, so that it is logged once."""
        self._wake = asyncio.Event()
        projector.subscribe(self._on_record)

    def _on_record(self, seq: int, record: Record) -> None:
        telling = ContainerStarted | ContainerFoundRunning | GpuErrorReported | GpuFellIll
        if any(isinstance(event, telling) for event in record.events):
            self._wake.set()

    async def run(self) -> None:
        """Look now and then, and after what may have to do with it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick())
            group.create_task(self._look_after_events())

    async def _tick(self) -> None:
        while True:
            await self.look()
            await self._clock.sleep(LOOK_EVERY_S)

    async def _look_after_events(self) -> None:
        while True:
            await self._wake.wait()
            await self._clock.sleep(AFTER_EVENT_S)
            self._wake.clear()
            await self.look()

    async def look(self) -> None:
        """Look at every container that has GPUs and runs, one after the other."""
        for name in sorted(self._projector.state.replica_sets):
            try:
                await self._look_at(name)
            except EngineError as error:
                log.info("whether %s may use its GPUs is not known now: %s", name, error)
                return
            except (LedgerError, ServiceBusy) as error:
                log.warning("what was seen of the GPUs of %s is not recorded yet: %s", name, error)

    async def _look_at(self, name: str) -> None:
        state, at_seq = self._projector.state, self._projector.folded_seq
        replica_set = state.live(name)
        if replica_set is None or not observes(state, name):
            return
        revision = state.revisions[name, replica_set.current]
        if not has_gpus(revision):
            return
        container = versioned(name, revision.number)
        seen = await self._probe.look(container)
        if seen.state == "unknown":
            if self._unknown.get(name) != seen.detail:
                log.info("whether %s may use its GPUs is not known: %s", container, seen.detail)
            self._unknown[name] = seen.detail
            return
        self._unknown.pop(name, None)
        command_id, now_us = self._ids.new(), self._clock.now_us()
        command = ObserveGpuAccess(
            name,
            lost=seen.state == "lost",
            message=seen.detail,
            looked_at_seq=at_seq,
            ran_s=max(0, now_us - instant_us(revision.started_at)) / 1e6,
            jitter=crc32(command_id.encode()) / 0xFFFFFFFF,
        )
        if observed_access(self._projector.state, now_us, command):
            envelope = Envelope(command_id, now_us, command, self._facts(), actor="gpu-access")
            await self._writer.submit(envelope)
