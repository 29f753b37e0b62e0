"""What the parts do that report something when the writer refuses it: they pause."""

import asyncio

from service.application.executor import PAUSE_S_MIN
from service.application.observer import AGAIN_S
from service.application.writer import Receipt, Writer
from service.domain.commands import Command, Envelope, ObserveContainer, RecordOutcome
from service.domain.effects import Settle
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual

REFUSALS_MAX = 100
"""Then it answers no more, so that who asks without a pause comes to an end."""


class Refusing(Writer):
    """As when the fold stands still, and the ledger knows more than it."""

    refused = 0

    async def submit(self, envelope: Envelope) -> Receipt | Rejected:
        if not self._refuses(envelope.command):
            return await super().submit(envelope)
        self.refused += 1
        if self.refused > REFUSALS_MAX:
            await asyncio.get_running_loop().create_future()
        return Rejected(Reason.STALE_OUTCOME, "")

    @staticmethod
    def _refuses(command: Command) -> bool:
        if isinstance(command, RecordOutcome):
            return isinstance(command.effect, Settle) and command.effect.name == "bar"
        return isinstance(command, ObserveContainer)


@virtual
async def test_an_observation_is_made_again_after_a_pause() -> None:
    host = SimulatedHost()
    async with SimulatedService(host, writer=Refusing) as service:
        await service.succeed(run("foo", cmd=("sleep", "600")))
        host.world.end("foo-1", 3)
        await host.clock.sleep(3.5 * AGAIN_S)
        assert isinstance(service.writer, Refusing)
        assert service.writer.refused == 4


@virtual
async def test_an_outcome_is_reported_again_after_a_pause() -> None:
    host = SimulatedHost()
    async with SimulatedService(host, writer=Refusing) as service:
        await service.submit(run("bar", cmd=("sleep", "600")))
        await host.clock.sleep(3.5 * PAUSE_S_MIN)
        assert isinstance(service.writer, Refusing)
        assert service.writer.refused == 4
