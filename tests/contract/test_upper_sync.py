"""Copying a tree in two passes: whatever happens in between, the copy is the same in the end."""

import asyncio
import io
import mmap
import os
import random
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from service.adapters.upper_clone import clone_in_use, sync_disk
from service.adapters.upper_store import run_all
from service.adapters.upper_sync import LONG_WRITE_BYTES, Delta, Stamps, take_stamps
from tests.kit.busybox import busybox_rootfs
from tests.kit.odd_trees import base_tree, differences, plant, scan

pytestmark = pytest.mark.usefixtures("root")

ROUNDS = 12
SEEDS = range(5)
MUTATIONS = 25
ODD_MTIME_NS = 987_654_321_123_456_789


def later_than_all(folder: Path) -> int:
    """A ctime that no entry made so far has, and every later one has or exceeds; in ns."""
    marker = folder / "marker"
    marker.touch()
    before = marker.stat().st_ctime_ns
    while marker.stat().st_ctime_ns == before:
        os.utime(marker)
    return marker.stat().st_ctime_ns


def stamped(source: Path) -> Stamps:
    return run_all(take_stamps(source, later_than_all(source.parent)))


async def copied(source: Path, copy: Path) -> None:
    await clone_in_use(source, copy, lambda _: None)


def brought_up(source: Path, copy: Path, stamps: Stamps, changed_ns: int = 0) -> int:
    """The bytes that the second pass copied."""
    delta = Delta(source, copy, stamps, changed_ns)
    run_all(delta.steps())
    return delta.copied_bytes


