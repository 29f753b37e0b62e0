"""A host that is lost, and the recovery of it, on in-memory ports."""

from typing import Any

from service.application.executor import Executor
from service.application.recovery import Recovery
from service.application.supervisor import Supervisor
from service.domain.recovery_plan import Outcome, Plan
from tests.kit.simulated_service import SimulatedHost, SimulatedService


class RecoveringService(SimulatedService):
    """As the bootstrap puts it together: only the executor works, and that when all is recorded."""

    recovery: Recovery

    def _begin_work(self, at_work: Supervisor) -> None:
        host = self.host
        self._at_work = at_work
        self.executor = Executor(
            self.projector, self.writer, self.performer, host.clock, self.facts, self.metrics
        )
        self.recovery = Recovery(
            self.engine,
            self._volumes,
            self._disks,
            self.projector,
            self.writer,
            host.clock,
            host.ids,
            self.facts,
            lambda: next(iter(self.supervisor.failures.values()), None),
        )

    async def recover(self) -> tuple[Outcome, ...]:
        """Plan, record and make again."""
        await self.gate.require()
        await self.recovery.begin(await self.recovery.plan())
        self._at_work.start("executor", self.executor.run())
        outcomes = await self.recovery.finish()
        await self.projector.wait_stored(await self.ledger.last_seq())
        return outcomes


async def recovered(host: SimulatedHost, **ports: Any) -> tuple[Plan, tuple[Outcome, ...]]:
    """The plan for a host, and what came of it."""
    async with RecoveringService(host, **ports) as service:
        await service.gate.require()
        return await service.recovery.plan(), await service.recover()


def lose(host: SimulatedHost, *, disks: bool = True, kept: bool = True) -> None:
    """All that is on the engine is gone but its images; and the disks of volumes, and kept ones."""
    host.world.containers.clear()
    host.world.volumes.clear()
    if disks:
        host.volumes.disks.clear()
    if kept:
        host.disks.kept.clear()
