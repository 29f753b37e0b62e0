"""Containers by their ids, on a real Docker and on the simulated one."""

from collections.abc import AsyncIterator

import pytest

from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import EngineRig, body, engine_rig


@pytest.fixture
async def rig(any_dockerd: PrivateDockerd | None) -> AsyncIterator[EngineRig]:
    async with engine_rig(any_dockerd) as made:
        yield made


async def test_one_that_was_renamed_is_found_stopped_and_removed_by_its_id(rig: EngineRig) -> None:
    made = await rig.engine.create_container("c-1", body())
    await rig.engine.start_container("c-1")
    await rig.engine.rename_container("c-1", "mine")
    seen = await rig.engine.inspect_container(made)
    assert seen is not None
    assert (seen.id, seen.name, seen.status) == (made, "mine", "running")
    stopped = await rig.engine.stop_container(made, 1)
    assert stopped is not None
    assert stopped.status == "exited"
    await rig.engine.remove_container(made)
    assert await rig.engine.inspect_container("mine") is None
    assert await rig.engine.inspect_container(made) is None