def swap(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


class Mutator:
    """Makes and changes entries of a tree at random, as its seed has it."""

    def __init__(self, top: Path, seed: int) -> None:
        self._top = top
        self._rng = random.Random(seed)
        self._count = 0
        self._changes: tuple[Callable[[], None], ...] = (
            *(self._file, self._file, self._folder, self._symlink, self._special, self._sparse),
            *(self._link, self._link, self._edit, self._edit_quietly, self._remove, self._move),
            *(self._attribute, self._own, self._touch, self._swap),
        )

    def mutate(self, times: int) -> None:
        for _ in range(times):
            self._rng.choice(self._changes)()

    def _entries(self, kind: Callable[[int], bool] = lambda _: True) -> list[Path]:
        return sorted(path for path in self._top.rglob("*") if kind(path.lstat().st_mode))

    def _one(self, kind: Callable[[int], bool] = lambda _: True) -> Path | None:
        entries = self._entries(kind)
        return self._rng.choice(entries) if entries else None

    def _new(self) -> Path:
        self._count += 1
        folders = [self._top, *self._entries(stat.S_ISDIR)]
        return self._rng.choice(folders) / f"n{self._count}"

    def _file(self) -> None:
        self._new().write_bytes(self._rng.randbytes(self._rng.choice((0, 10, 5000, 70_000))))

    def _sparse(self) -> None:
        with self._new().open("wb") as file:
            file.truncate(1 << 20)
            file.seek(self._rng.randrange(1 << 20))
            file.write(b"island")

    def _folder(self) -> None:
        folder = self._new()
        folder.mkdir()
        (folder / "inside").write_bytes(self._rng.randbytes(100))

    def _symlink(self) -> None:
        self._new().symlink_to(f"to/{self._rng.random()}")

    def _special(self) -> None:
        kinds = ((stat.S_IFIFO, 0), (stat.S_IFCHR, 0), (stat.S_IFCHR, os.makedev(1, 3)))
        kind, device = self._rng.choice(kinds)
        os.mknod(self._new(), kind | 0o640, device)

    def _link(self) -> None:
        one = self._one(lambda mode: not stat.S_ISDIR(mode))
        if one is not None:
            os.link(one, self._new(), follow_symlinks=False)

    def _edit(self) -> None:
        one = self._one(stat.S_ISREG)
        if one is not None:
            with one.open("ab") as file:
                file.write(self._rng.randbytes(20))

    def _edit_quietly(self) -> None:
        one = self._one(stat.S_ISREG)
        if one is not None and one.stat().st_size:
            seen = one.stat()
            with one.open("r+b") as file:
                file.write(self._rng.randbytes(1))
            os.utime(one, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    def _remove(self) -> None:
        one = self._one()
        if one is not None:
            for path in sorted(one.rglob("*"), reverse=True) if one.is_dir() else ():
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink()

    def _move(self) -> None:
        one, to = self._one(), self._new()
        if one is not None and one not in to.parents:
            one.rename(to)

    def _swap(self) -> None:
        """What has a name has another one's: nothing of them is changed but their names."""
        one, other = self._one(stat.S_ISDIR), self._one(stat.S_ISDIR)
        if one and other and one != other and not (one in other.parents or other in one.parents):
            swap(one, other)

    def _attribute(self) -> None:
        one = self._one()
        if one is not None:
            name = f"trusted.{self._rng.choice('abc')}"
            if name in os.listxattr(one, follow_symlinks=False):
                os.removexattr(one, name, follow_symlinks=False)
            else:
                os.setxattr(one, name, self._rng.randbytes(9), follow_symlinks=False)

    def _own(self) -> None:
        one = self._one(lambda mode: not stat.S_ISLNK(mode))
        if one is not None:
            os.chown(one, self._rng.randrange(9), self._rng.randrange(9))
            one.chmod(self._rng.choice((0o600, 0o4755, 0o1777, 0)))

    def _touch(self) -> None:
        one = self._one()
        if one is not None:
            os.utime(one, ns=(ODD_MTIME_NS, ODD_MTIME_NS), follow_symlinks=False)


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_trees_and_changes(tmp_path: Path, seed: int) -> None:
    """Changed before the first pass, while it runs and after it; several times over."""
    source = tmp_path / "source"
    source.mkdir()
    mutator = Mutator(source, seed)
    await asyncio.to_thread(mutator.mutate, MUTATIONS)
    for number in range(ROUNDS):
        copy = tmp_path / f"copy-{number}"
        stamps = await asyncio.to_thread(stamped, source)
        await asyncio.to_thread(mutator.mutate, 3)
        copying = asyncio.create_task(copied(source, copy))
        await asyncio.to_thread(mutator.mutate, MUTATIONS)
        await copying
        await asyncio.to_thread(mutator.mutate, MUTATIONS if number % 2 else 2)
        await asyncio.to_thread(brought_up, source, copy, stamps)
        assert differences(scan(source), scan(copy)) == [], f"seed {seed}, round {number}"


async def test_a_folder_that_was_another_one_for_a_while(tmp_path: Path) -> None:
    """Nothing of the files tells: packages have one mtime for all they bring."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    for name in ("apps/old/deep", "apps/new/deep"):
        (source / name).mkdir(parents=True)
        (source / name / "f").write_text(name[5:8])
        os.utime(source / name / "f", ns=(ODD_MTIME_NS, ODD_MTIME_NS))
    (source / "apps" / "third").mkdir()
    (source / "apps" / "third" / "f").write_text("third")
    stamps = stamped(source)
    swap(source / "apps" / "old", source / "apps" / "new")
    await copied(source, copy)
    swap(source / "apps" / "old", source / "apps" / "new")
    untouched = os.lstat(copy / "apps" / "third" / "f").st_ino
    assert brought_up(source, copy, stamps) == 6
    assert differences(scan(source), scan(copy)) == []
    assert os.lstat(copy / "apps" / "third" / "f").st_ino == untouched


async def test_what_cp_reads_by_name_is_compared(tmp_path: Path) -> None:
    """As it is left by a cp that looked at one entry, and read another one of its name."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    for name in ("link", "aim"):
        (source / name).symlink_to("one")
    os.mkfifo(source / "fifo")
    os.link(source / "fifo", source / "again")
    for name in ("link", "fifo"):
        os.setxattr(source / name, "trusted.b", b"kept", follow_symlinks=False)
    stamps = stamped(source)
    await copied(source, copy)
    for name in ("link", "fifo"):
        os.removexattr(copy / name, "trusted.b", follow_symlinks=False)
    seen = os.lstat(copy / "aim")
    (copy / "aim").unlink()
    (copy / "aim").symlink_to("two")
    os.utime(copy / "aim", ns=(seen.st_atime_ns, seen.st_mtime_ns), follow_symlinks=False)
    brought_up(source, copy, stamps)
    assert differences(scan(source), scan(copy)) == []


async def test_what_did_not_change_is_not_copied_again(tmp_path: Path) -> None:
    source, copy = tmp_path / "base", tmp_path / "copy"
    _plant_odd_tree(tmp_path)
    stamps = stamped(source)
    assert stamps.size_bytes > 3 << 20
    await copied(source, copy)
    before = {path: os.lstat(path).st_ino for path in copy.rglob("*")}
    (source / "odd" / "new").write_bytes(b"x" * 100)
    assert brought_up(source, copy, stamps) == 100
    after = {path: os.lstat(path).st_ino for path in copy.rglob("*")}
    assert after.keys() - before.keys() == {copy / "odd" / "new"}
    assert {path: after[path] for path in before} == before
    assert differences(scan(source), scan(copy)) == []


async def test_that_the_tree_was_moved_is_no_change_of_what_is_in_it(tmp_path: Path) -> None:
    """As it is when it is kept: a rename changes the time of what has another name."""
    source, copy, kept = tmp_path / "source", tmp_path / "copy", tmp_path / "kept"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "file").write_bytes(b"x" * 1000)
    stamps = stamped(source)
    await copied(source, copy)
    (source / "folder" / "new").write_bytes(b"y" * 10)
    changed_ns = source.stat().st_ctime_ns
    source.rename(kept)
    assert brought_up(kept, copy, stamps, changed_ns) == 10
    assert differences(scan(kept), scan(copy)) == []


async def test_what_was_changed_a_moment_before_the_scan_is_copied_again(tmp_path: Path) -> None:
    """A change that follows within the same tick of the clock leaves no trace."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    old, young = source / "old", source / "young"
    old.write_bytes(b"o" * 1000)
    settled_before_ns = later_than_all(tmp_path)
    young.write_bytes(b"y" * 2000)
    stamps = run_all(take_stamps(source, settled_before_ns))
    await copied(source, copy)
    assert brought_up(source, copy, stamps) == 2000


async def test_what_is_written_through_a_mapping_is_seen(tmp_path: Path) -> None:
    """After a sync: a page that was written to before is only then watched again."""
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.mkdir()
    (source / "mapped").write_bytes(bytes(mmap.PAGESIZE))
    with (source / "mapped").open("r+b") as file, mmap.mmap(file.fileno(), 0) as pages:
        pages[0] = 1
        settled_before_ns = later_than_all(tmp_path)
        await sync_disk(source)
        stamps = run_all(take_stamps(source, settled_before_ns))
        assert len(stamps.digests) == len(["its folder", "mapped"])
        await copied(source, copy)
        pages[1] = 2
        brought_up(source, copy, stamps)
        assert (copy / "mapped").read_bytes() == pages[:]


async def test_a_copy_that_is_missing_something_is_completed(tmp_path: Path) -> None:
    source, copy = tmp_path / "base", tmp_path / "copy"
    _plant_odd_tree(tmp_path)
    stamps = stamped(source)
    await copied(source, copy)
    (copy / "odd" / "big").write_bytes(b"half")
    (copy / "odd" / "links" / "b").unlink()
    (copy / "odd" / "links" / "b").write_text("a file of its own")
    (copy / "odd" / "socket").unlink()
    (copy / "odd" / "names").rename(copy / "odd" / "elsewhere")
    os.chmod(copy / "odd" / "setuid", 0o600)
    brought_up(source, copy, stamps)
    assert differences(scan(source), scan(copy)) == []


def test_a_scan_of_a_tree_that_changes_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("a", "b", "c"):
        (source / name).mkdir(parents=True)
        (source / name / "big").write_bytes(bytes(LONG_WRITE_BYTES))
    steps = take_stamps(source, later_than_all(tmp_path))
    for _ in range(3):  # the three directories were listed
        next(steps)
    for name in ("a", "b", "c"):
        (source / name).rename(source / f"{name}-moved")
        (source / name).symlink_to("/etc")
    assert len(run_all(steps).digests) == len([".", "a", "b", "c"])


def _plant_odd_tree(folder: Path) -> None:
    """As `folder`/base, of what is hard to carry."""
    with tarfile.open(fileobj=io.BytesIO(base_tree(busybox_rootfs()))) as tar:
        tar.extractall(folder, filter="fully_trusted")
    plant(folder)
    os.rename(folder / "odd", folder / "base" / "odd")
