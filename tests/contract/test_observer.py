"""The observer, on the real parts with an engine in memory and virtual time."""

from collections.abc import Callable

import pytest

from events.labels import LABEL_OWNER
from events.observations import ContainerVanished
from service.application.observer import AGAIN_S, AWAY_MARGIN_S, LOOK_EVERY_S
from service.domain.commands import (
    PauseReplicaSet,
    StopReplicaSet,
)
from tests.kit.builders import patch, run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.ends import exits, phase, told

RUN = run("foo", 1, 1, cmd=("sleep", "600"))
KEEPS_ON = run("foo", 1, 1, cmd=("sleep", "600"), on_exit="restart")

PROMPT_S = 0.5
"""Far less than the time between two looks at everything."""


@virtual
async def test_an_end_is_seen_at_once() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        host.world.end("foo-1", 3)
        await host.clock.sleep(PROMPT_S)
        assert phase(service) == ("stopped", "exited")
        assert await exits(host) == [(3, False)]
        assert [unit.holder for unit in service.state.gpus.values()] == [None, None]


@virtual
async def test_what_the_stream_did_not_tell_is_seen_on_the_next_look() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        host.world.streams.clear()
        host.world.end("foo-1", 3)
        await host.clock.sleep(LOOK_EVERY_S + 1)
        assert phase(service) == ("stopped", "exited")


@virtual
async def test_one_that_ends_during_its_run_is_seen_right_after() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("foo", 1, cmd=("true",)))
        await host.clock.sleep(PROMPT_S)
        assert phase(service) == ("stopped", "exited")


@virtual
async def test_one_that_was_removed() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        host.world.remove("foo-1")
        await host.clock.sleep(PROMPT_S)
        assert phase(service) == ("stopped", "removed")


@virtual
async def test_one_that_was_renamed_is_not_gone_with_its_gpus() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        host.world.rename(host.world.containers["foo-1"], "mine")
        await host.clock.sleep(LOOK_EVERY_S + 1)
        assert phase(service) == ("running", "running")
        assert await told(host, ContainerVanished) == []
        host.world.end("mine", 1)
        await host.clock.sleep(LOOK_EVERY_S + 1)
        assert phase(service) == ("stopped", "exited")


@virtual
async def test_another_owner_s_container_of_the_name_is_not_ours() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        container = host.world.containers["foo-1"]
        host.world.remove("foo-1")
        container.labels[LABEL_OWNER] = "somebody else"
        host.world.containers["foo-1"] = container
        await host.clock.sleep(PROMPT_S)
        assert phase(service) == ("stopped", "removed")


@virtual
async def test_one_that_is_not_to_run_is_stopped_again() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        for ask in (PauseReplicaSet("foo"), StopReplicaSet("bar")):
            await service.succeed(run(ask.name, 1, cmd=("sleep", "600")), ask)
            host.world.begin(host.world.containers[f"{ask.name}-1"])
            await host.clock.sleep(PROMPT_S)
            assert host.world.containers[f"{ask.name}-1"].status == "exited"
        assert phase(service) == ("paused", "exited")
        assert phase(service, "bar") == ("stopped", "exited")


def after_it_was_away(host: SimulatedHost, code: int) -> None:
    """The engine ended, and its containers with it."""
    host.engine.down = True
    host.world.end("foo-1", code)


def before_it_was_away(host: SimulatedHost, code: int) -> None:
    """The containers of an engine that goes end first, and nobody hears of it."""
    host.world.streams[0].break_off()
    host.world.streams.clear()
    host.world.end("foo-1", code)
    host.engine.down = True


@pytest.mark.parametrize("go", [after_it_was_away, before_it_was_away])
@pytest.mark.parametrize("code", [0, 1, 137])
def test_what_ended_with_the_engine_goes_on_with_it(
    go: Callable[[SimulatedHost, int], None], code: int
) -> None:
    @virtual
    async def check() -> None:
        host = SimulatedHost()
        async with SimulatedService(host) as service:
            await service.succeed(RUN)
            await host.clock.sleep(LOOK_EVERY_S)
            go(host, code)
            await host.clock.sleep(20)
            host.engine.down = False
            await host.clock.sleep(10)
            assert phase(service) == ("running", "running")
            assert host.world.containers["foo-1"].status == "running"
            assert await exits(host) == [(code, True)]

    check()


