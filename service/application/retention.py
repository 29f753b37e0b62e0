"""Retention: looks after kept system disks, so that they do not fill the disk.

Whenever a replica set's operation ends its kept disks are counted; every minute all of them are
looked at for their age, and the disk for its free space. What is due is decided by the rules
(`service/domain/retention.py`), recorded, and removed by the executor like anything else.
"""

import asyncio
import logging
from collections.abc import Callable

from events.operations import OperationFailed, OperationSucceeded
from events.record import Record
from events.values import show_size
from projections.projector import Projector
from service.application.writer import Writer
from service.disk_ports import SystemDisks
from service.domain.commands import Envelope, ExpireSnapshots, Facts
from service.domain.retention import due_to_expire, oldest_removable
from service.errors import EngineUnavailable, LedgerError, ServiceBusy, SystemDiskError
from service.ports import Clock, Ids

log = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0
LOOK_AGAIN_S = 5.0
"""After a disk was given up for its space, which takes a moment to come back."""

REMOVAL_S_MAX = 600.0
"""So long a disk that was given up for its space may take to go before the next one has to."""


class Retention:
    """`run` looks until it is cancelled. `free_bytes_min` is what must stay free on the disk."""

    def __init__(
        self,
        projector: Projector,
        writer: Writer,
        disks: SystemDisks,
        clock: Clock,
        ids: Ids,
        facts: Callable[[], Facts],
        free_bytes_min: int,
    ) -> None:
        self._projector = projector
        self._writer = writer
        self._disks = disks
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._free_bytes_min = free_bytes_min
        self._ended: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._going: tuple[str, int, float] | None = None
        """The set and version given up last for the space, and when (monotonic)."""
        projector.subscribe(self._on_record)

    def _on_record(self, seq: int, record: Record) -> None:
        if record.kind == "replica_set" and isinstance(
            record.events[-1], OperationSucceeded | OperationFailed
        ):
            self._ended[record.name] = None
            self._wake.set()

    async def run(self) -> None:
        """Count what ended, and look at all of it now and then."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._count())
            group.create_task(self._tick())

    async def _count(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            ended, self._ended = self._ended, {}
            for name in ended:
                await self._expire(ExpireSnapshots(name))

    async def _tick(self) -> None:
        while True:
            short = await self.look()
            await self._clock.sleep(LOOK_AGAIN_S if short else LOOK_EVERY_S)

    async def look(self) -> bool:
        """Look at the age of all kept disks, and at the space that they leave.

        True when one was given up for the space: whether that was enough is to be seen soon.
        """
        for replica_set in tuple(self._projector.state.replica_sets.values()):
            if replica_set.snapshots:
                await self._expire(ExpireSnapshots(replica_set.name))
        try:
            free = await self._disks.free_bytes()
        except (EngineUnavailable, SystemDiskError) as error:
            log.info("how much space kept system disks leave is not known now: %s", error)
            return False
        if free is None or free >= self._free_bytes_min:
            return False
        oldest = oldest_removable(self._projector.state)
        short = f"{show_size(free)} were free, {show_size(self._free_bytes_min)} must be"
        if self._is_going():
            return True
        if oldest is None:
            log.warning("the disk of the containers is nearly full: %s; nothing to give up", short)
            return False
        self._going = oldest.name, oldest.number, self._clock.monotonic_s()
        await self._expire(ExpireSnapshots(oldest.name, short))
        return True

    def _is_going(self) -> bool:
        """Is what was given up for the space still there? What it gives back may be enough."""
        if self._going is None:
            return False
        name, number, since_s = self._going
        replica_set = self._projector.state.replica_sets.get(name)
        is_there = replica_set is not None and number in replica_set.expiring
        return is_there and self._clock.monotonic_s() - since_s < REMOVAL_S_MAX

    async def _expire(self, command: ExpireSnapshots) -> None:
        """Record what is due, if anything is. What is not recorded is due at the next look."""
        now_us, facts = self._clock.now_us(), self._facts()
        if not due_to_expire(self._projector.state, facts, now_us, command):
            return
        envelope = Envelope(
            command_id=self._ids.new(),
            issued_at_us=now_us,
            command=command,
            facts=facts,
            actor="retention",
        )
        try:
            await self._writer.submit(envelope)
        except (LedgerError, ServiceBusy) as error:
            log.warning("system disks of %s not given up yet: %s", command.name, error)
