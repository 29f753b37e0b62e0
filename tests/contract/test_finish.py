"""The executor comes to rest: what is being done ends and is settled, nothing new is begun."""

import asyncio
from collections.abc import Sequence

from service.application.intake import Accepted
from service.domain.commands import ExecuteInReplicaSet, StopReplicaSet
from service.ports import ExecOutcome, ObservedContainer
from tests.kit.builders import OWNER, patch, run
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual

SLEEP = ("sleep", "600")


class GatedEngine(SimulatedEngine):
    """Its stops and executions have begun, and end when they may."""

    def __init__(self, host: SimulatedHost) -> None:
        super().__init__(host.world, owner=OWNER)
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def stop_container(self, name: str, timeout_s: int) -> ObservedContainer | None:
        self.begun.set()
        await self.may_end.wait()
        return await super().stop_container(name, timeout_s)

    async def execute(
        self, name: str, cmd: Sequence[str], work_dir: str, output_bytes_max: int
    ) -> ExecOutcome:
        self.begun.set()
        await self.may_end.wait()
        return await super().execute(name, cmd, work_dir, output_bytes_max)


def state_of(service: SimulatedService, accepted: object) -> str:
    assert isinstance(accepted, Accepted)
    return service.state.operations[accepted.operation_id].state


@virtual
async def test_what_ends_in_time_is_settled() -> None:
    host = SimulatedHost()
    engine = GatedEngine(host)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run("ann", 1, cmd=SLEEP))
        accepted = await service.submit(StopReplicaSet("ann"))
        await engine.begun.wait()
        resting = asyncio.create_task(service.executor.finish(executions_s=10, steps_s=2))
        await host.clock.sleep(1)
        assert not resting.done()
        engine.may_end.set()
        await resting
        assert state_of(service, accepted) == "succeeded"
        assert service.state.gpus["gpu-0"].holder is None


@virtual
async def test_nothing_new_is_begun() -> None:
    host = SimulatedHost()
    engine = GatedEngine(host)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run("ann", 1, cmd=SLEEP))
        accepted = await service.submit(patch("ann", 2))
        await engine.begun.wait()  # to stop ann-1
        engine.may_end.set()
        await service.executor.finish(executions_s=10, steps_s=2)
        later = await service.submit(run("bob", cmd=SLEEP))
        await host.clock.sleep(60)
        assert (state_of(service, accepted), state_of(service, later)) == ("running", "running")
        assert {name: one.status for name, one in host.world.containers.items()} == {
            "ann-1": "exited"
        }
    async with SimulatedService(host) as service:
        await host.clock.sleep(60)
        assert (state_of(service, accepted), state_of(service, later)) == ("succeeded", "succeeded")


@virtual
async def test_a_step_gets_two_seconds_and_an_execution_ten() -> None:
    for command, bound_s in ((StopReplicaSet("ann"), 2), (ExecuteInReplicaSet("ann", ("id",)), 10)):
        host = SimulatedHost()
        engine = GatedEngine(host)
        async with SimulatedService(host, engine=engine) as service:
            await service.succeed(run("ann", cmd=SLEEP))
            await service.submit(command)
            await engine.begun.wait()
            begun = host.clock.monotonic_s()
            await service.executor.finish(executions_s=10, steps_s=2)
            assert round(host.clock.monotonic_s() - begun, 3) == bound_s
