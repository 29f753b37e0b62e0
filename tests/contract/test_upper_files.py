"""Files of a layer that somebody works in are opened: nothing but files, and none stays open."""

import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from service.adapters.upper_changes import changes_between
from service.adapters.upper_entry import is_gone, open_file
from service.adapters.upper_store import run_all

pytestmark = pytest.mark.usefixtures("root")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_file_any_more_is_not_opened(tmp_path: Path, kind: int) -> None:
    """A container may make any device, and put it in a file's place after that was looked at. To
    open one can do something to the host: a watchdog begins to count."""
    # Of a driver that there is not: whoever opens it is told so.
    os.mknod(tmp_path / "odd", kind | 0o600, os.makedev(4000, 1))
    with pytest.raises(OSError, match="odd") as refused:
        open_file(os.fsencode(tmp_path / "odd"))
    assert is_gone(refused.value)
    assert "no regular file" in str(refused.value)


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="link") as refused:
        open_file(os.fsencode(tmp_path / "link"))
    assert is_gone(refused.value)


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Within, so many more can be opened."""
    filled = [os.dup(0)]
    while len(_open()) <= max(_open()):
        filled.append(os.dup(0))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(_open()) + 1 + count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for one in filled:
            os.close(one)


def _open() -> set[int]:
    """What is open, without what this look opens."""
    return {int(name) for name in os.listdir("/proc/self/fd") if _is_open(int(name))}


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("count", range(8))
def test_what_fails_leaves_nothing_open(tmp_path: Path, count: int) -> None:
    """Whoever may read can ask for it again and again."""
    for number, name in enumerate(("old", "new", "image")):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / "b").write_text(str(number))
    before = _open()
    with descriptors_left(count), suppress(OSError):  # there are too few, or just enough
        run_all(changes_between(tmp_path / "old", tmp_path / "new", [tmp_path / "image"], 9))
    assert _open() == before
