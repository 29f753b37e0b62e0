"""Watcher: what the devices show becomes events: which GPUs there are, and how they fare."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from projections.projector import Projector, RowsBehind
from service.application.writer import Receipt, Writer
from service.domain.commands import Command, Envelope, Facts, ObserveGpus, ReportGpuErrors
from service.domain.rejections import Rejected
from service.errors import DeviceProbeError, LedgerUnavailable, ServiceBusy
from service.ports import Clock, DeviceProbe, GpuHealth, Ids

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0

FRESH_S = 1.0
"""A command that GPUs are chosen for is decided on a look that is not older than this."""

REFRESH_S_MAX = 2.0
"""So long does such a command wait for that look; then it is decided on what is known."""

RECORD_AGAIN_S = 1.0


class Watcher:
    """Looks at the GPUs now and then. `trouble` says why the last look failed, if it did."""

    def __init__(
        self,
        probe: DeviceProbe,
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
        self._looking: asyncio.Task[Receipt | Rejected | None] | None = None
        self._looked_at_s = float("-inf")
        self._boot = ""
        self.trouble: str | None = None

    async def look(self) -> None:
        """Record what changed since the last look. A look that fails changes nothing."""
        receipt = await self._look_once()
        if isinstance(receipt, Receipt):
            with suppress(RowsBehind):
                await self._projector.wait_stored(receipt.seq)

    async def refresh(self) -> None:
        """Look, unless that was done a moment ago, so that what is decided next is up to date.

        A driver that hangs holds nobody up for longer than REFRESH_S_MAX; the look goes on.
        """
        if self._clock.monotonic_s() - self._looked_at_s < FRESH_S:
            return
        await asyncio.wait((self._begin(),), timeout=REFRESH_S_MAX)

    async def run(self) -> None:
        """Look again and again, and record errors as they come, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick())
                group.create_task(self._listen())
        finally:
            if self._looking is not None:
                self._looking.cancel()
                await asyncio.gather(self._looking, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            await self.look()

    async def _listen(self) -> None:
        while True:
            errors = await self._probe.errors()
            while await self._record(ReportGpuErrors(errors, self._boot)) is None:
                await self._clock.sleep(RECORD_AGAIN_S)

    def _begin(self) -> "asyncio.Task[Receipt | Rejected | None]":
        """The look that is going on, or a new one: of two that wait for one, both have it."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._observe(), name="look at the GPUs")
        return self._looking

    async def _look_once(self) -> Receipt | Rejected | None:
        # Shielded: others may wait for the same look.
        return await asyncio.shield(self._begin())

    async def _observe(self) -> Receipt | Rejected | None:
        """Look, and have it recorded; None when that failed."""
        begun_s = self._clock.monotonic_s()
        try:
            health = await self._probe.health(self._let_go())
        except DeviceProbeError as error:
            if self.trouble is None:
                log.warning("the GPUs could not be looked at: %s", error)
            self.trouble = str(error)
            return None
        self.trouble = None
        self._boot = health.boot
        told = await self._record(_seen(health))
        if told is not None:
            self._looked_at_s = begun_s
        return told

    def _let_go(self) -> frozenset[str]:
        """What is not lent may be about to be reset: nothing of ours is to be in the way."""
        gpus = self._projector.state.gpus.values()
        return frozenset(gpu.uuid for gpu in gpus if gpu.quarantine is not None)

    async def _record(self, command: Command) -> Receipt | Rejected | None:
        """None when it could not be stored, or it is not known whether it was."""
        envelope = Envelope(
            command_id=self._ids.new(),
            issued_at_us=self._clock.now_us(),
            command=command,
            facts=self._facts(),
            actor="watcher",
        )
        try:
            return await self._writer.submit(envelope)
        except (LedgerUnavailable, ServiceBusy) as error:
            log.warning("what was seen of the GPUs was not recorded, next time: %s", error)
            return None


def _seen(health: GpuHealth) -> ObserveGpus:
    return ObserveGpus(health.gpus, health.reports, health.missing, health.boot)
