"""What the port `VolumeStore` promises, on loop devices and in memory."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import VolumeBelowUsed, VolumeStoreError
from tests.kit.memory_volumes import MemoryVolumes
from tests.kit.volume_rigs import LoopRig, MemoryRig, VolumeRig, loop_rig_in

MB = 1 << 20


@pytest.fixture
async def loop_rig(tmp_path: Path) -> AsyncIterator[LoopRig]:
    async with loop_rig_in(tmp_path / "volumes") as rig:
        yield rig


@pytest.fixture(params=["loop", "memory"])
def rig(request: pytest.FixtureRequest) -> VolumeRig:
    if request.param == "memory":
        return MemoryRig(MemoryVolumes())
    made: LoopRig = request.getfixturevalue("loop_rig")
    return made


async def test_a_disk_is_made_once(rig: VolumeRig) -> None:
    options = await rig.store.create("v-1", 32 * MB)
    await rig.mount("v-1")
    await rig.write("v-1", b"kept")
    assert await rig.store.create("v-1", 32 * MB) == options
    assert options["type"] == "ext4"
    assert await rig.read("v-1") == b"kept"
    assert await rig.size_bytes("v-1") == 32 * MB


async def test_grow_and_shrink_keep_the_data(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 32 * MB)
    content = os.urandom(12 * MB)
    await rig.mount("v-1")
    await rig.write("v-1", content)
    await rig.unmount("v-1")
    for size in (128 * MB, 128 * MB, 48 * MB, 64 * MB):
        await rig.store.resize("v-1", size)
        assert await rig.size_bytes("v-1") == size
        await rig.mount("v-1")
        assert _sha(await rig.read("v-1")) == _sha(content)
        await rig.unmount("v-1")


async def test_a_grown_disk_holds_more(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 16 * MB)
    await rig.store.resize("v-1", 64 * MB)
    await rig.mount("v-1")
    await rig.write("v-1", bytes(40 * MB))
    await rig.unmount("v-1")


async def test_below_what_is_used_nothing_changes(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 64 * MB)
    content = os.urandom(24 * MB)
    await rig.mount("v-1")
    await rig.write("v-1", content)
    await rig.unmount("v-1")
    with pytest.raises(VolumeBelowUsed, match=r"v-1 cannot shrink to .* needs"):
        await rig.store.resize("v-1", 16 * MB)
    assert await rig.size_bytes("v-1") == 64 * MB
    await rig.mount("v-1")
    assert await rig.read("v-1") == content


async def test_a_mounted_disk_grows_online_or_says_why_not(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 32 * MB)
    await rig.mount("v-1")
    if await rig.store.grows_online():
        await rig.store.resize("v-1", 64 * MB)
        assert await rig.size_bytes("v-1") == 64 * MB
    else:
        with pytest.raises(VolumeStoreError, match="CAP_SYS_RESOURCE"):
            await rig.store.resize("v-1", 64 * MB)
        assert await rig.size_bytes("v-1") == 32 * MB


async def test_a_mounted_disk_neither_shrinks_nor_goes(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 64 * MB)
    await rig.mount("v-1")
    with pytest.raises(VolumeStoreError, match="in use"):
        await rig.store.resize("v-1", 32 * MB)
    with pytest.raises(VolumeStoreError, match="mounted"):
        await rig.store.remove("v-1")
    await rig.write("v-1", b"still here")
    assert await rig.size_bytes("v-1") == 64 * MB


async def test_remove_what_is_there_and_what_is_not(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 16 * MB)
    await rig.store.remove("v-1")
    await rig.store.remove("v-1")
    with pytest.raises(VolumeStoreError, match="no volume v-1"):
        await rig.store.resize("v-1", 32 * MB)
    await rig.store.create("v-1", 32 * MB)
    assert await rig.size_bytes("v-1") == 32 * MB


async def test_too_small_is_refused(rig: VolumeRig) -> None:
    with pytest.raises(VolumeStoreError, match="at least"):
        await rig.store.create("v-1", 1 * MB)
    await rig.store.create("v-1", 16 * MB)
    with pytest.raises(VolumeStoreError, match="at least"):
        await rig.store.resize("v-1", 1 * MB)


async def test_a_reboot_takes_the_devices_and_attach_all_gives_them_back(rig: VolumeRig) -> None:
    options = await rig.store.create("v-1", 16 * MB)
    await rig.store.create("v-2", 16 * MB)
    await rig.reboot()
    await rig.store.attach_all()
    await rig.store.attach_all()
    assert await rig.store.create("v-1", 16 * MB) == options
    await rig.mount("v-1")
    await rig.mount("v-2")


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
