"""What the port `VolumeStore` promises, on each kind of real disk and in memory."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import VolumeBelowUsed, VolumeStoreError
from service.ports import Progress
from tests.kit.memory_volumes import MemoryVolumes
from tests.kit.volume_rigs import (
    MB,
    MemoryRig,
    VolumeRig,
    btrfs_rig_in,
    loop_rig_in,
    no_progress,
)


@pytest.fixture(params=["memory", "memory-shrinking", "loop-ext4", "loop-xfs", "btrfs"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[VolumeRig]:
    if request.param == "loop-ext4":
        async with loop_rig_in(tmp_path / "volumes") as made:
            yield made
    elif request.param == "loop-xfs":
        async with loop_rig_in(tmp_path / "volumes", "xfs") as made:
            yield made
    elif request.param == "btrfs":
        async with btrfs_rig_in(tmp_path) as on_btrfs:
            yield on_btrfs
    else:
        yield MemoryRig(MemoryVolumes(shrinks_mounted=request.param == "memory-shrinking"))


async def test_a_disk_is_made_once(rig: VolumeRig) -> None:
    size = 32 * MB * rig.scale
    options = await rig.store.create("v-1", size)
    await rig.mount("v-1")
    await rig.write("v-1", b"kept")
    assert await rig.store.create("v-1", size) == options
    assert set(options) in ({"type", "device"}, {"type", "o", "device"})
    assert await rig.read("v-1") == b"kept"
    assert await rig.size_bytes("v-1") == size


async def test_grow_and_shrink_keep_the_data(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 32 * MB * rig.scale)
    content = os.urandom(12 * MB)
    await rig.mount("v-1")
    await rig.write("v-1", content)
    await rig.unmount("v-1")
    for megabytes in (128, 128, 48, 64) if rig.shrinks else (64, 64, 128):
        size = megabytes * MB * rig.scale
        await rig.store.resize("v-1", size, no_progress)
        assert await rig.size_bytes("v-1") == size
        await rig.mount("v-1")
        assert _sha(await rig.read("v-1")) == _sha(content)
        await rig.unmount("v-1")


async def test_what_cannot_shrink_says_so_and_changes_nothing(rig: VolumeRig) -> None:
    size = 64 * MB * rig.scale
    await rig.store.create("v-1", size)
    if rig.shrinks:
        await rig.store.resize("v-1", size // 2, no_progress)
        assert await rig.size_bytes("v-1") == size // 2
        return
    await rig.mount("v-1")
    for _ in range(2):
        with pytest.raises(VolumeStoreError, match="cannot be made smaller"):
            await rig.store.resize("v-1", size // 2, no_progress)
        assert await rig.size_bytes("v-1") == size
    await rig.store.resize("v-1", size, no_progress)


async def test_a_grown_disk_holds_more(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 16 * MB * rig.scale)
    await rig.store.resize("v-1", 64 * MB * rig.scale, no_progress)
    await rig.mount("v-1")
    await rig.allocate("v-1", 40 * MB * rig.scale)
    await rig.unmount("v-1")


async def test_below_what_is_used_nothing_changes(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 64 * MB * rig.scale)
    content = os.urandom(24 * MB)
    await rig.mount("v-1")
    await rig.write("v-1", content)
    await rig.unmount("v-1")
    refusal = VolumeBelowUsed if rig.shrinks else VolumeStoreError
    with pytest.raises(refusal, match=r"v-1 cannot shrink to .* needs|cannot be made smaller"):
        await rig.store.resize("v-1", 16 * MB * rig.scale, no_progress)
    assert await rig.size_bytes("v-1") == 64 * MB * rig.scale
    await rig.mount("v-1")
    assert await rig.read("v-1") == content


async def test_a_mounted_disk_grows_online_or_says_why_not(rig: VolumeRig) -> None:
    size = 32 * MB * rig.scale
    await rig.store.create("v-1", size)
    await rig.mount("v-1")
    if (await rig.store.resizes_mounted("v-1")).grows:
        await rig.store.resize("v-1", 2 * size, no_progress)
        assert await rig.size_bytes("v-1") == 2 * size
        await rig.allocate("v-1", size + size // 4)
    else:
        with pytest.raises(VolumeStoreError, match="CAP_SYS_RESOURCE"):
            await rig.store.resize("v-1", 2 * size, no_progress)
        assert await rig.size_bytes("v-1") == size


async def test_a_mounted_disk_shrinks_online_or_says_why_not(rig: VolumeRig) -> None:
    size = 64 * MB * rig.scale
    await rig.store.create("v-1", size)
    await rig.mount("v-1")
    await rig.write("v-1", b"still here")
    if (await rig.store.resizes_mounted("v-1")).shrinks and rig.shrinks:
        await rig.store.resize("v-1", size // 2, no_progress)
        assert await rig.size_bytes("v-1") == size // 2
    else:
        with pytest.raises(VolumeStoreError, match=r"in use|cannot be made smaller"):
            await rig.store.resize("v-1", size // 2, no_progress)
        assert await rig.size_bytes("v-1") == size
    assert await rig.read("v-1") == b"still here"


async def test_a_mounted_disk_does_not_go(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 32 * MB * rig.scale)
    await rig.mount("v-1")
    await rig.write("v-1", b"still here")
    with pytest.raises(VolumeStoreError, match="mounted"):
        await rig.store.remove("v-1")
    assert await rig.read("v-1") == b"still here"
    await rig.unmount("v-1")
    await rig.store.remove("v-1")


async def test_progress_ends_with_all_done_and_never_goes_back(rig: VolumeRig) -> None:
    size = 32 * MB * rig.scale
    await rig.store.create("v-1", size)
    grown: list[Progress] = []
    await rig.store.resize("v-1", 2 * size, grown.append)
    assert grown == [Progress(2 * size, 2 * size)]
    if rig.shrinks:
        seen: list[Progress] = []
        await rig.store.resize("v-1", size, seen.append)
        done = [progress.done_bytes for progress in seen]
        assert done == sorted(done)
        assert {progress.total_bytes for progress in seen} == {done[-1]}


async def test_remove_what_is_there_and_what_is_not(rig: VolumeRig) -> None:
    await rig.store.create("v-1", 16 * MB * rig.scale)
    await rig.store.remove("v-1")
    await rig.store.remove("v-1")
    with pytest.raises(VolumeStoreError, match="no volume v-1"):
        await rig.store.resize("v-1", 32 * MB * rig.scale, no_progress)
    await rig.store.create("v-1", 32 * MB * rig.scale)
    assert await rig.size_bytes("v-1") == 32 * MB * rig.scale


async def test_too_small_is_refused(rig: VolumeRig) -> None:
    with pytest.raises(VolumeStoreError, match="at least"):
        await rig.store.create("v-1", 1 * MB * rig.scale)
    await rig.store.create("v-1", 16 * MB * rig.scale)
    with pytest.raises(VolumeStoreError, match="at least"):
        await rig.store.resize("v-1", 1 * MB * rig.scale, no_progress)


async def test_a_reboot_takes_the_devices_and_attach_all_gives_them_back(rig: VolumeRig) -> None:
    options = await rig.store.create("v-1", 16 * MB * rig.scale)
    await rig.store.create("v-2", 16 * MB * rig.scale)
    await rig.reboot()
    await rig.store.attach_all()
    await rig.store.attach_all()
    assert await rig.store.create("v-1", 16 * MB * rig.scale) == options
    await rig.mount("v-1")
    await rig.mount("v-2")
    assert await rig.size_bytes("v-2") == 16 * MB * rig.scale


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_disks_are_listed(rig: VolumeRig) -> None:
    assert await rig.store.list_disks() == ()
    for name in ("v-2", "v-1"):
        await rig.store.create(name, 32 * MB * rig.scale)
    listed = await rig.store.list_disks()
    assert [one.name for one in listed] == ["v-1", "v-2"]
    assert all(one.size_bytes is None or one.size_bytes >= 0 for one in listed)
    await rig.store.remove("v-1")
    assert [one.name for one in await rig.store.list_disks()] == ["v-2"]
