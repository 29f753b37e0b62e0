"""What the parts do that report something when the ledger knows better: pause, or let it be."""

import asyncio

from service.application.executor import PAUSE_S_MIN, RETRY_S_MAX
from service.application.observer import AGAIN_S
from service.application.writer import Receipt, Writer
from service.domain.commands import Command, CreateVolume, DeleteVolume, Envelope, RecordOutcome
from service.domain.effects import Settle
from service.domain.observing_commands import ObserveContainer
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import GIB, OWNER, run
from tests.kit.simulated_engine import SimulatedEngine, no_faults
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


@virtual
async def test_an_effect_that_is_not_due_any_more_is_not_tried_again() -> None:
    """Its outcome was stored by another process, while this one got no answer."""
    host, other = SimulatedHost(), SimulatedHost()
    other.ledger, other.ids, other.volumes = host.ledger, host.ids, host.volumes
    engine = SimulatedEngine(host.world, owner=OWNER)
    engine.faults = lambda verb, name: "before" if verb == "create_volume" else None
    async with SimulatedService(host, engine=engine) as service:
        await service.submit(CreateVolume("vol", GIB))
        await host.clock.sleep(10 * PAUSE_S_MIN)
        async with SimulatedService(other, engine=host.engine) as late:
            await late.projector.wait_folded(await host.ledger.last_seq())
            await host.clock.sleep(PAUSE_S_MIN)
            await late.succeed(DeleteVolume("vol"))
        engine.faults = no_faults
        await host.clock.sleep(RETRY_S_MAX)
    assert host.volumes.disks == {}
    assert host.world.volumes == {}
