"""The service with its webhooks, as the bootstrap has them; and one that does nothing else."""

from contextlib import AsyncExitStack
from typing import Any

from service.application.event_feed import EventFeed
from service.application.supervisor import Supervisor
from service.application.webhooks import Webhooks
from service.web.event_secrets import hidden_body
from tests.kit.builders import NODE
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.simulation.delivery_line import LineDeliveries
from tests.simulation.line import Line, Seen
from tests.simulation.receivers import Abroad, LineSender


class CallingService(SimulatedService):
    """One life of a service whose webhooks are at the end of a line."""

    webhooks: Webhooks

    def __init__(
        self, host: SimulatedHost, line: Line, abroad: Abroad, seen: Seen, **ports: Any
    ) -> None:
        super().__init__(host, **ports)
        self._abroad_on = line, abroad, seen

    async def _start(self, stack: AsyncExitStack) -> None:
        await super()._start(stack)
        (line, abroad, seen), projector = self._abroad_on, self.projector
        self.webhooks = Webhooks(
            self._feed(),
            projector,
            LineDeliveries(line, abroad),
            LineSender(line, abroad, seen, projector),
            self.host.clock,
            self.host.ids,
            abroad.signer(),
            lambda fed, index: hidden_body(fed, projector.state, index),
            self.intake,
            NODE,
        )
        self.supervisor.start("webhooks", self.webhooks.run())

    def _feed(self) -> EventFeed:
        return EventFeed(self.ledger, self.projector)


class PatientFeed(EventFeed):
    """Those who wait for the next record are not told every few seconds that there is none."""

    async def _wait(self, patience_s: float) -> None:
        await super()._wait(24 * 3600.0)


class QuietService(CallingService):
    """Nothing is done on the host: what is left of a life for days of webhooks."""

    def _begin_work(self, at_work: Supervisor) -> None:
        pass

    def _feed(self) -> EventFeed:
        return PatientFeed(self.ledger, self.projector)
