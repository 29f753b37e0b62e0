"""What only real upper directories show where clones share no blocks: two passes, compactions.

On an ext4 of the test's own.
"""

import asyncio
import mmap
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.adapters.upper_compact import find_twins, link_twins
from service.adapters.upper_disks import UpperDisks
from service.adapters.upper_store import STORE_FOLDER, Store
from service.adapters.upper_sync import SETTLED_NS
from service.disk_ports import DiskRef
from service.errors import SystemDiskError, SystemDiskFull
from service.ports import Progress
from tests.kit.busybox import busybox_rootfs
from tests.kit.disk_rigs import (
    DiskRig,
    carry,
    clear_disks,
    layer,
    no_progress,
    stand_in_cp,
    two_kept,
    upper_disk_rig,
)
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import FILE_OF_IMAGE, FOREVER, OWNER, body
from tests.kit.fifo import Signal
from tests.kit.odd_trees import alter, base_tree, differences, plant, scan

CHANGES = ("echo mine > /root/f", f"rm {FILE_OF_IMAGE}")
RECHECK_S = 0.05


@pytest.fixture(scope="module")
def ext4(root: None) -> Iterator[PrivateDockerd]:
    with PrivateDockerd(data_file_system="ext4") as engine:
        engine.import_busybox_image()
        yield engine


@pytest.fixture
async def real(ext4: PrivateDockerd) -> AsyncIterator[DiskRig]:
    made = upper_disk_rig(ext4)
    try:
        yield made
    finally:
        await made.close()
        await asyncio.to_thread(clear_disks, ext4)


def await_settled(*paths: Path) -> None:
    """Return when the last changes of these lie so far back that they get stamps."""
    last_ns = max(path.lstat().st_ctime_ns for path in paths)
    while time.time_ns() <= last_ns + SETTLED_NS:
        time.sleep(RECHECK_S)


