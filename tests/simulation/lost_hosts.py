"""A host that is lost, and the recovery of it, on in-memory ports."""

import asyncio
from collections.abc import Sequence
from typing import Any

from service.application.executor import Executor
from service.application.recovery import Recovery
from service.application.supervisor import Supervisor
from service.domain.commands import (
    CreateVolume,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    Request,
    StopReplicaSet,
)
from service.domain.recovery_plan import Outcome, Plan
from tests.kit.builders import GIB, patch, run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.simulation.checks import check_at_rest, check_every_record, check_world

WRITTEN = ExecuteInReplicaSet("foo", ("sh", "-c", "echo mine > /data/mine"))
"""A file in the system disk of foo."""

FURNISHED: tuple[Request, ...] = (
    CreateVolume("vol", GIB),
    run("foo", 1, 1, mounts=("vol-1",)),
    WRITTEN,
    patch("foo"),
    run("bar", 1, 1),
    PauseReplicaSet("bar"),
    run("baz", data_disk_bytes=GIB),
    StopReplicaSet("baz"),
)


async def furnished(host: SimulatedHost, commands: Sequence[Request] = FURNISHED) -> None:
    """The service of this host was there, and has stopped."""
    async with SimulatedService(host) as service:
        await service.succeed(*commands)
        await service.projector.wait_stored(await service.ledger.last_seq())


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
            host.paths,
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


def shown(host: SimulatedHost) -> dict[str, Any]:
    """What is on the engine and its disks."""
    containers = host.world.containers.values()
    return {
        "containers": {c.name: (c.status, c.gpus(), c.host_ports(), c.files) for c in containers},
        "volumes": set(host.world.volumes),
        "disks": set(host.volumes.disks),
        "kept": set(host.disks.kept),
    }


async def check_recovered(host: SimulatedHost) -> None:
    """The service starts on it, finds all as the ledger says, and has nothing to do."""
    async with SimulatedService(host) as service:
        seq = await service.ledger.last_seq()
        await asyncio.sleep(120)
        assert await service.ledger.last_seq() == seq
        await check_at_rest(service)
        await check_world(service.state, host)
    check_every_record(host.ledger.entries)
