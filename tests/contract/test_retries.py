"""Retries: ended containers that are started again, on the real parts and virtual time."""

from events.observations import RetryBegun, RetryScheduled
from service.domain.commands import (
    ContinueReplicaSet,
    PauseReplicaSet,
    RunReplicaSet,
)
from tests.kit.builders import run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.ends import exits, phase, told

KEEPS_ON = run("foo", 1, 1, cmd=("sleep", "600"), on_exit="restart")


@virtual
async def test_one_that_ends_during_its_retry_is_seen_right_after() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("foo", cmd=("false",), on_exit="restart", max_retries=2))
        await host.clock.sleep(10)
        assert phase(service) == ("stopped", "exited")
        assert await exits(host) == [(1, False)] * 3


@virtual
async def test_a_retry_comes_when_it_is_due_and_the_pauses_double() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(KEEPS_ON)
        for attempt in range(1, 5):
            host.world.end("foo-1", 1)
            await host.clock.sleep(0.1)
            assert phase(service) == ("running", "exited")
            due_us = service.state.replica_sets["foo"].retry_due_us
            left_s = (due_us - host.clock.now_us()) / 1e6
            assert 2 ** (attempt - 2) - 0.2 <= left_s <= 2 ** (attempt - 1)
            await host.clock.sleep(left_s - 0.01)
            assert host.world.containers["foo-1"].status == "exited"
            await host.clock.sleep(1.1)
            assert phase(service) == ("running", "running")


@virtual
async def test_a_retry_does_not_wait_for_a_clock_that_was_set_back() -> None:
    host = SimulatedHost()
    right = host.clock.now_us
    async with SimulatedService(host) as service:
        host.clock.now_us = lambda: right() + 3_600_000_000  # type: ignore[method-assign]
        await service.succeed(KEEPS_ON)
        host.world.end("foo-1", 1)
        await host.clock.sleep(0.1)
        assert phase(service) == ("running", "exited")
        host.clock.now_us = right  # type: ignore[method-assign]
        await host.clock.sleep(3)
        assert phase(service) == ("running", "running")


@virtual
async def test_a_retry_that_was_due_while_the_service_was_down() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(KEEPS_ON)
        host.world.end("foo-1", 1)
        await host.clock.sleep(0.1)
    await host.clock.sleep(60)
    async with SimulatedService(host) as service:
        await host.clock.sleep(2)
        assert phase(service) == ("running", "running")
        assert len(await told(host, RetryScheduled)) == 1


@virtual
async def test_a_start_that_was_under_way_is_finished_after_a_crash() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(KEEPS_ON)
        host.engine.faults = lambda verb, name: "before" if verb == "start_container" else None
        host.world.end("foo-1", 1)
        await host.clock.sleep(5)
        assert len(await told(host, RetryBegun)) == 1
    host.engine.faults = lambda verb, name: None
    async with SimulatedService(host) as service:
        await host.clock.sleep(5)
        assert phase(service) == ("running", "running")
        assert len(await told(host, RetryBegun)) == 1


@virtual
async def test_a_continued_one_begins_its_count_anew() -> None:
    host = SimulatedHost()
    once: RunReplicaSet = run("foo", cmd=("sleep", "600"), on_exit="restart", max_retries=1)
    async with SimulatedService(host) as service:
        await service.succeed(once)
        for _ in range(2):
            host.world.end("foo-1", 1)
            await host.clock.sleep(3)
            assert phase(service) == ("running", "running")
            await service.succeed(PauseReplicaSet("foo"), ContinueReplicaSet("foo"))
        host.world.end("foo-1", 1)
        await host.clock.sleep(3)
        host.world.end("foo-1", 1)
        await host.clock.sleep(3)
        assert phase(service) == ("stopped", "exited")