def await_opened(path: Path) -> None:
    """Return when this process has opened the file."""
    while True:
        links = (Path(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd"))
        if any(link.is_symlink() and link.readlink() == path for link in links):
            return
        time.sleep(RECHECK_S)


def merged(dockerd: PrivateDockerd, container: str) -> Path:
    """The root of a container that runs, as this host sees it."""
    return layer(dockerd, container).folder / "merged"


def plant_hole(path: Path, size_bytes: int, mtime_ns: int) -> None:
    """A file with much to compare that takes no room."""
    path.touch()
    os.truncate(path, size_bytes)
    os.utime(path, ns=(mtime_ns, mtime_ns))


async def test_the_reserve_stays_free(real: DiskRig, ext4: PrivateDockerd) -> None:
    """5 % of the disk, which is less than 1 GiB here; what a clone needs is on top of it."""
    await real.run_and_stop("c-1")
    big = layer(ext4, "c-1").upper / "big"
    await asyncio.to_thread(lambda: big.write_bytes(os.urandom(64 << 20)))
    await real.disks.keep("c-1", "kept")
    await real.make("c-2")
    disk = os.statvfs(ext4.data_root)
    reserve = disk.f_blocks * disk.f_frsize // 20
    await asyncio.to_thread(real.leave_free, reserve + (60 << 20))
    with pytest.raises(SystemDiskFull, match="too little for a copy"):
        await real.disks.fill("c-2", "kept", no_progress)
    await asyncio.to_thread(real.leave_free, reserve + (70 << 20))
    await real.disks.fill("c-2", "kept", no_progress)


async def test_every_kind_of_entry_is_carried_in_two_passes(
    real: DiskRig, ext4: PrivateDockerd
) -> None:
    """Changed in every way in between; and what was not is not copied again."""

    def add_image() -> None:
        with ext4.client() as client:
            tree = base_tree(busybox_rootfs())
            client.api.import_image_from_data(tree, repository="odd", tag="1")

    await asyncio.to_thread(add_image)
    for name in ("c-1", "c-2"):
        await real.engine.create_container(name, body(FOREVER, effect=name, image="odd:1"))
    await real.engine.start_container("c-1")
    old, new = layer(ext4, "c-1"), layer(ext4, "c-2")
    await asyncio.to_thread(plant, merged(ext4, "c-1"))
    await asyncio.to_thread(await_settled, *old.upper.rglob("*"))
    assert await real.disks.precopy("c-1", "c-2", 0, no_progress) > 0
    untouched = new.folder / "diff.part" / "odd" / "disk"
    held = os.open(untouched, os.O_PATH)  # or the number of its inode is given to the next one
    inode = os.fstat(held).st_ino
    await asyncio.to_thread(alter, merged(ext4, "c-1"))
    before = await asyncio.to_thread(scan, merged(ext4, "c-1"))
    await real.engine.stop_container("c-1", 5)
    raw = await asyncio.to_thread(scan, old.upper)
    await real.disks.keep("c-1", "kept")
    await real.disks.fill("c-2", "kept", no_progress)
    assert differences(raw, await asyncio.to_thread(scan, new.upper)) == []
    assert (new.upper / "odd" / "disk").lstat().st_ino == inode
    os.close(held)
    await real.engine.remove_container("c-1")
    await real.engine.start_container("c-2")
    assert differences(before, await asyncio.to_thread(scan, merged(ext4, "c-2"))) == []


async def test_a_service_that_died_after_a_precopy_copies_from_scratch(
    real: DiskRig, ext4: PrivateDockerd
) -> None:
    await real.run("c-1", *CHANGES)
    await real.make("c-2")
    await real.disks.precopy("c-1", "c-2", 1, no_progress)
    (layer(ext4, "c-2").folder / "diff.part" / "stray").write_text("of the first pass")
    again = UpperDisks(ext4.url, owner=OWNER)
    try:
        await real.engine.stop_container("c-1", 5)
        await again.keep("c-1", "kept")
        await again.fill("c-2", "kept", no_progress)
    finally:
        await again.close()
    new = layer(ext4, "c-2")
    assert "stray" not in os.listdir(new.upper)
    assert "diff.part" not in os.listdir(new.folder)
    await real.engine.start_container("c-2")
    assert await real.read("c-2", "/root/f") == b"mine\n"


async def test_what_is_written_through_a_mapping_during_a_precopy_is_carried(
    real: DiskRig, ext4: PrivateDockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages were written to before, so that the kernel would note no more of it."""
    await real.run("c-1")
    await real.make("c-2")
    mapped = merged(ext4, "c-1") / "root" / "mapped"
    mapped.write_bytes(bytes(mmap.PAGESIZE))
    copied, written = Signal(tmp_path / "copied"), tmp_path / "written"
    os.mkfifo(written)
    script = f'{shutil.which("cp")} "$@"; echo > {copied.path}; read _ < {written}'
    with mapped.open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0] = 1
        await asyncio.to_thread(await_settled, mapped)
        stand_in_cp(tmp_path, monkeypatch, script)
        precopy = asyncio.create_task(real.disks.precopy("c-1", "c-2", 0, no_progress))
        await copied.wait()
        pages[1] = 2
        await asyncio.to_thread(written.write_text, "\n")
        await precopy
    copied.close()
    monkeypatch.undo()
    await carry(real, "c-1", "c-2")
    assert (layer(ext4, "c-2").upper / "root" / "mapped").read_bytes()[:2] == b"\x01\x02"


async def test_what_a_precopy_missed_is_carried(
    real: DiskRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.run("c-1", *CHANGES)
    await real.make("c-2")
    real_cp = shutil.which("cp")
    script = f'{real_cp} "$@"; shift $(($# - 1)); rm "$1/root/f"; echo vanished >&2; exit 1'
    stand_in_cp(tmp_path, monkeypatch, script)
    assert await real.disks.precopy("c-1", "c-2", 0, no_progress) > 0
    monkeypatch.undo()
    await carry(real, "c-1", "c-2")
    await real.engine.start_container("c-2")
    assert await real.read("c-2", "/root/f") == b"mine\n"


async def test_a_precopy_that_fails_says_why_and_harms_nothing(
    real: DiskRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.run("c-1", *CHANGES)
    await real.make("c-2")
    stand_in_cp(tmp_path, monkeypatch, "echo cannot begin >&2; exit 2")
    with pytest.raises(SystemDiskError, match="cannot begin"):
        await real.disks.precopy("c-1", "c-2", 0, no_progress)
    monkeypatch.undo()
    await carry(real, "c-1", "c-2")
    await real.engine.start_container("c-2")
    assert await real.read("c-2", "/root/f") == b"mine\n"


async def test_a_disk_that_fills_up_during_a_precopy_is_freed_of_it(
    real: DiskRig, ext4: PrivateDockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.run("c-1", *CHANGES)
    await real.make("c-2")
    copied, taken = Signal(tmp_path / "copied"), tmp_path / "taken"
    os.mkfifo(taken)
    script = f'{shutil.which("cp")} "$@"; echo > {copied.path}; read _ < {taken}; exit 1'
    stand_in_cp(tmp_path, monkeypatch, script)
    precopy = asyncio.create_task(real.disks.precopy("c-1", "c-2", 0, no_progress))
    await copied.wait()
    await asyncio.to_thread(real.leave_free, 1 << 20)
    await asyncio.to_thread(taken.write_text, "\n")
    with pytest.raises(SystemDiskFull):
        await precopy
    copied.close()
    assert "diff.part" not in os.listdir(layer(ext4, "c-2").folder)


async def test_a_second_pass_can_be_cancelled(real: DiskRig, ext4: PrivateDockerd) -> None:
    await real.run("c-1", *CHANGES)
    await real.make("c-2")
    await real.disks.precopy("c-1", "c-2", 0, no_progress)
    many = merged(ext4, "c-1") / "many"

    def make_files() -> None:
        many.mkdir()
        for number in range(5000):
            (many / str(number)).touch()

    await asyncio.to_thread(make_files)
    await real.engine.stop_container("c-1", 5)
    await real.disks.keep("c-1", "kept")

    def cancel(_: Progress) -> None:
        fill.cancel()

    fill = asyncio.create_task(real.disks.fill("c-2", "kept", cancel))
    with pytest.raises(asyncio.CancelledError):
        await fill
    part = layer(ext4, "c-2").folder / "diff.part"
    assert os.listdir(layer(ext4, "c-2").upper) == []
    begun = await asyncio.to_thread(scan, part)
    assert await asyncio.to_thread(scan, part) == begun
    await real.disks.fill("c-2", "kept", no_progress)
    assert len(os.listdir(layer(ext4, "c-2").upper / "many")) == 5000


async def test_a_fill_does_not_wait_for_a_compaction_but_a_removal_does(
    real: DiskRig, ext4: PrivateDockerd
) -> None:
    await two_kept(real)
    store = ext4.data_root / STORE_FOLDER / OWNER
    for kept in ("one", "two"):
        plant_hole(store / kept / "diff" / "hole", 4 << 30, 0)
    await real.make("c-3")
    compaction = asyncio.create_task(real.disks.compact("two", "one"))
    await real.disks.fill("c-3", "two", no_progress)
    assert not compaction.done()
    removals = [asyncio.create_task(real.disks.remove(kept)) for kept in ("one", "two")]
    await real.make("c-4")
    await real.disks.fill("c-4", "one", no_progress)
    assert not any(task.done() for task in (compaction, *removals))
    compaction.cancel()
    with pytest.raises(asyncio.CancelledError):
        await compaction
    await asyncio.gather(*removals)
    assert os.listdir(store) == []


async def test_no_file_is_replaced_while_it_is_cloned(
    real: DiskRig, ext4: PrivateDockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cp takes a file that is another one than a moment ago for an error."""
    await two_kept(real)
    await real.make("c-3")
    begun, go_on = Signal(tmp_path / "begun"), tmp_path / "go-on"
    os.mkfifo(go_on)
    script = f'echo > {begun.path}; read _ < {go_on}; exec {shutil.which("cp")} "$@"'
    stand_in_cp(tmp_path, monkeypatch, script)
    fill = asyncio.create_task(real.disks.fill("c-3", "two", no_progress))
    await begun.wait()
    compaction = asyncio.create_task(real.disks.compact("two", "one"))
    await asyncio.wait({compaction}, timeout=0.5)
    file = ext4.data_root / STORE_FOLDER / OWNER / "two" / "diff" / "root" / "f"
    assert file.stat().st_nlink == 1
    await asyncio.to_thread(go_on.write_text, "\n")
    await fill
    assert await compaction > 0
    assert file.stat().st_nlink == 2
    begun.close()


async def test_a_fill_settles_a_compaction_that_crashed(
    real: DiskRig, ext4: PrivateDockerd
) -> None:
    await two_kept(real)
    store = Store(ext4.data_root, OWNER)
    before = scan(store.diff("two"))
    twins = [twin for twin in find_twins(store.diff("two"), store.diff("one")) if twin]
    steps = link_twins(store.entry("two"), twins)
    while next(steps) != "renamed":
        pass
    steps.close()
    await real.make("c-3")
    await real.disks.fill("c-3", "two", no_progress)
    assert differences(before, scan(layer(ext4, "c-3").upper)) == []


@pytest.mark.parametrize("by", ["keep", "removal"])
async def test_a_disk_that_is_moved_while_it_is_compared_is_no_answer(
    real: DiskRig, ext4: PrivateDockerd, by: str
) -> None:
    for number, name in enumerate(("c-1", "c-2")):
        await real.run_and_stop(name, *CHANGES)
        plant_hole(layer(ext4, name).upper / "hole", 1 << 29, number)
    comparing = asyncio.create_task(
        real.disks.changes(DiskRef("container", "c-1"), DiskRef("container", "c-2"), 10)
    )
    await asyncio.to_thread(await_opened, layer(ext4, "c-2").upper / "hole")
    if by == "keep":
        await real.disks.keep("c-2", "kept")
    else:
        await real.engine.remove_container("c-2")
    assert not comparing.done()
    with pytest.raises(SystemDiskError, match="was moved while it was compared"):
        await comparing
