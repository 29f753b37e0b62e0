"""What only real upper directories can show: every kind of entry, crashes, mounts, prunes."""

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.adapters.upper_layers import await_unmounted
from service.adapters.upper_store import Steps, Store
from service.errors import SystemDiskError
from service.ports import Progress
from tests.kit.busybox import busybox_rootfs
from tests.kit.disk_rigs import (
    DiskRig,
    clear_disks,
    layer,
    no_progress,
    stand_in_cp,
    upper_disk_rig,
)
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import FOREVER, OWNER, body
from tests.kit.fifo import Signal
from tests.kit.odd_trees import base_tree, differences, plant, scan
from tests.kit.volume_rigs import run

ODD_IMAGE = "odd:1"
WHITEOUT = (stat.S_IFCHR, 0)
OPEN_BUT_GONE = "exec 3>/open; rm /open; echo secret >&3; exec sleep 600"
CHANGES = ("echo mine > /root/f", "rm /etc/group")


@pytest.fixture(scope="module")
def xfs_dockerd(root: None) -> Iterator[PrivateDockerd]:
    if shutil.which("mkfs.xfs") is None:
        pytest.skip("there is no mkfs.xfs (Debian: xfsprogs)")
    with PrivateDockerd(data_file_system="xfs") as engine:
        engine.import_busybox_image()
        yield engine


@pytest.fixture(params=["host", "xfs"])
def any_dockerd(request: pytest.FixtureRequest) -> PrivateDockerd:
    """On the file system of the temporary folder, and on one that shares blocks."""
    name = {"host": "dockerd", "xfs": "xfs_dockerd"}[request.param]
    engine: PrivateDockerd = request.getfixturevalue(name)
    return engine


@pytest.fixture
async def rig(dockerd: PrivateDockerd) -> AsyncIterator[DiskRig]:
    made = upper_disk_rig(dockerd)
    yield made
    await made.close()
    await asyncio.to_thread(clear_disks, dockerd)


def stop_after(steps: Steps, step: str) -> None:
    """Go on with a procedure up to a step, and no further: it crashed."""
    while next(steps) != step:
        pass
    steps.close()


async def test_every_kind_of_entry_is_carried(any_dockerd: PrivateDockerd) -> None:
    made = upper_disk_rig(any_dockerd)

    def merged(name: str) -> Path:
        return layer(any_dockerd, name).folder / "merged"

    def add_image() -> None:
        with any_dockerd.client() as client:
            tree = base_tree(busybox_rootfs())
            client.api.import_image_from_data(tree, repository="odd", tag="1")

    async def create(name: str, cmd: tuple[str, ...] = FOREVER) -> None:
        config = body(cmd, effect=name, image=ODD_IMAGE)
        await made.engine.create_container(name, config)

    try:
        await asyncio.to_thread(add_image)
        await create("c-1", ("/bin/sh", "-c", OPEN_BUT_GONE))
        await made.engine.start_container("c-1")
        await asyncio.to_thread(plant, merged("c-1"))
        before = await asyncio.to_thread(scan, merged("c-1"))
        assert len(before) > 100
        for old, new in (("c-1", "c-2"), ("c-2", "c-3")):
            await made.engine.stop_container(old, 5)
            raw = await asyncio.to_thread(scan, layer(any_dockerd, old).upper)
            assert WHITEOUT in {(node.mode, node.device) for node in raw.values()}
            assert "trusted.overlay.opaque" in dict(raw[b"base/opaque"].xattrs)
            await made.disks.keep(old, f"{old}-kept")
            await create(new)
            await made.disks.fill(new, f"{old}-kept", no_progress)
            clone = await asyncio.to_thread(scan, layer(any_dockerd, new).upper)
            assert differences(raw, clone) == []
            await made.engine.remove_container(old)
            await made.engine.start_container(new)
            after = await asyncio.to_thread(scan, merged(new))
            assert differences(before, after) == []
    finally:
        await made.close()
        await asyncio.to_thread(clear_disks, any_dockerd)


async def test_where_blocks_are_shared_a_clone_takes_none(xfs_dockerd: PrivateDockerd) -> None:
    made = upper_disk_rig(xfs_dockerd)
    try:
        assert (await made.disks.probe()).reflink
        await made.run_and_stop("c-1")
        big = layer(xfs_dockerd, "c-1").upper / "big"
        await run("dd", "if=/dev/urandom", f"of={big}", "bs=1M", "count=64", "conv=fsync")
        assert await made.disks.keep("c-1", "kept") >= 64 << 20
        await made.make("c-2")
        before = os.statvfs(xfs_dockerd.data_root).f_bfree
        await made.disks.fill("c-2", "kept", no_progress)
        await run("sync", "--file-system", str(xfs_dockerd.data_root))
        after = os.statvfs(xfs_dockerd.data_root)
        assert (before - after.f_bfree) * after.f_frsize < 4 << 20
        await made.run("c-3", "echo mine > /root/f")
        await made.make("c-4")
        assert await made.disks.precopy("c-3", "c-4", 0, no_progress) == 0
        await made.engine.stop_container("c-3", 5)
        await made.disks.keep("c-3", "second")
        await made.disks.fill("c-4", "second", no_progress)
        await made.engine.start_container("c-4")
        await made.engine.stop_container("c-4", 5)
        await made.disks.keep("c-4", "third")
        assert await made.disks.compact("third", "second") == 0
    finally:
        await made.close()
        await asyncio.to_thread(clear_disks, xfs_dockerd)


async def _mine(rig: DiskRig, container: str) -> None:
    await rig.engine.start_container(container)
    assert await rig.read(container, "/root/f") == b"mine\n"
    assert await rig.read(container, "/etc/group") is None


