"""A system disk with everything that copies are known to lose, and a look at it entry by entry.

`base_tree` is the image's part of it, `plant` what a container does to that image, `alter` what it
does to all that later, and `scan` tells all there is to know of a tree. They work on the host's
side of an overlay's mount: what the kernel does there is what it does for a process in the
container.
"""

import hashlib
import io
import os
import shutil
import socket
import stat
import struct
import tarfile
from pathlib import Path
from typing import Any

from msgspec import Struct

# struct vfs_ns_cap_data, revision 2: CAP_NET_RAW permitted and effective (capabilities(7)).
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
MTIME_NS = 1_234_567_890_987_654_321
SPARSE_BYTES = 64 << 20
NAME_BYTES_MAX = 255

MADE_BY_DOCKER = frozenset(
    path.encode()
    for path in (
        *(".dockerenv", "dev", "dev/console", "dev/pts", "dev/shm", "proc", "sys"),
        *("etc", "etc/hostname", "etc/hosts", "etc/mtab", "etc/resolv.conf"),
    )
)
"""What Docker lays between image and container, anew for each: their times are its own."""


class Node(Struct, frozen=True):
    """All there is to know of one entry."""

    mode: int
    owner: tuple[int, int]
    size: int
    content: str
    device: int
    mtime_ns: int
    blocks: int
    xattrs: tuple[tuple[str, bytes], ...]
    names: tuple[bytes, ...]
    """Of the same file in this tree."""


def base_tree(rootfs: bytes) -> bytes:
    """A root file system as a tar, and what `plant` will change of it added."""
    buffer = io.BytesIO(rootfs)
    with tarfile.open(fileobj=buffer, mode="a", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, kind: bytes, content: bytes = b"", **fields: Any) -> None:
            entry = tarfile.TarInfo(f"base/{name}".rstrip("/"))
            entry.type, entry.size = kind, len(content)
            entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            for field, value in fields.items():
                setattr(entry, field, value)
            tar.addfile(entry, io.BytesIO(content))

        add("", tarfile.DIRTYPE)
        for folder in ("gone-dir", "dir-to-file", "dir-to-link", "opaque", "renamed", "linked"):
            add(folder, tarfile.DIRTYPE)
            for number in range(3):
                add(f"{folder}/f{number}", tarfile.REGTYPE, folder.encode() * 100)
        for name in ("gone", "file-to-dir", "changed", "moved", "chmodded"):
            add(name, tarfile.REGTYPE, name.encode() * 1000)
        add("hard-1", tarfile.REGTYPE, b"hard")
        add("hard-2", tarfile.LNKTYPE, linkname="base/hard-1")
        xattr = {"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")}
        add("ping", tarfile.REGTYPE, b"ping", mode=0o755, pax_headers=xattr)
    return buffer.getvalue()


def plant(root: Path) -> None:
    """Do to a running container's root what is hard to carry."""
    _change_the_base(root / "base")
    odd = root / "odd"
    odd.mkdir(mode=0o711)
    _kinds(odd)
    _attributes(odd)
    _names(odd / "names")
    for path in (odd / "links" / "a", odd / "symlink", odd):
        os.utime(path, ns=(MTIME_NS, MTIME_NS), follow_symlinks=False)


def _change_the_base(base: Path) -> None:
    (base / "gone").unlink()
    shutil.rmtree(base / "gone-dir")
    (base / "file-to-dir").unlink()
    (base / "file-to-dir").mkdir()
    (base / "file-to-dir" / "inside").write_text("inside")
    for name in ("dir-to-file", "dir-to-link"):
        shutil.rmtree(base / name)
    (base / "dir-to-file").write_text("a file now")
    (base / "dir-to-link").symlink_to("opaque")
    shutil.rmtree(base / "opaque")
    (base / "opaque").mkdir()
    (base / "opaque" / "only").write_text("only this")
    # As mv does it: rename(2) of a folder of the image is EXDEV without redirect_dir.
    shutil.move(base / "renamed", base / "renamed-to")
    with (base / "changed").open("a") as file:
        file.write("more")
    os.rename(base / "moved", base / "opaque" / "moved-here")
    os.chmod(base / "chmodded", 0o4750)
    os.link(base / "linked" / "f0", base / "linked-f0")
    (base / "hard-1").write_text("split from hard-2 by the copy-up")


