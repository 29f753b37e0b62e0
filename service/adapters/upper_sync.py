"""Copying a layer in two passes: most of it while its container runs, the rest afterwards.

Before the first pass every entry is stamped: path, type, inode, size and time of the last change
of its inode (ctime). Nobody can set that time, so an edit which keeps size and mtime is seen too.
The second pass goes through the layer, which is still by then, and copies what has another stamp
or is not in the copy as it should be.

The first pass reads by name, and a name can belong to another entry for a while:

- A directory that is moved away and back leaves no trace on what is in it, but on itself and on the
  directory that it is in. Where both have another stamp, what is below is copied again.
- cp makes sure of having opened the file that it looked at, but not of links and special files,
  which it reads with several calls. The second pass compares these.

A stamp is only taken of what cannot be changed any more without another ctime:

- The kernel's clock for ctime has a tick of 1 to 10 ms, so of two changes within one the second
  leaves no trace. What was changed after SETTLED_NS before the scan gets no stamp.
- Who has mapped a file into memory and has written to a page is noticed again only after that page
  was written back (page_mkwrite). So the disk is synced before the scan, by whoever calls it.
- A write(2) sets ctime when it begins, and one of gigabytes goes on for seconds. The scan waits for
  those that are under way: ext4 and xfs let lseek(2) for data, or a read, wait for them.

Everything here blocks; generators yield now and then.
"""

import os
import stat
import struct
from collections.abc import Generator
from hashlib import blake2b
from pathlib import Path

from msgspec import Struct

from service.adapters.upper_clone import BLOCK_BYTES, discard
from service.adapters.upper_entry import (
    carried_xattrs,
    copy_attributes,
    copy_entry,
    is_gone,
    looks_the_same,
    open_file,
    open_folder,
)

SETTLED_NS = 1_000_000_000
"""So long before the scan, and before the sync in front of it, an entry must have been changed."""

LONG_WRITE_BYTES = 1 << 20
"""One write to a smaller file is over sooner than SETTLED_NS."""

_DIGEST_BYTES = 16
_STAMP = struct.Struct("=QQQQ")


class Stamps(Struct, frozen=True):
    """What the entries of a tree were like at one moment.

    As digests: a million of them take about 100 MB. Those of directories have no size.
    """

    digests: frozenset[bytes]
    size_bytes: int
    """On the disk, of the whole tree."""


def take_stamps(top: Path, settled_before_ns: int) -> Generator[None, None, Stamps]:
    """Of a tree in which somebody works; what was changed at `settled_before_ns` or later has none.

    Raises OSError when `top` is not there; what vanishes below it meanwhile is left out.
    """
    digests: set[bytes] = set()
    linked: set[int] = set()
    own = os.lstat(top)
    blocks = own.st_blocks
    if own.st_ctime_ns < settled_before_ns:
        digests.add(_digest(b"", own, own.st_ctime_ns))
    root = open_folder(os.fsencode(top))
    try:
        folders = [b""]
        while folders:
            path = folders.pop()
            for name, seen in _entries(root, path):
                yield
                deeper = _joined(path, name)
                if seen.st_ctime_ns < settled_before_ns:
                    digests.add(_digest(deeper, seen, seen.st_ctime_ns))
                if stat.S_ISDIR(seen.st_mode):
                    folders.append(deeper)
                if seen.st_nlink > 1 and not stat.S_ISDIR(seen.st_mode):
                    if seen.st_ino in linked:
                        continue
                    linked.add(seen.st_ino)
                blocks += seen.st_blocks
    finally:
        os.close(root)
    return Stamps(frozenset(digests), blocks * BLOCK_BYTES)


