"""Letting two kept layers share the files that are the same, by hard links.

Only for kept layers: a link to a file that somebody writes to would change what was kept. A clone
of such a layer has files of its own again, since cp keeps links within a tree only.

What a layer is does not change: groups of names within a tree stay as they are, and a directory
keeps its time although an entry of it was replaced. Each file is replaced by one rename. Beside
the layer, in the folder of what is kept, lie meanwhile

    link     the other layer's file, under a name more
    times    the directory that is being worked in and its times: after a crash they are put back.
             A symbolic link, which is there as a whole or not at all, and on the disk before what
             comes after it, as file systems log such changes in their order (the text of a file
             may come later)

Everything here blocks; generators yield now and then.
"""

import errno
import os
import stat
from collections.abc import Generator, Sequence
from itertools import groupby
from pathlib import Path

from msgspec import Struct

from service.adapters.upper_clone import BLOCK_BYTES
from service.adapters.upper_entry import looks_the_same, open_file, same_content, xattrs

_LINK = "link"
_TIMES = "times"


class Twin(Struct, frozen=True):
    """A file of a kept layer that is the same in another one, and could be it."""

    own: bytes
    other: bytes
    size_bytes: int

    @property
    def folder(self) -> bytes:
        return os.path.dirname(self.own)


def find_twins(own: Path, other: Path) -> Generator[Twin | None, None, None]:
    """Files of `own` that have the same path, attributes and content in `other`, one by one.

    Not those with several names in either tree, nor those that share a file already. Yields None
    between. Raises OSError.
    """
    grouped = yield from _inodes_with_names(os.fsencode(other))
    folders = [(os.fsencode(own), os.fsencode(other))]
    while folders:
        mine, theirs = folders.pop()
        for name in sorted(os.listdir(mine)):
            yield None
            here, there = os.path.join(mine, name), os.path.join(theirs, name)
            one, two = os.lstat(here), _lstat_or_none(there)
            if two is None:
                continue
            if stat.S_ISDIR(one.st_mode) and stat.S_ISDIR(two.st_mode):
                folders.append((here, there))
            elif (
                stat.S_ISREG(one.st_mode)
                and one.st_nlink == 1
                and two.st_ino not in grouped
                and looks_the_same(one, two)
                and (yield from _is_same_file(here, there))
            ):
                yield Twin(here, there, one.st_blocks * BLOCK_BYTES)


def link_twins(entry: Path, twins: Sequence[Twin]) -> Generator[str, None, int]:
    """Replace files of the kept layer in `entry` by their twins; the bytes saved.

    Yields after each step that could be the last one before a crash: `settle` is then to be
    called before anything else is done with the layer. Raises OSError.
    """
    saved_bytes = 0
    link = os.path.join(os.fsencode(entry), _LINK.encode())
    for folder, found in groupby(twins, lambda twin: twin.folder):
        seen = os.lstat(folder)
        times = f"{seen.st_atime_ns} {seen.st_mtime_ns} ".encode()
        os.symlink(times + os.path.relpath(folder, os.fsencode(entry)), os.fsencode(entry / _TIMES))
        yield "noted"
        for twin in found:
            try:
                os.link(twin.other, link, follow_symlinks=False)
            except OSError as error:
                if error.errno == errno.EMLINK:
                    continue  # it has as many names as a file may have
                raise
            yield "linked"
            os.rename(link, twin.own)
            yield "renamed"
            saved_bytes += twin.size_bytes
        settle(entry)
    return saved_bytes


def settle(entry: Path) -> None:
    """Undo what a crash left of `link_twins`; nothing is left most of the time. Raises OSError."""
    (entry / _LINK).unlink(missing_ok=True)
    try:
        noted = os.readlink(os.fsencode(entry / _TIMES))
    except FileNotFoundError:
        return
    atime_ns, mtime_ns, folder = noted.split(b" ", 2)
    os.utime(os.path.join(os.fsencode(entry), folder), ns=(int(atime_ns), int(mtime_ns)))
    (entry / _TIMES).unlink()


def _inodes_with_names(top: bytes) -> Generator[None, None, set[int]]:
    """Of the files that have several names within a tree."""
    once: set[int] = set()
    several: set[int] = set()
    folders = [top]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                yield
                seen = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(seen.st_mode):
                    folders.append(entry.path)
                elif seen.st_nlink > 1:
                    (several if seen.st_ino in once else once).add(seen.st_ino)
    return several


def _is_same_file(one: bytes, other: bytes) -> Generator[None, None, bool]:
    mine = open_file(one)
    try:
        theirs = open_file(other)
        try:
            if xattrs(mine) != xattrs(theirs):
                return False
            return (yield from same_content(mine, theirs))
        finally:
            os.close(theirs)
    finally:
        os.close(mine)


def _lstat_or_none(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