def alter(root: Path) -> None:
    """Change what `plant` made, each kind of it, as the container that goes on would."""
    base, odd = root / "base", root / "odd"
    (base / "gone").write_text("here again")
    (base / "gone-dir").mkdir()
    (base / "linked" / "f1").unlink()
    shutil.rmtree(base / "opaque")
    (base / "opaque").symlink_to("linked")
    os.rename(base / "renamed-to", base / "file-to-dir" / "moved-in")
    _alter_quietly(odd / "big")
    with (odd / "sparse").open("r+b") as file:
        file.seek(SPARSE_BYTES // 4)
        file.write(os.urandom(4096))
    os.truncate(odd / "hole", SPARSE_BYTES // 2)
    (odd / "links" / "b").unlink()
    os.link(odd / "links" / "a", odd / "links" / "d")
    os.link(odd / "setuid", odd / "other-links" / "setuid-too")
    (odd / "fifo").unlink()
    (odd / "fifo").write_text("a file now")
    (odd / "socket").unlink()
    (odd / "socket").mkdir()
    (odd / "empty").unlink()
    os.mkfifo(odd / "empty")
    (odd / "null").unlink()
    os.mknod(odd / "null", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    (odd / "symlink").unlink()
    os.symlink(b"somewhere/else", os.fsencode(odd / "symlink"))
    os.chmod(odd / "nothing", 0o640)
    os.chown(odd / "setgid", 4321, 70_001)
    os.removexattr(odd / "capable", "security.capability")
    os.setxattr(odd / "capable", "user.note", b"another")
    os.removexattr(odd / "other-links", "system.posix_acl_default")
    os.setxattr(odd / "sticky", "system.posix_acl_default", _acl(67))
    (odd / "sticky" / "under-an-acl").write_text("inherits")
    os.rename(odd / "names", odd / "other-names")
    os.utime(odd / "links", ns=(MTIME_NS, MTIME_NS))


def _alter_quietly(path: Path) -> None:
    """So that neither its size nor its time of change tells."""
    seen = path.stat()
    with path.open("r+b") as file:
        file.seek(seen.st_size // 2)
        file.write(b"changed")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def _kinds(odd: Path) -> None:
    for folder in ("links", "other-links"):
        (odd / folder).mkdir()
    (odd / "links" / "a").write_bytes(os.urandom(5000))
    os.link(odd / "links" / "a", odd / "links" / "b")
    os.link(odd / "links" / "a", odd / "other-links" / "c")
    os.symlink(b"to/nowhere\xff", os.fsencode(odd / "symlink"))
    os.chown(odd / "symlink", 7, 8, follow_symlinks=False)
    os.mkfifo(odd / "fifo", 0o620)
    os.link(odd / "fifo", odd / "fifo-link")
    os.mknod(odd / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(odd / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 99))
    descriptor = os.open(odd, os.O_RDONLY | os.O_DIRECTORY)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{descriptor}/socket")  # the whole path would be too long
    os.close(descriptor)
    with (odd / "sparse").open("wb") as file:
        file.truncate(SPARSE_BYTES)
        for place in (0, SPARSE_BYTES // 2, SPARSE_BYTES - 4096):
            file.seek(place)
            file.write(os.urandom(4096))
    with (odd / "hole").open("wb") as file:
        file.truncate(SPARSE_BYTES)
    (odd / "empty").touch()
    (odd / "big").write_bytes(os.urandom(3 << 20))


def _attributes(odd: Path) -> None:
    for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("nothing", 0), ("sticky", 0o1777)):
        path = odd / name
        if name == "sticky":
            path.mkdir()
        else:
            path.write_text(name)
        os.chown(path, 1234, 70_000)
        os.chmod(path, mode)
    capable = odd / "capable"
    capable.write_text("capable")
    os.chown(capable, 5, 6)
    os.setxattr(capable, "security.capability", CAPABILITY)
    for name in ("user.note", "trusted.note"):
        os.setxattr(capable, name, b"\x00\xffbinary" * 20)
        os.setxattr(odd / "links", name, b"of a folder")
    os.setxattr(odd / "symlink", "trusted.note", b"of a link", follow_symlinks=False)
    os.setxattr(odd / "big", "user.empty", b"")
    os.setxattr(odd / "big", "system.posix_acl_access", _acl(65))
    os.setxattr(odd / "other-links", "system.posix_acl_default", _acl(66))


def _acl(uid: int) -> bytes:
    """rw for the owner and for user `uid`, r for others (linux/posix_acl_xattr.h)."""
    no_id = 0xFFFFFFFF
    entries = ((1, 6, no_id), (2, 6, uid), (4, 4, no_id), (16, 6, no_id), (32, 4, no_id))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _names(folder: Path) -> None:
    folder.mkdir()
    for name in (
        b"new\nline",
        b"invalid-\xff\xfe-utf8",
        b"-rf",
        b"--preserve=none",
        b".wh.file",
        b".wh..wh..opq",
        b".hidden",
        b" ",
        b"*?[a]\\",
        b"n" * NAME_BYTES_MAX,
        "naïve-名前".encode(),
    ):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(name)
    deep = folder
    for _ in range(10):
        deep = deep / ("d" * 100)
        deep.mkdir()
    (deep / "bottom").write_text("bottom")


def scan(root: Path) -> dict[bytes, Node]:
    """Every entry of a tree by its path below `root`, which is one of them."""
    top = os.fsencode(root)
    found = {b"": os.lstat(top)}
    names: dict[int, list[bytes]] = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, top)] = os.lstat(path)
    for path, seen in found.items():
        names.setdefault(seen.st_ino, []).append(path)
    return {
        path: _node(os.path.join(top, path), seen, tuple(sorted(names[seen.st_ino])))
        for path, seen in found.items()
    }


def _node(path: bytes, seen: os.stat_result, names: tuple[bytes, ...]) -> Node:
    xattrs = sorted(os.listxattr(path, follow_symlinks=False))
    regular = stat.S_ISREG(seen.st_mode)
    return Node(
        mode=seen.st_mode,
        owner=(seen.st_uid, seen.st_gid),
        size=0 if stat.S_ISDIR(seen.st_mode) else seen.st_size,
        content=_content(path, seen),
        device=seen.st_rdev,
        mtime_ns=seen.st_mtime_ns,
        blocks=seen.st_blocks if regular else 0,
        xattrs=tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in xattrs),
        names=names if len(names) > 1 else (),
    )


def _content(path: bytes, seen: os.stat_result) -> str:
    if stat.S_ISLNK(seen.st_mode):
        return os.readlink(path).hex()
    if not stat.S_ISREG(seen.st_mode):
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(before: dict[bytes, Node], after: dict[bytes, Node]) -> list[str]:
    """What differs, in words; times of MADE_BY_DOCKER do not count.

    Fewer blocks are no difference: what xfs sets aside behind a file that grows is not data.
    """
    found = [f"{path!r} is gone" for path in before.keys() - after.keys()]
    found += [f"{path!r} is new" for path in after.keys() - before.keys()]
    for path in before.keys() & after.keys():
        for field in Node.__struct_fields__:
            old, new = getattr(before[path], field), getattr(after[path], field)
            own_time = field == "mtime_ns" and path in MADE_BY_DOCKER
            if old != new and not own_time and not (field == "blocks" and new < old):
                found.append(f"{path!r}: {field} {old!r} became {new!r}")
    return sorted(found)