@virtual
async def test_one_that_ended_shortly_before_the_engine_last_answered_ended_with_it() -> None:
    """It stops its containers one after the other, and what it told of them may be lost."""
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN, run("bar", cmd=("sleep", "600")))
        await host.clock.sleep(1)
        foo = host.world.containers["foo-1"]
        foo.status, foo.finished_at = "exited", host.world.instant()
        await host.clock.sleep(AWAY_MARGIN_S / 2)
        host.world.changed(host.world.containers["bar-1"])
        await host.clock.sleep(PROMPT_S)
        host.engine.down = True
        await host.clock.sleep(1)
        host.engine.down = False
        await host.clock.sleep(5)
        assert phase(service) == ("running", "running")
        assert await exits(host) == [(0, True)]


@virtual
async def test_one_that_ends_while_the_engine_takes_no_new_callers_ends_with_it() -> None:
    """It still answers those that it has: the end is seen before the engine is gone."""
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        await host.clock.sleep(1)
        host.engine.faults = lambda *call: "before" if call == ("changes", "") else None
        host.world.end("foo-1", 0)
        await host.clock.sleep(PROMPT_S)
        assert await exits(host) == [(0, True)]


@virtual
async def test_want_of_memory_is_never_the_engine_s_end() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        host.engine.down = True
        host.world.end("foo-1", 137, oom_killed=True)
        await host.clock.sleep(5)
        host.engine.down = False
        await host.clock.sleep(5)
        assert phase(service) == ("stopped", "exited")
        assert await exits(host) == [(137, False)]


@virtual
async def test_once_the_engine_is_back_ends_are_their_own_again() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        host.engine.down = True
        await host.clock.sleep(5)
        host.engine.down = False
        await host.clock.sleep(5)
        host.world.end("foo-1", 137)
        await host.clock.sleep(PROMPT_S)
        assert await exits(host) == [(137, False)]


@virtual
async def test_long_before_the_engine_was_away_is_not_with_it() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        container = host.world.containers["foo-1"]
        await host.clock.sleep(2 * LOOK_EVERY_S + AWAY_MARGIN_S)
        host.engine.down = True
        host.world.end("foo-1", 1)
        container.finished_at = container.started_at
        await host.clock.sleep(5)
        host.engine.down = False
        await host.clock.sleep(5)
        assert await exits(host) == [(1, False)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (0, ("stopped", "exited")),
        (1, ("stopped", "exited")),
        (137, ("running", "running")),
        (143, ("running", "running")),
        (255, ("running", "running")),
    ],
)
def test_what_ended_while_nobody_looked(code: int, expected: tuple[str, str]) -> None:
    @virtual
    async def check() -> None:
        host = SimulatedHost()
        async with SimulatedService(host) as service:
            await service.succeed(RUN)
        host.world.end("foo-1", code)
        async with SimulatedService(host) as service:
            await host.clock.sleep(5)
            assert phase(service) == expected
            host.world.containers["foo-1"].status = expected[1]

    check()


@virtual
async def test_what_the_ledger_did_not_take_is_recorded_later() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)
        host.ledger.fail_next("refused")
        host.world.end("foo-1", 3)
        await host.clock.sleep(PROMPT_S)
        assert phase(service) == ("running", "running")
        await host.clock.sleep(AGAIN_S)
        assert phase(service) == ("stopped", "exited")
        assert await exits(host) == [(3, False)]


@virtual
async def test_one_that_ends_during_an_operation_that_fails_is_seen_right_after() -> None:
    """When its end is told, another version is the current one."""
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(RUN)

        def meanwhile(verb: str, name: str) -> str | None:
            if verb == "pull_image":
                host.world.end("foo-1", 3)
            return None

        host.engine.faults = meanwhile
        operation = await service.do(patch("foo", image="missing:1"))
        assert operation.state == "failed"
        await host.clock.sleep(PROMPT_S)
        assert phase(service) == ("stopped", "exited")
