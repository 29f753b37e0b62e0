"""Sharing files between kept layers, on real files: what is shared, what never, and crashes."""

import os
from pathlib import Path

import pytest

from service.adapters.upper_clone import clone_now, size_on_disk
from service.adapters.upper_compact import Twin, find_twins, link_twins, settle
from service.adapters.upper_store import run_all
from tests.kit.odd_trees import differences, scan

pytestmark = pytest.mark.usefixtures("root")

FOLDER_MTIME_NS = 1_000_000_000_123_456_789
SIZE = 8192


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with layers that are the same, as `diff` in each."""
    other = tmp_path / "other" / "diff"
    (other / "folder" / "deeper").mkdir(parents=True)
    for name in ("a", "b", "folder/c", "folder/d", "folder/deeper/e"):
        (other / name).write_bytes(os.urandom(SIZE))
    os.setxattr(other / "a", "trusted.note", b"note")
    os.mknod(other / "whiteout", 0o020000)
    for folder in (other / "folder" / "deeper", other / "folder", other):
        os.utime(folder, ns=(FOLDER_MTIME_NS, FOLDER_MTIME_NS))
    own = tmp_path / "own" / "diff"
    own.parent.mkdir()
    clone_now(other, own)
    return own, other


def twins_of(own: Path, other: Path) -> list[Twin]:
    return [twin for twin in find_twins(own, other) if twin is not None]


def compacted(own: Path, other: Path) -> int:
    return run_all(link_twins(own.parent, twins_of(own, other)))


def shared(own: Path, other: Path) -> set[str]:
    return {
        str(path.relative_to(own))
        for path in own.rglob("*")
        if path.lstat().st_ino == getattr(_lstat(other / path.relative_to(own)), "st_ino", 0)
    }


def _lstat(path: Path) -> os.stat_result | None:
    return path.lstat() if os.path.lexists(path) else None


def test_the_same_files_are_shared_and_nothing_looks_different(layers: tuple[Path, Path]) -> None:
    own, other = layers
    before = scan(own), scan(other), size_on_disk(own)
    assert compacted(own, other) == 5 * SIZE
    assert shared(own, other) == {"a", "b", "folder/c", "folder/d", "folder/deeper/e"}
    assert (scan(own), scan(other), size_on_disk(own)) == before
    assert sorted(os.listdir(own.parent)) == ["diff"]
    assert compacted(own, other) == 0


@pytest.mark.parametrize(
    "difference",
    ["content", "mtime", "mode", "owner", "xattr", "xattr-gone", "size", "group", "other-group"],
)
def test_what_differs_in_anything_is_not_shared(layers: tuple[Path, Path], difference: str) -> None:
    own, other = layers
    a = own / "a"
    seen = a.stat()
    match difference:
        case "content":
            a.write_bytes(os.urandom(SIZE))
        case "size":
            a.write_bytes(other.joinpath("a").read_bytes() + b"x")
        case "mode":
            a.chmod(0o4600)
        case "owner":
            os.chown(a, 1, 2)
        case "xattr":
            os.setxattr(a, "trusted.note", b"another")
        case "xattr-gone":
            os.removexattr(a, "trusted.note")
        case "group":
            os.link(a, own / "a-too")
        case "other-group":
            # Shared with both, its names in the one would be one file in the other as well.
            os.link(other / "a", other / "a-too")
            clone_now(own / "a", own / "a-too")
    if difference != "mtime":
        os.utime(a, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    else:
        os.utime(a, ns=(seen.st_atime_ns, seen.st_mtime_ns + 1))
    before = scan(own)
    assert compacted(own, other) == 4 * SIZE
    assert "a" not in shared(own, other)
    assert scan(own) == before


def test_what_is_shared_already_can_be_shared_with_a_third(layers: tuple[Path, Path]) -> None:
    own, other = layers
    third = own.parent.parent / "third" / "diff"
    third.parent.mkdir()
    clone_now(own, third)
    assert compacted(own, other) == 5 * SIZE
    assert compacted(third, own) == 5 * SIZE
    assert len(shared(third, other)) == 5


def test_a_clone_has_files_of_its_own(layers: tuple[Path, Path]) -> None:
    own, other = layers
    compacted(own, other)
    before = scan(own), scan(other)
    clone = own.parent / "clone"
    clone_now(own, clone)
    assert differences(before[0], scan(clone)) == []
    for path in (clone / "a", clone / "folder" / "c"):
        with path.open("r+b") as file:
            file.write(b"written in the clone")
    (clone / "b").chmod(0o777)
    assert (scan(own), scan(other)) == before


@pytest.mark.parametrize("step", ["noted", "linked", "renamed"])
def test_a_compaction_that_crashed_is_settled(layers: tuple[Path, Path], step: str) -> None:
    """In a directory that is not the first."""
    own, other = layers
    before = scan(own)
    twins = [twin for twin in twins_of(own, other) if twin.folder.endswith(b"/folder")]
    steps = link_twins(own.parent, twins)
    while next(steps) != step:
        pass
    steps.close()
    for _ in range(2):
        settle(own.parent)
        assert scan(own) == before
        assert sorted(os.listdir(own.parent)) == ["diff"]
    compacted(own, other)
    assert len(shared(own, other)) == 5
    assert scan(own) == before


def test_a_file_that_cannot_have_more_names_is_left_alone(layers: tuple[Path, Path]) -> None:
    own, other = layers
    names = own.parent / "names"
    names.mkdir()
    number = 0
    while True:
        try:
            os.link(other / "a", names / str(number))
        except OSError:
            break
        number += 1
        if number > 70_000:
            pytest.skip("this file system knows no end of links")
    assert compacted(own, other) == 4 * SIZE
    assert "a" not in shared(own, other)
