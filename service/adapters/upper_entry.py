"""One entry of a tree: reaching it, copying it, telling whether two are the same.

Names are bytes, as the kernel has them. Everything here blocks; what may take long is a generator
that yields now and then, so that whoever runs it can stop.
"""

import errno
import os
import stat
from collections.abc import Callable, Generator

CHUNK_BYTES = 16 << 20
"""So much is copied between two looks up: some 10 ms."""

COMPARED_BYTES = 1 << 20
"""So much of two files is compared at a time: both fit into a processor's cache."""

SELINUX_XATTR = "security.selinux"
"""Belongs to the place where a file is, not to the file."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(root: bytes | int, path: bytes = b"") -> int:
    """A descriptor of the directory `path` below `root`, which may be a descriptor too.

    One component at a time and through no symbolic link: what runs in a container could replace
    a directory by a link that leads out of its tree. Raises OSError: ENOENT, ENOTDIR, ELOOP.
    """
    folder = (
        os.open(".", _DIRECTORY, dir_fd=root)
        if isinstance(root, int)
        else os.open(root, _DIRECTORY)
    )
    for name in path.split(b"/") if path else ():
        try:
            deeper = os.open(name, _DIRECTORY, dir_fd=folder)
        finally:
            os.close(folder)
        folder = deeper
    return folder


def open_file(name: bytes, folder: int | None = None) -> int:
    """A regular file for reading, and nothing that has its name by now. Raises OSError: ENXIO.

    What runs in a container could have put a device there. To open one can do something to the
    host (a watchdog begins to count), and of a fifo it waits for the other end. So it is looked at
    first, and then that very file is opened, whatever has the name.
    """
    found = os.open(name, _LOOK, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise OSError(errno.ENXIO, "no regular file", name)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def is_gone(error: OSError) -> bool:
    """Did it fail because what was listed is no more, or is something else by now?

    ENXIO: `open_file` has it for what is no file, lseek(2) for data of one that is empty now.
    """
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def is_whiteout(seen: os.stat_result) -> bool:
    """How overlayfs notes that something of a lower layer was deleted (overlayfs.rst)."""
    return stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0


def looks_the_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Same type, mode, owner, device, time of change to the ns, and size where it counts."""
    return (
        one.st_mode == other.st_mode
        and one.st_mtime_ns == other.st_mtime_ns
        and same_apart_from_time(one, other)
    )


def same_apart_from_time(one: os.stat_result, other: os.stat_result) -> bool:
    """As far as a stat tells: sizes of directories are the file system's own business."""
    return (
        one.st_mode == other.st_mode
        and (one.st_uid, one.st_gid) == (other.st_uid, other.st_gid)
        and one.st_rdev == other.st_rdev
        and (stat.S_ISDIR(one.st_mode) or one.st_size == other.st_size)
    )


def xattrs(path: bytes | int) -> dict[str, bytes]:
    """All extended attributes, ACLs included, of the entry itself or of a descriptor."""
    if isinstance(path, int):
        return {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }


def is_carried(name: str) -> bool:
    """Does an extended attribute of that name belong to an entry, wherever it is?"""
    return name != SELINUX_XATTR


def carried_xattrs(path: bytes, carried: Callable[[str], bool] = is_carried) -> dict[str, bytes]:
    """The extended attributes, for which `carried`, of the entry itself."""
    return {name: value for name, value in xattrs(path).items() if carried(name)}


def same_content(one: int, other: int) -> Generator[None, None, bool]:
    """Of two files that are open. Yields between chunks."""
    place = 0
    while True:
        mine = os.pread(one, COMPARED_BYTES, place)
        # A file that is being written to may give less than it was asked for: that is a change.
        if mine != os.pread(other, COMPARED_BYTES, place):
            return False
        if not mine:
            return True
        place += len(mine)
        yield


def copy_entry(source: bytes, target: bytes, seen: os.stat_result) -> Generator[int, None, None]:
    """Make `target`, which must not be there, the same as `source`, which is no directory.

    `seen` is the source's stat. Yields bytes as they are copied. Raises OSError.
    """
    kind = stat.S_IFMT(seen.st_mode)
    if kind == stat.S_IFREG:
        yield from _copy_data(source, target)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(source), target)
    else:
        os.mknod(target, kind | 0o600, seen.st_rdev)
    copy_attributes(source, target, seen)


def copy_attributes(
    source: bytes,
    target: bytes,
    seen: os.stat_result,
    carried: Callable[[str], bool] = is_carried,
) -> None:
    """Owner, mode, extended attributes for which `carried`, times. Raises OSError."""
    os.chown(target, seen.st_uid, seen.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(seen.st_mode):
        os.chmod(target, stat.S_IMODE(seen.st_mode))
    # Only now: a chown drops capabilities, and a chmod changes an ACL's mask.
    wanted, there = carried_xattrs(source, carried), carried_xattrs(target, carried)
    for name in there.keys() - wanted.keys():  # such as an ACL from the directory's default
        os.removexattr(target, name, follow_symlinks=False)
    for name, value in wanted.items():
        if there.get(name) != value:
            os.setxattr(target, name, value, follow_symlinks=False)
    os.utime(target, ns=(seen.st_atime_ns, seen.st_mtime_ns), follow_symlinks=False)


def _copy_data(source: bytes, target: bytes) -> Generator[int, None, None]:
    """With its holes, within the kernel (copy_file_range(2))."""
    reading = open_file(source)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(reading).st_size
            os.ftruncate(writing, size)
            for begin, end in _data(reading, size):
                place = begin
                while place < end:
                    count = os.copy_file_range(
                        reading, writing, min(end - place, CHUNK_BYTES), place, place
                    )
                    if count == 0:
                        raise OSError(errno.EIO, "it became shorter while it was copied", source)
                    place += count
                    yield count
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _data(file: int, size: int) -> Generator[tuple[int, int], None, None]:
    """Where a file has data (lseek(2), SEEK_DATA)."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole is left
            raise
        end = min(os.lseek(file, begin, os.SEEK_HOLE), size)
        yield begin, end