class Delta:
    """The second pass: makes `copy` the same as `source`, in which nobody works.

    `changed_ns` is the ctime that `source` itself had before it was moved, if it was: a rename
    changes that, and without it every directory in `source` could have been elsewhere.
    """

    def __init__(self, source: Path, copy: Path, stamps: Stamps, changed_ns: int = 0) -> None:
        self.copied_bytes = 0
        self._source = os.fsencode(source)
        self._copy = os.fsencode(copy)
        self._digests = stamps.digests
        self._changed_ns = changed_ns
        self._placed: dict[int, tuple[bytes, int]] = {}
        """By the inode of a file with several names: the copy's first, and its inode."""

    def steps(self) -> Generator[None, None, None]:
        """All of it. Raises OSError, SystemDiskError; the copy is then of no use."""
        top = os.lstat(self._source)
        stamped = _digest(b"", top, self._changed_ns or top.st_ctime_ns) in self._digests
        folders = [_Folder(b"", stamped, moved=False)]
        found = [(b"", top)]
        while folders:
            folder = folders.pop()
            path = folder.path
            there = _listed(self._copy, path)
            wanted = _listed(self._source, path)
            for name in there.keys() - wanted.keys():
                yield
                _remove(os.path.join(self._copy, path, name), there[name])
            for name, seen in wanted.items():
                yield
                deeper = _joined(path, name)
                stamped = self._is_stamped(deeper, seen)
                if stat.S_ISDIR(seen.st_mode):
                    self._make_folder(deeper, there.get(name))
                    moved = folder.moved or not (stamped or folder.stamped)
                    folders.append(_Folder(deeper, stamped, moved))
                    found.append((deeper, seen))
                else:
                    still = stamped and not folder.moved
                    yield from self._bring(deeper, seen, there.get(name), still)
        for path, seen in found:  # only now, as whatever is put into a directory changes its time
            yield
            copy_attributes(*self._paths(path), seen)

    def _is_stamped(self, path: bytes, seen: os.stat_result) -> bool:
        return _digest(path, seen, seen.st_ctime_ns) in self._digests

    def _make_folder(self, path: bytes, there: os.stat_result | None) -> None:
        target = os.path.join(self._copy, path)
        if there is None or not stat.S_ISDIR(there.st_mode):
            _remove(target, there)
            os.mkdir(target, 0o700)

    def _bring(
        self, path: bytes, seen: os.stat_result, there: os.stat_result | None, still: bool
    ) -> Generator[None, None, None]:
        """`still`: since the stamps, nothing happened to it and no other entry had its name."""
        source, target = self._paths(path)
        if seen.st_ino in self._placed:
            first, inode = self._placed[seen.st_ino]
            if there is None or there.st_ino != inode:
                _remove(target, there)
                os.link(first, target, follow_symlinks=False)
            return
        as_it_was = still and there is not None and looks_the_same(seen, there)
        if not as_it_was or not _is_same_special(source, target, seen):
            # Never written in place: other names of the copy's file may be as they should.
            _remove(target, there)
            for count in copy_entry(source, target, seen):
                self.copied_bytes += count
                yield
        if seen.st_nlink > 1:
            self._placed[seen.st_ino] = (target, os.lstat(target).st_ino)

    def _paths(self, path: bytes) -> tuple[bytes, bytes]:
        return (
            os.path.join(self._source, path) if path else self._source,
            os.path.join(self._copy, path) if path else self._copy,
        )


class _Folder(Struct, frozen=True):
    """A directory that the second pass still has to go through."""

    path: bytes
    stamped: bool
    moved: bool
    """It, or one above it, may have been elsewhere during the first pass."""


def _is_same_special(source: bytes, target: bytes, seen: os.stat_result) -> bool:
    """Of two that look the same: what else links and special files have. True for files."""
    if stat.S_ISREG(seen.st_mode):
        return True
    if stat.S_ISLNK(seen.st_mode) and os.readlink(source) != os.readlink(target):
        return False
    return carried_xattrs(source) == carried_xattrs(target)


def _entries(root: int, path: bytes) -> Generator[tuple[bytes, os.stat_result], None, None]:
    """What is in a directory and still there when it is looked at, with no write under way."""
    try:
        folder = open_folder(root, path)
    except OSError as error:
        if is_gone(error):
            return
        raise
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                try:
                    seen = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(seen.st_mode) and seen.st_size >= LONG_WRITE_BYTES:
                        _await_writes(name, folder, seen.st_ino)
                except OSError as error:
                    if is_gone(error):
                        continue
                    raise
                yield name, seen
    finally:
        os.close(folder)


def _await_writes(name: bytes, folder: int, inode: int) -> None:
    """Return when what was being written to the file when this was called has been written.

    After its stat: a write that begins in between changes ctime. ext4 takes the inode's lock for
    this, as a write does; xfs takes it for each read, and so for the copying itself.
    """
    file = open_file(name, folder)
    try:
        if os.fstat(file).st_ino == inode:  # or it is another one by now, with another stamp
            os.lseek(file, 0, os.SEEK_HOLE)
    finally:
        os.close(file)


def _digest(path: bytes, seen: os.stat_result, changed_ns: int) -> bytes:
    kind = stat.S_IFMT(seen.st_mode)
    size = 0 if kind == stat.S_IFDIR else seen.st_size
    stamp = _STAMP.pack(kind, seen.st_ino, size, changed_ns & (1 << 64) - 1)
    return blake2b(stamp + path, digest_size=_DIGEST_BYTES).digest()


def _listed(top: bytes, path: bytes) -> dict[bytes, os.stat_result]:
    with os.scandir(os.path.join(top, path)) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def _remove(path: bytes, there: os.stat_result | None) -> None:
    if there is not None and stat.S_ISDIR(there.st_mode):
        discard(Path(os.fsdecode(path)))
    elif there is not None:
        os.unlink(path)


def _joined(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