@pytest.mark.parametrize("step", ["noted", "moved", "synced"])
async def test_a_keep_that_crashed_is_finished(
    rig: DiskRig, dockerd: PrivateDockerd, step: str
) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    store, old = Store(dockerd.data_root, OWNER), layer(dockerd, "c-1")
    stop_after(store.keep(old, "kept"), step)
    assert await rig.disks.keep("c-1", "kept") > 0
    assert os.listdir(old.upper) == []
    assert old.upper.stat().st_mode & 0o7777 == 0o755
    await rig.engine.remove_container("c-1")
    assert not old.folder.exists()
    await rig.make("c-2")
    await rig.disks.fill("c-2", "kept", no_progress)
    await _mine(rig, "c-2")


@pytest.mark.parametrize("step", ["marked", "emptied", "moved", "forgotten"])
async def test_a_put_back_that_crashed_is_finished(
    rig: DiskRig, dockerd: PrivateDockerd, step: str
) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    store, old = Store(dockerd.data_root, OWNER), layer(dockerd, "c-1")
    before = scan(old.upper)
    await rig.disks.keep("c-1", "kept")
    stop_after(store.put_back(old, "kept"), step)
    await rig.disks.put_back("kept", "c-1")
    assert scan(old.upper) == before
    assert os.listdir(store.folder) == []
    await _mine(rig, "c-1")


@pytest.mark.parametrize("step", ["half a clone", "emptied", "moved"])
async def test_a_fill_that_crashed_is_finished(
    rig: DiskRig, dockerd: PrivateDockerd, step: str
) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    await rig.make("c-2")
    store, new = Store(dockerd.data_root, OWNER), layer(dockerd, "c-2")
    part = store.begin_fill(new, "kept")
    part.mkdir()
    (part / "half").write_text("a clone")
    if step != "half a clone":
        stop_after(store.finish_fill(new), step)
    await rig.disks.fill("c-2", "kept", no_progress)
    assert sorted(os.listdir(new.upper)) == sorted(os.listdir(store.diff("kept")))
    assert "diff.part" not in os.listdir(new.folder)
    await _mine(rig, "c-2")


@pytest.mark.parametrize("step", ["hidden", "deleted"])
async def test_a_removal_that_crashed_is_finished(
    rig: DiskRig, dockerd: PrivateDockerd, step: str
) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    store = Store(dockerd.data_root, OWNER)
    stop_after(store.remove("kept"), step)
    await rig.disks.remove("kept")
    assert os.listdir(store.folder) == []


async def test_a_keep_that_fails_leaves_the_container_as_it_was(
    rig: DiskRig, dockerd: PrivateDockerd
) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    store = Store(dockerd.data_root, OWNER)
    entry = store.diff("kept").parent
    entry.mkdir(parents=True)
    (entry / "empty").write_text("in the way of the empty layer")
    with pytest.raises(SystemDiskError, match="empty"):
        await rig.disks.keep("c-1", "kept")
    assert os.listdir(store.folder) == []
    await _mine(rig, "c-1")


async def test_a_layer_is_left_alone_while_it_is_mounted(
    rig: DiskRig, dockerd: PrivateDockerd, tmp_path: Path
) -> None:
    """As `docker export` leaves it on engines before 28.0."""
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.make("c-2")
    upper = layer(dockerd, "c-1").upper
    lower = layer(dockerd, "c-2").upper
    work = upper.with_name("work")
    options = f"lowerdir={lower},upperdir={upper},workdir={work},index=off"
    await run("mount", "-t", "overlay", "-o", options, "overlay", str(tmp_path))
    try:
        with pytest.raises(SystemDiskError, match="still mounted"):
            await_unmounted(upper, dockerd.pid or 0, timeout_s=0.0)
        keep = asyncio.create_task(rig.disks.keep("c-1", "kept"))
    finally:
        await run("umount", str(tmp_path))
    assert await keep > 0


async def test_a_prune_leaves_kept_disks_alone(rig: DiskRig, dockerd: PrivateDockerd) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")

    def prune() -> None:
        with dockerd.client() as client:
            client.containers.prune()
            client.networks.prune()
            client.volumes.prune()
            client.api.prune_builds()

    await asyncio.to_thread(prune)
    await rig.make("c-2")
    await rig.disks.fill("c-2", "kept", no_progress)
    await _mine(rig, "c-2")


async def test_a_fill_reports_and_can_be_cancelled(
    rig: DiskRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    size = await rig.disks.keep("c-1", "kept")
    await rig.make("c-2")
    never = Signal(tmp_path / "never")
    stand_in_cp(tmp_path, monkeypatch, f"echo 123456789; read _ < {never.path}")
    reported = asyncio.Event()
    seen: list[Progress] = []

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        reported.set()

    fill = asyncio.create_task(rig.disks.fill("c-2", "kept", on_progress))
    await asyncio.wait_for(reported.wait(), 10)
    assert seen == [Progress(10, size)]
    fill.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fill
    never.close()
    monkeypatch.undo()
    await rig.disks.fill("c-2", "kept", on_progress)
    assert seen[-1] == Progress(size, size)
    await _mine(rig, "c-2")


async def test_a_clone_that_fails_says_why(
    rig: DiskRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    await rig.make("c-2")
    stand_in_cp(tmp_path, monkeypatch, "echo no space left on device >&2; exit 1")
    with pytest.raises(SystemDiskError, match="no space left on device"):
        await rig.disks.fill("c-2", "kept", no_progress)
    assert not (await rig.disks.probe()).works


async def test_names_cannot_leave_the_store(rig: DiskRig) -> None:
    for name in ("../kept", "a/b", "", ".hidden", "n" * 201):
        with pytest.raises(SystemDiskError, match="no name"):
            await rig.disks.remove(name)
