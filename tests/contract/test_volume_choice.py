"""Which store makes volumes, and that each volume is served by the one that made it."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.adapters.folder_mounts import mount_of
from service.adapters.volume_choice import choose
from service.disk_ports import Resizes, VolumeStore
from service.errors import VolumeBelowUsed, VolumeStoreError
from service.ports import Progress
from tests.kit.volume_rigs import MB, BtrfsRig, btrfs_rig_in, devices, no_progress, run


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BtrfsRig]:
    async with btrfs_rig_in(tmp_path) as made:
        yield made
        for image in made.folder.glob("*.img"):
            for device in (await devices(image)).split():
                await run("losetup", "-d", device)


async def test_auto_takes_btrfs_where_it_is(rig: BtrfsRig) -> None:
    store = await choose(rig.folder)
    assert await store.probe() == (
        True,
        f"btrfs subvolumes with quotas under {rig.folder}, over-commit on",
    )
    assert (await store.create("v-1", 16 * MB))["o"] == "bind"
    assert await store.resizes_mounted("v-1") == Resizes(grows=True, shrinks=True)


async def test_auto_takes_loop_devices_elsewhere(tmp_path: Path, root: None) -> None:
    folder = tmp_path / "volumes"
    store = await choose(folder, file_system="xfs", over_commit=False)
    expected = f"xfs on loop devices under {folder}, over-commit off"
    assert await store.probe() == (True, expected)
    assert (await store.resizes_mounted("v-1")).grows


async def test_what_was_asked_for_and_does_not_work_is_not_replaced(
    tmp_path: Path, root: None
) -> None:
    kind = mount_of(tmp_path).kind
    store = await choose(tmp_path, "btrfs")
    assert await store.probe() == (False, f"{tmp_path} is on {kind}, not on btrfs")
    with pytest.raises(VolumeStoreError, match="btrfs"):
        await store.create("v-1", 16 * MB)
    assert not (await (await choose(tmp_path, "quota")).probe())[0]
    assert os.listdir(tmp_path) == []


async def test_each_volume_stays_with_the_store_that_made_it(rig: BtrfsRig) -> None:
    loop = await choose(rig.folder, "loop")
    on_loop = await loop.create("v-1", 32 * MB)
    assert on_loop["type"] == "ext4"
    auto = await choose(rig.folder)
    bound = await auto.create("v-2", 32 * MB)

    for store in (loop, auto):
        assert await store.create("v-1", 32 * MB) == on_loop
        assert await store.create("v-2", 32 * MB) == bound
        told: list[Progress] = []
        for name in ("v-1", "v-2"):
            await store.resize(name, 64 * MB, told.append)
        assert told == [Progress(64 * MB, 64 * MB)] * 2
        with pytest.raises(VolumeBelowUsed):
            await _fill_and_shrink(rig, store, "v-2")
        for device in (await devices(rig.folder / "v-1.img")).split():
            await run("losetup", "-d", device)
        await store.attach_all()
        assert await devices(rig.folder / "v-1.img")
    with pytest.raises(VolumeStoreError, match="no volume v-3"):
        await auto.resize("v-3", 32 * MB, no_progress)
    await loop.remove("v-2")
    await auto.remove("v-1")
    assert [f.name for f in rig.folder.iterdir() if f.name.startswith("v-")] == ["v-2.mnt"]


async def test_the_error_names_what_is_broken_in_every_store(rig: BtrfsRig) -> None:
    store = await choose(rig.folder)
    await store.create("v-1", 16 * MB)
    await run("btrfs", "qgroup", "limit", "none", str(rig.folder / "v-1"))
    await (await choose(rig.folder, "loop")).create("v-2", 16 * MB)
    (rig.folder / "v-3.img").symlink_to("/nowhere")
    with pytest.raises(VolumeStoreError, match=r"v-3: .*; volumes without a limit: v-1"):
        await store.attach_all()
    (rig.folder / "v-3.img").unlink()


async def _fill_and_shrink(rig: BtrfsRig, store: VolumeStore, name: str) -> None:
    await rig.mount(name)
    try:
        await rig.allocate(name, 40 * MB)
        await store.resize(name, 32 * MB, no_progress)
    finally:
        await rig.unmount(name)
