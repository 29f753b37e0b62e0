"""What only real loop devices can show: crashes, the disk's own limits, a container's view."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.labels import LABEL_OWNER
from service.adapters.docker_engine import DockerEngine
from service.adapters.loop_ext4 import EXT4
from service.adapters.loop_tools import find_tool
from service.adapters.loop_volumes import LoopVolumes
from service.errors import VolumeStoreError
from service.ports import ExecOutcome
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import OWNER, body, clear
from tests.kit.fifo import Signal
from tests.kit.volume_rigs import MB, LoopRig, devices, loop_rig_in, no_progress, run


@pytest.fixture
async def loop_rig(tmp_path: Path) -> AsyncIterator[LoopRig]:
    async with loop_rig_in(tmp_path / "volumes") as rig:
        yield rig


async def test_no_file_ever_has_two_devices(loop_rig: LoopRig) -> None:
    creates = (loop_rig.store.create("v-1", 16 * MB) for _ in range(4))
    options = await asyncio.gather(*creates)
    await LoopVolumes(loop_rig.folder).attach_all()
    (device,) = (await devices(loop_rig.folder / "v-1.img")).split()
    assert os.readlink(options[0]["device"]) == device


async def test_a_link_to_somebody_elses_device_is_repointed(loop_rig: LoopRig) -> None:
    """Loop numbers change over a reboot: v-1's link may lead to v-2's device."""
    await loop_rig.store.create("v-1", 16 * MB)
    await loop_rig.store.create("v-2", 16 * MB)
    link = loop_rig.folder / "v-1.dev"
    link.unlink()
    link.symlink_to(os.readlink(loop_rig.folder / "v-2.dev"))
    await loop_rig.store.attach_all()
    assert os.readlink(link) == (await devices(loop_rig.folder / "v-1.img")).strip()


async def test_a_create_that_crashed_is_finished(loop_rig: LoopRig) -> None:
    (loop_rig.folder / "v-1.img.part").write_bytes(b"half made")
    (loop_rig.folder / "v-2.img.part").write_bytes(b"given up")
    await loop_rig.store.create("v-1", 16 * MB)
    await loop_rig.store.attach_all()
    assert {f.name for f in loop_rig.folder.iterdir()} == {"v-1.img", "v-1.dev"}
    await loop_rig.mount("v-1")
    root = (loop_rig.folder / "v-1.mnt").stat()
    assert (root.st_uid, root.st_gid, root.st_mode & 0o7777) == (0, 0, 0o755)


async def test_a_grow_that_crashed_is_finished(loop_rig: LoopRig) -> None:
    await loop_rig.store.create("v-1", 16 * MB)
    os.truncate(loop_rig.folder / "v-1.img", 64 * MB)
    await loop_rig.store.resize("v-1", 64 * MB, no_progress)
    await loop_rig.mount("v-1")
    await loop_rig.write("v-1", bytes(40 * MB))


async def test_a_shrink_that_crashed_is_finished(loop_rig: LoopRig) -> None:
    options = await loop_rig.store.create("v-1", 64 * MB)
    await run("e2fsck", "-fp", options["device"])
    await run("resize2fs", options["device"], "16M")
    await loop_rig.store.resize("v-1", 16 * MB, no_progress)
    assert await loop_rig.size_bytes("v-1") == 16 * MB
    sectors = await run("blockdev", "--getsz", options["device"])
    assert int(sectors) * 512 == 16 * MB
    await loop_rig.mount("v-1")


async def test_growth_ends_where_it_would_destroy(loop_rig: LoopRig) -> None:
    await loop_rig.store.create("v-1", 64 * MB)
    with pytest.raises(VolumeStoreError, match="64GB at most"):
        await loop_rig.store.resize("v-1", 1 << 40, no_progress)
    await loop_rig.store.resize("v-1", 64 << 30, no_progress)
    await loop_rig.mount("v-1")


async def test_space_is_set_aside_when_asked_for(loop_rig: LoopRig) -> None:
    """On a small disk of its own: a promise of more than there is must never fill a real one."""
    await loop_rig.store.create("disk-1", 128 * MB)
    await loop_rig.mount("disk-1")
    folder = loop_rig.folder / "disk-1.mnt"
    inner = LoopRig(folder, store=LoopVolumes(folder, over_commit=False))
    try:
        await inner.store.create("v-1", 32 * MB)
        assert (folder / "v-1.img").stat().st_blocks * 512 >= 32 * MB
        await inner.store.resize("v-1", 48 * MB, no_progress)
        assert (folder / "v-1.img").stat().st_blocks * 512 >= 48 * MB
        for refused in (
            inner.store.create("v-2", 256 * MB),
            inner.store.resize("v-1", 256 * MB, no_progress),
        ):
            with pytest.raises(VolumeStoreError, match="must be free"):
                await refused
        assert await inner.size_bytes("v-1") == 48 * MB
        await LoopVolumes(folder).create("v-2", 256 * MB)
    finally:
        await inner.clear()


async def test_a_full_disk_takes_no_more_volumes(loop_rig: LoopRig) -> None:
    await loop_rig.store.create("disk-1", 64 * MB)
    await loop_rig.mount("disk-1")
    inner = LoopVolumes(loop_rig.folder / "disk-1.mnt")
    with pytest.raises(subprocess.CalledProcessError):
        await run("dd", "if=/dev/zero", f"of={loop_rig.folder}/disk-1.mnt/file", "bs=1M")
    with pytest.raises(VolumeStoreError, match="must be free"):
        await inner.create("v-1", 16 * MB)


async def test_what_stays_free_is_what_was_asked_for(loop_rig: LoopRig) -> None:
    disk = os.statvfs(loop_rig.folder)
    free = disk.f_bavail * disk.f_frsize
    strict = LoopVolumes(loop_rig.folder, free_bytes_min=2 * free)
    with pytest.raises(VolumeStoreError, match="must be free"):
        await strict.create("v-1", 16 * MB)
    await LoopVolumes(loop_rig.folder, free_bytes_min=0).create("v-1", 16 * MB)
    with pytest.raises(VolumeStoreError, match="must be free"):
        await strict.resize("v-1", 32 * MB, no_progress)
    await strict.resize("v-1", 8 * MB, no_progress)


async def test_a_volume_of_100_gb_costs_what_is_in_it(loop_rig: LoopRig) -> None:
    image = loop_rig.folder / "v-1.img"
    await loop_rig.store.create("v-1", 50 << 30)
    for size in (100 << 30, 50 << 30):
        await loop_rig.store.resize("v-1", size, no_progress)
        assert image.stat().st_size == size
        assert image.stat().st_blocks * 512 < 32 * MB
    assert {f.name for f in loop_rig.folder.iterdir()} == {"v-1.img", "v-1.dev"}


async def test_a_cancelled_resize_lets_its_tool_finish(
    loop_rig: LoopRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = await loop_rig.store.create("v-1", 32 * MB)
    began = Signal(tmp_path / "began")
    real = find_tool("resize2fs")
    stand_in = tmp_path / "resize2fs"
    stand_in.write_text(f'#!/bin/sh\necho > {began.path}\nexec {real} "$@"\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    resize = asyncio.create_task(loop_rig.store.resize("v-1", 128 * MB, no_progress))
    await began.wait()
    began.close()
    resize.cancel()
    with pytest.raises(asyncio.CancelledError):
        await resize
    assert (await EXT4.measure(options["device"])).size_bytes == 128 * MB


async def test_there_need_not_be_a_folder_yet(tmp_path: Path) -> None:
    store = LoopVolumes(tmp_path / "absent")
    await store.attach_all()
    await store.remove("v-1")


async def test_names_cannot_leave_the_folder(loop_rig: LoopRig) -> None:
    for name in ("../v", "a/b", "", ".hidden", "v.img"):
        with pytest.raises(VolumeStoreError, match="no name"):
            await loop_rig.store.create(name, 16 * MB)


async def test_a_container_meets_the_end_of_its_volume(
    loop_rig: LoopRig, dockerd: PrivateDockerd
) -> None:
    engine = DockerEngine(dockerd.url, owner=OWNER)
    options = await loop_rig.store.create("v-1", 16 * MB)
    await engine.create_volume("v-1", options, {LABEL_OWNER: OWNER})
    mount = {"Type": "volume", "Source": "v-1", "Target": "/data"}
    await engine.create_container("c-1", body(Mounts=[mount]))
    try:
        await engine.start_container("c-1")
        full = await _dd(engine, 40)
        assert full.exit_code == 1
        assert b"No space left on device" in full.stderr
        with pytest.raises(VolumeStoreError, match="mounted"):
            await loop_rig.store.remove("v-1")

        await engine.stop_container("c-1", 5)
        await loop_rig.store.resize("v-1", 64 * MB, no_progress)
        await engine.start_container("c-1")
        assert (await _dd(engine, 40)).exit_code == 0
    finally:
        await asyncio.to_thread(clear, dockerd)
        await engine.close()
    await loop_rig.store.remove("v-1")


async def _dd(engine: DockerEngine, megabytes: int) -> ExecOutcome:
    cmd = ["dd", "if=/dev/zero", "of=/data/file", "bs=1M", f"count={megabytes}"]
    return await engine.execute("c-1", cmd, "", 1000)
