"""GpuAccessWatch: lost GPUs are found, told and had back, on the real parts and virtual time."""

from collections.abc import Sequence

from events.observations import GpuAccessLost, GpuAccessRestored, RetryBegun
from service.application.gpu_access import AFTER_EVENT_S, LOOK_EVERY_S
from service.domain.commands import StopReplicaSet
from tests.kit.builders import patch, run
from tests.kit.simulated_engine import no_faults
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.checks import check_at_rest
from tests.simulation.ends import told

SLEEP = ("sleep", "600")
RUN = run("foo", 1, 1, cmd=SLEEP)
COMES_BACK = run("foo", 1, 1, cmd=SLEEP, on_gpu_lost="restart")


def take_away(host: SimulatedHost, names: Sequence[str] = ("foo-1",)) -> None:
    for name in names:
        host.world.containers[name].gpu_access = False


def lost_us(service: SimulatedService) -> int:
    return service.state.revisions["foo", 1].gpu_access_lost_us


@virtual
async def test_it_is_found_within_two_minutes_and_told_once() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        await host.clock.sleep(60)
        take_away(host)
        await host.clock.sleep(LOOK_EVERY_S)
        assert lost_us(service) > 0
        await host.clock.sleep(5 * LOOK_EVERY_S)
        assert len(await told(host, GpuAccessLost)) == 1
        host.world.containers["foo-1"].gpu_access = True
        await host.clock.sleep(LOOK_EVERY_S)
        assert lost_us(service) == 0
        assert len(await told(host, GpuAccessRestored)) == 1
        await check_at_rest(service)


@virtual
async def test_with_the_policy_the_same_container_is_started_again() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(COMES_BACK)
        container = host.world.containers["foo-1"]
        began = container.started_at
        await host.clock.sleep(60)
        take_away(host)
        await host.clock.sleep(LOOK_EVERY_S + 5)
        assert host.world.containers["foo-1"] is container
        assert container.status == "running"
        assert container.started_at > began
        assert container.gpu_access
        assert lost_us(service) == 0
        assert len(await told(host, RetryBegun)) == 1
        await check_at_rest(service)


@virtual
async def test_one_that_begins_without_them_is_found_soon() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await host.clock.sleep(1)
        await service.succeed(RUN)
        take_away(host)
        await host.clock.sleep(AFTER_EVENT_S + 1)
        assert lost_us(service) > 0


@virtual
async def test_a_start_that_was_under_way_is_finished_after_a_crash() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(COMES_BACK)
        host.engine.faults = lambda verb, _: "before" if verb == "start_container" else None
        take_away(host)
        await host.clock.sleep(LOOK_EVERY_S + 5)
        assert host.world.containers["foo-1"].status == "exited"
    host.engine.faults = no_faults
    async with SimulatedService(host) as service:
        await host.clock.sleep(5)
        assert host.world.containers["foo-1"].status == "running"
        await check_at_rest(service)


@virtual
async def test_an_engine_that_does_not_answer_is_asked_again() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        take_away(host)
        host.engine.faults = lambda verb, _: "before" if verb == "look_at_access" else None
        await host.clock.sleep(2 * LOOK_EVERY_S)
        assert lost_us(service) == 0
        host.engine.faults = no_faults
        await host.clock.sleep(LOOK_EVERY_S)
        assert lost_us(service) > 0


@virtual
async def test_only_those_with_gpus_that_run_are_looked_at() -> None:
    host = SimulatedHost()
    asked: list[str] = []

    def note(verb: str, name: str) -> None:
        if verb == "look_at_access":
            asked.append(name)

    host.engine.faults = note
    async with SimulatedService(host) as service:
        await service.succeed(run("bar", cmd=SLEEP), RUN, patch("foo"))
        await service.succeed(run("baz", 1, cmd=SLEEP), StopReplicaSet("baz"))
        asked.clear()
        await host.clock.sleep(LOOK_EVERY_S + AFTER_EVENT_S)
        assert set(asked) == {"foo-2"}
