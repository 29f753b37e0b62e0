"""What `ContainerEngine.changes` promises, on a real Docker and on the simulated one."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

import pytest

from service.errors import EngineUnavailable
from service.ports import LISTENING, ObservedContainer
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import IMAGE, OTHER_OWNER, OWNER, EngineRig, body, engine_rig
from tests.kit.fault_plans import FirstCalls
from tests.kit.outsiders import OUT_OF_MEMORY, DockerOutside, Outside, SimulatedOutside
from tests.kit.simulated_changes import LATE_S
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_world import World
from tests.kit.virtual_time import virtual

SOON_S = 30.0
"""Ample for an event, which takes milliseconds; the machine may be busy."""
LOST_S_MAX = 60.0
"""After that the port has said that the engine is gone."""

MEMORY_BYTES = 16 << 20

FIRST = ("changes", "c-1")

Changes = AsyncGenerator[str, None]


@pytest.fixture
async def rig(any_dockerd: PrivateDockerd | None) -> AsyncIterator[EngineRig]:
    async with engine_rig(any_dockerd) as made:
        yield made


@pytest.fixture
def outside(any_dockerd: PrivateDockerd | None, rig: EngineRig) -> Outside:
    if any_dockerd is not None:
        return DockerOutside(any_dockerd)
    assert isinstance(rig.engine, SimulatedEngine)
    return SimulatedOutside(rig.engine)


async def following(changes: Changes) -> str:
    async with asyncio.timeout(SOON_S):
        return await anext(changes)


async def seen_as(
    rig: EngineRig,
    changes: Changes,
    name: str,
    wanted: Callable[[ObservedContainer | None], bool],
) -> ObservedContainer | None:
    """Look at the container after each change of it, until it is as wanted; no other changes."""
    while (changed := await following(changes)) == name:
        seen = await rig.engine.inspect_container(name)
        if wanted(seen):
            return seen
    raise AssertionError(f"{changed} changed, and {name} was not as wanted")


def has_ended(seen: ObservedContainer | None) -> bool:
    return seen is not None and seen.status == "exited"


def is_gone(seen: ObservedContainer | None) -> bool:
    return seen is None


async def run(rig: EngineRig, name: str, *cmd: str, owner: str = OWNER) -> None:
    """A container that runs: for ever, if no command is given."""
    engine = rig.engine if owner == OWNER else rig.other
    await engine.create_container(name, body(cmd, owner=owner) if cmd else body(owner=owner))
    await engine.start_container(name)


async def test_one_that_ends_by_itself(rig: EngineRig) -> None:
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        await run(rig, "c-1", "sh", "-c", "exit 3")
        ended = await seen_as(rig, changes, "c-1", has_ended)
        assert ended is not None
        assert (ended.exit_code, ended.oom_killed) == (3, False)
        assert ended.started_at
        assert ended.finished_at


async def test_one_that_runs_out_of_memory(rig: EngineRig, outside: Outside) -> None:
    config = body(OUT_OF_MEMORY, Memory=MEMORY_BYTES, MemorySwap=MEMORY_BYTES)
    await rig.engine.create_container("c-1", config)
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        await outside.exhaust_memory("c-1")
        ended = await seen_as(rig, changes, "c-1", has_ended)
        assert ended is not None
        assert (ended.exit_code, ended.oom_killed) == (137, True)


@pytest.mark.parametrize("act", ["kill", "remove"])
async def test_one_that_somebody_ends(rig: EngineRig, outside: Outside, act: str) -> None:
    await run(rig, "c-1")
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        if act == "kill":
            await outside.kill("c-1")
            ended = await seen_as(rig, changes, "c-1", has_ended)
            assert ended is not None
            assert (ended.exit_code, ended.oom_killed) == (137, False)
        else:
            await outside.remove("c-1")
            await seen_as(rig, changes, "c-1", is_gone)


async def test_one_that_somebody_renames(rig: EngineRig, outside: Outside) -> None:
    await run(rig, "c-1")
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        await outside.rename("c-1", "c-2")
        assert {await following(changes), await following(changes)} == {"c-1", "c-2"}


async def test_one_that_somebody_restarts(rig: EngineRig, outside: Outside) -> None:
    await run(rig, "c-1")
    before = await rig.engine.inspect_container("c-1")
    assert before is not None
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING

        def runs_again(seen: ObservedContainer | None) -> bool:
            assert seen is not None
            return seen.status == "running" and seen.started_at != before.started_at

        await outside.restart("c-1")
        await seen_as(rig, changes, "c-1", runs_again)


async def test_one_that_somebody_pauses(rig: EngineRig, outside: Outside) -> None:
    await run(rig, "c-1")
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        for paused, status in ((True, "paused"), (False, "running")):
            await outside.pause("c-1", paused=paused)
            assert await following(changes) == "c-1"
            seen = await rig.engine.inspect_container("c-1")
            assert seen is not None
            assert seen.status == status


async def test_what_we_do_ourselves_is_told_too(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body())
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        await rig.engine.start_container("c-1")
        assert await following(changes) == "c-1"
        await rig.engine.stop_container("c-1", 5)
        await seen_as(rig, changes, "c-1", has_ended)


async def test_limits_and_commands_are_no_changes(rig: EngineRig) -> None:
    await run(rig, "c-1")
    await rig.engine.create_container("c-2", body())
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        await rig.engine.update_container("c-1", {"PidsLimit": 100})
        await rig.engine.execute("c-1", ["true"], "", 1000)
        await rig.engine.start_container("c-2")
        assert await following(changes) == "c-2"


async def test_containers_of_others_do_not_show(rig: EngineRig) -> None:
    await rig.engine.create_container("c-1", body())
    async with (
        aclosing(rig.engine.changes()) as changes,
        aclosing(rig.other.changes()) as of_other,
    ):
        assert [await following(changes), await following(of_other)] == [LISTENING] * 2
        await run(rig, "d-1", owner=OTHER_OWNER)
        await rig.engine.start_container("c-1")
        await rig.other.remove_container("d-1")
        assert await following(changes) == "c-1"
        assert await following(of_other) == "d-1"


async def test_what_waits_to_be_taken_waits_once(rig: EngineRig, outside: Outside) -> None:
    await run(rig, "c-1")
    await rig.engine.create_container("c-2", body())
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        for _ in range(3):
            await outside.restart("c-1")
        await rig.engine.start_container("c-2")
        told = [await following(changes)]
        while told[-1] != "c-2":
            told.append(await following(changes))
        # Some of it may come while we take: far from the 3 times 4 that happened.
        assert told[0] == "c-1"
        assert len(told) <= 8


async def lost_within(changes: Changes, limit_s: float) -> None:
    """The end has to come, whatever is told before it."""
    with pytest.raises(EngineUnavailable):
        await asyncio.wait_for(drain(changes), limit_s)


async def drain(changes: Changes) -> None:
    async for _ in changes:
        pass


async def test_an_engine_that_dies_and_comes_back(rig: EngineRig) -> None:
    await run(rig, "c-1")
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        await rig.go_away()
        try:
            await lost_within(changes, LOST_S_MAX)
            await lost_within(rig.engine.changes(), LOST_S_MAX)
        finally:
            await rig.come_back()
    async with aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        await rig.engine.remove_container("c-1")
        await seen_as(rig, changes, "c-1", is_gone)


async def test_an_engine_that_hangs(dockerd: PrivateDockerd) -> None:
    async with engine_rig(dockerd) as rig, aclosing(rig.engine.changes()) as changes:
        assert await following(changes) == LISTENING
        assert dockerd.pid is not None
        os.kill(dockerd.pid, signal.SIGSTOP)
        try:
            # One that is open and one that is to be opened.
            await asyncio.gather(
                lost_within(changes, LOST_S_MAX), lost_within(rig.engine.changes(), LOST_S_MAX)
            )
        finally:
            os.kill(dockerd.pid, signal.SIGCONT)


@pytest.mark.parametrize("waiting", [True, False])
async def test_nothing_is_left_when_it_is_let_go(rig: EngineRig, waiting: bool) -> None:
    before = await open_files()
    changes = rig.engine.changes()
    assert await following(changes) == LISTENING
    if waiting:
        taking = asyncio.create_task(following(changes))
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
    else:
        await changes.aclose()
    assert await open_files() <= before


async def open_files() -> int:
    return len(await asyncio.to_thread(os.listdir, "/proc/self/fd"))


@pytest.mark.parametrize(
    ("fault", "late_s"), [("late", LATE_S), ("ends", LATE_S), ("breaks", 0.0), (None, 0.0)]
)
@virtual
async def test_a_simulated_stream_can_go_wrong(fault: str | None, late_s: float) -> None:
    world = World(images=[IMAGE])
    engine = SimulatedEngine(
        world, owner=OWNER, faults=lambda verb, name: fault if (verb, name) == FIRST else None
    )
    await engine.create_container("c-1", body())
    async with aclosing(engine.changes()) as changes:
        assert await anext(changes) == LISTENING
        await engine.start_container("c-1")
        begun_s = asyncio.get_running_loop().time()
        if fault in ("late", None):
            assert await anext(changes) == "c-1"
        else:
            with pytest.raises(EngineUnavailable):
                await anext(changes)
        assert asyncio.get_running_loop().time() - begun_s == late_s
    assert world.streams == []


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_simulated_stream_may_not_open(fault: str) -> None:
    world = World()
    engine = SimulatedEngine(world, owner=OWNER, faults=FirstCalls("changes", fault))
    with pytest.raises(EngineUnavailable):
        await anext(engine.changes())
    assert world.streams == []


@pytest.mark.parametrize(
    ("fault", "names"), [("again", ["c-1", "c-2", "c-1"]), ("behind", ["c-2", "c-1"])]
)
@virtual
async def test_a_simulated_stream_can_tell_twice_and_in_another_order(
    fault: str, names: list[str]
) -> None:
    world = World(images=[IMAGE])
    engine = SimulatedEngine(world, owner=OWNER)
    for name in ("c-1", "c-2"):
        await engine.create_container(name, body())
    async with aclosing(engine.changes()) as changes:
        assert await anext(changes) == LISTENING
        engine.faults = FirstCalls("changes", fault)
        for name in ("c-1", "c-2"):
            await engine.start_container(name)
        assert [await anext(changes) for _ in names] == names
