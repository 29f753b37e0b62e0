"""The simulated ports' ways of failing, which simulations build on, and their time."""

import asyncio
from itertools import count

import pytest

from service.errors import EngineRefused, EngineUnavailable, VolumeStoreError
from tests.kit.engine_rigs import IMAGE, OWNER, body
from tests.kit.memory_volumes import MemoryVolumes
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_world import World
from tests.kit.virtual_time import Deadlock, run_virtually


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        ("before", EngineUnavailable, False),
        ("after", EngineUnavailable, True),
        ("refuse", EngineRefused, False),
    ],
)
async def test_engine_faults(fault: str, error: type[Exception], done: bool) -> None:
    world = World(images=[IMAGE])
    engine = SimulatedEngine(
        world,
        owner=OWNER,
        faults=lambda verb, name: fault if (verb, name) == ("create_container", "c-1") else None,
    )
    with pytest.raises(error):
        await engine.create_container("c-1", body())
    assert ("c-1" in world.containers) == done
    assert await engine.create_container("c-2", body())


@pytest.mark.parametrize(("fault", "done"), [("before", False), ("after", True)])
async def test_volume_faults(fault: str, done: bool) -> None:
    volumes = MemoryVolumes(faults=lambda _verb, _name: fault)
    with pytest.raises(VolumeStoreError):
        await volumes.create("v-1", 64 << 20)
    assert ("v-1" in volumes.disks) == done


async def test_two_runs_agree() -> None:
    async def run() -> object:
        world = World(images=[IMAGE])
        engine = SimulatedEngine(world, owner=OWNER)
        await engine.create_container("c-1", body())
        await engine.start_container("c-1")
        return await engine.stop_container("c-1", 1)

    assert await run() == await run()


def test_who_never_pauses_is_found() -> None:
    async def spin() -> None:
        for _ in count():
            await asyncio.sleep(0)

    with pytest.raises(Deadlock, match="never pauses"):
        run_virtually(spin())
