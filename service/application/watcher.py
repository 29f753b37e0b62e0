"""Watcher: what the devices show becomes events. A GPU that appears or is gone is a fact."""

import logging
from collections.abc import Callable

from projections.projector import Projector
from service.application.writer import Writer
from service.domain.commands import Envelope, Facts, ObserveGpus
from service.domain.rejections import Rejected
from service.errors import DeviceProbeError, LedgerUnavailable, ServiceBusy
from service.ports import Clock, DeviceProbe, Ids

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0


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
        self.trouble: str | None = None

    async def look(self) -> None:
        """Record what changed since the last look. A look that fails changes nothing."""
        try:
            gpus = await self._probe.gpus()
        except DeviceProbeError as error:
            if self.trouble is None:
                log.warning("the GPUs could not be looked at: %s", error)
            self.trouble = str(error)
            return
        self.trouble = None
        envelope = Envelope(
            command_id=self._ids.new(),
            issued_at_us=self._clock.now_us(),
            command=ObserveGpus(gpus),
            facts=self._facts(),
            actor="watcher",
        )
        try:
            receipt = await self._writer.submit(envelope)
        except (LedgerUnavailable, ServiceBusy) as error:
            log.warning("the GPUs seen were not recorded, next time: %s", error)
            return
        if not isinstance(receipt, Rejected):
            await self._projector.wait_stored(receipt.seq)

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            await self.look()
