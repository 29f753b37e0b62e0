"""What only a real btrfs can show: quotas in a container, crashes, what a container leaves."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.labels import LABEL_OWNER
from service.adapters.btrfs_limits import BtrfsLimits
from service.adapters.docker_engine import DockerEngine
from service.adapters.folder_mounts import is_bound, mount_of
from service.adapters.folder_volumes import FolderVolumes
from service.errors import EngineRefused, VolumeBelowUsed, VolumeStoreError
from service.ports import ExecOutcome
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import OWNER, body, clear
from tests.kit.volume_rigs import MB, BtrfsRig, btrfs_rig_in, no_progress, run


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BtrfsRig]:
    async with btrfs_rig_in(tmp_path) as made:
        yield made


def strict(rig: BtrfsRig, **settings: int) -> FolderVolumes:
    return FolderVolumes(rig.folder, BtrfsLimits(), over_commit=False, **settings)


async def test_the_probe_says_what_is_used(rig: BtrfsRig, tmp_path: Path) -> None:
    works, detail = await rig.store.probe()
    assert works
    assert detail == f"btrfs subvolumes with quotas under {rig.folder}, over-commit on"
    assert (await strict(rig).probe())[1].endswith("over-commit off")
    assert list(rig.folder.iterdir()) == []
    elsewhere = FolderVolumes(tmp_path / "elsewhere", BtrfsLimits())
    assert await elsewhere.probe() == (
        False,
        f"{tmp_path / 'elsewhere'} is on {mount_of(tmp_path).kind}, not on btrfs",
    )


async def test_the_limit_holds_and_moves_under_a_writer(rig: BtrfsRig) -> None:
    options = await rig.store.create("v-1", 16 * MB)
    assert options == {"type": "none", "o": "bind", "device": f"{rig.folder}/v-1/data"}
    shown = await run("stat", "-c", "%u %g %a", options["device"])
    assert shown == "0 0 755\n"
    await rig.mount("v-1")
    with pytest.raises(OSError, match=r"Disk quota exceeded") as full:
        await rig.allocate("v-1", 40 * MB)
    assert full.value.errno == errno.EDQUOT
    await rig.store.resize("v-1", 64 * MB, no_progress)
    await rig.allocate("v-1", 40 * MB)
    with pytest.raises(VolumeBelowUsed, match=r"cannot shrink to 32MB: its data needs 40"):
        await rig.store.resize("v-1", 32 * MB, no_progress)
    assert await rig.size_bytes("v-1") == 64 * MB
    await rig.store.resize("v-1", 48 * MB, no_progress)
    with pytest.raises(OSError, match=r"Disk quota exceeded"):
        await rig.allocate("v-1", 50 * MB)


async def test_what_was_half_made_or_half_removed_is_finished(rig: BtrfsRig) -> None:
    await rig.store.create("v-1", 16 * MB)
    for left in (".v-1.gone", ".v-2.part", ".v-3.part"):
        await run("btrfs", "subvolume", "create", str(rig.folder / left))
    await rig.store.remove("v-1")
    await rig.store.create("v-2", 16 * MB)
    assert {f.name for f in rig.folder.iterdir()} == {"v-2", ".v-3.part"}
    await rig.store.attach_all()
    assert {f.name for f in rig.folder.iterdir()} == {"v-2"}
    await rig.mount("v-2")


async def test_subvolumes_that_a_container_made_go_with_the_volume(rig: BtrfsRig) -> None:
    data = (await rig.store.create("v-1", 16 * MB))["device"]
    for inner in ("a", "a/b", "c"):
        await run("btrfs", "subvolume", "create", f"{data}/{inner}")
    await rig.store.create("v-2", 16 * MB)
    await rig.store.remove("v-1")
    assert {f.name for f in rig.folder.iterdir()} == {"v-2"}
    assert "path volumes/v-1" not in await run("btrfs", "subvolume", "list", str(rig.disk))


async def test_a_volume_whose_quota_is_gone_is_named_and_gets_it_again(rig: BtrfsRig) -> None:
    await rig.store.create("v-1", 16 * MB)
    await rig.store.create("v-2", 16 * MB)
    await run("btrfs", "qgroup", "limit", "none", str(rig.folder / "v-2"))
    with pytest.raises(VolumeStoreError, match=r"^volumes without a limit: v-2: its quota is gone"):
        await rig.store.attach_all()
    await rig.store.resize("v-2", 32 * MB, no_progress)
    await rig.store.attach_all()
    await run("btrfs", "quota", "disable", str(rig.disk))
    with pytest.raises(VolumeStoreError, match=r"v-1: .*; v-2: "):
        await rig.store.attach_all()


async def test_without_over_commit_every_promise_has_its_place(rig: BtrfsRig) -> None:
    disk = os.statvfs(rig.folder)
    free = disk.f_bavail * disk.f_frsize // MB
    store = strict(rig, free_bytes_min=512 * MB)
    await store.create("v-1", (free - 1024) * MB)
    with pytest.raises(VolumeStoreError, match="must be free"):
        await store.create("v-2", 768 * MB)
    await store.create("v-2", 128 * MB)
    with pytest.raises(VolumeStoreError, match="must be free"):
        await store.resize("v-2", 768 * MB, no_progress)
    # What is written of a promise is no longer promised.
    await rig.mount("v-1")
    await rig.allocate("v-1", 256 * MB)
    await store.resize("v-2", 384 * MB, no_progress)
    await rig.store.create("v-3", 2 * free * MB)
    with pytest.raises(VolumeStoreError, match="must be free"):
        await FolderVolumes(
            rig.folder, BtrfsLimits(), free_bytes_min=2 * free * MB
        ).create("v-4", 16 * MB)


async def test_a_mount_in_another_namespace_counts(rig: BtrfsRig) -> None:
    data = (await rig.store.create("v-1", 16 * MB))["device"]
    point = rig.folder / "point"
    point.mkdir()
    script = 'mount --bind "$1" "$2"; echo; read end'
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "sh", "-e", "-c", script, "sh", data, str(point)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"\n"
        assert str(point) not in await run("cat", "/proc/self/mountinfo")
        assert is_bound(rig.folder / "v-1")
        with pytest.raises(VolumeStoreError, match="still mounted"):
            await rig.store.remove("v-1")
    finally:
        await holder.communicate(b"\n")
    await rig.store.remove("v-1")
    assert holder.returncode == 0


async def test_a_container_meets_its_quota_and_no_empty_folder(
    rig: BtrfsRig, dockerd: PrivateDockerd
) -> None:
    engine = DockerEngine(dockerd.url, owner=OWNER)
    options = await rig.store.create("v-1", 16 * MB)
    await engine.create_volume("v-1", options, {LABEL_OWNER: OWNER})
    mount = {"Type": "volume", "Source": "v-1", "Target": "/data"}
    await engine.create_container("c-1", body(Mounts=[mount]))
    try:
        await engine.start_container("c-1")
        full = await _dd(engine, 40)
        assert full.exit_code == 1
        assert b"quota exceeded" in full.stderr.lower()
        await rig.store.resize("v-1", 64 * MB, no_progress)
        assert (await _dd(engine, 40)).exit_code == 0
        with pytest.raises(VolumeStoreError, match="mounted"):
            await rig.store.remove("v-1")

        await engine.stop_container("c-1", 5)
        await run("umount", str(rig.disk))
        try:
            with pytest.raises(EngineRefused, match="no such file or directory"):
                await engine.start_container("c-1")
        finally:
            await run("mount", "-o", "loop", str(rig.disk.with_suffix(".img")), str(rig.disk))
        await engine.start_container("c-1")
    finally:
        await asyncio.to_thread(clear, dockerd)
        await engine.close()
    await rig.store.remove("v-1")


async def _dd(engine: DockerEngine, megabytes: int) -> ExecOutcome:
    cmd = ["dd", "if=/dev/zero", "of=/data/file", "bs=1M", f"count={megabytes}"]
    return await engine.execute("c-1", cmd, "", 1000)
