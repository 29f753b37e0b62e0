"""Whether layers can be kept and cloned on this host: tried out, not guessed.

Being root is not enough. The service may run in a container without the capabilities it takes,
the engine's root may not be ours to see, and the cp that is installed may drop what makes a layer
a layer. So a small tree with one of each kind is cloned where the real ones will be, and
compared. Everything here blocks.
"""

import errno
import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import docker
from docker.errors import NotFound

from service.adapters.upper_clone import clone_now, discard
from service.adapters.upper_layers import (
    STORAGE_DRIVER,
    can_read_mounts,
    engine_pid,
    follows_mounts,
)
from service.adapters.upper_store import Store, checked_name, make_folder
from service.disk_ports import DiskProbe
from service.errors import SystemDiskError

FICLONE = 0x40049409
"""ioctl_ficlone(2); Python 3.11 has no name for it."""

_NO_REFLINK = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS)
_HOLE_BYTES = 1 << 20
_MTIME_NS = 1_000_000_000_123_456_789
# struct vfs_ns_cap_data, revision 2: CAP_NET_RAW permitted and effective (capabilities(7)).
_CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def probe(client: docker.APIClient, socket_path: str | None, owner: str) -> DiskProbe:
    """Look and try. `socket_path` is None for an engine that is not reached by a unix socket.

    Raises docker-py's own errors.
    """
    info = client.info()
    why_not = _unfit(info, socket_path) or _other_root(client, owner)
    if why_not:
        return DiskProbe(works=False, reflink=False, detail=why_not)
    root = Path(info["DockerRootDir"])
    try:
        _require_visible_mounts(socket_path or "", root)
        reflink = _try_out(Store(root, owner), root / STORAGE_DRIVER)
    except (SystemDiskError, OSError) as error:
        return DiskProbe(works=False, reflink=False, detail=f"no upper directories: {error}")
    how = "cloned by reflink" if reflink else "copied: the file system shares no blocks"
    return DiskProbe(works=True, reflink=reflink, detail=f"upper directories in {root}, {how}")


def _unfit(info: dict[str, Any], socket_path: str | None) -> str:
    """What the engine says of itself that rules it out, or what we are; empty when nothing."""
    if socket_path is None:
        return "the engine is not reached over a unix socket: its directories are out of reach"
    # With the containerd image store the driver is "overlayfs", and tells no directories.
    driver = info.get("Driver", "")
    if driver != STORAGE_DRIVER:
        return f"the engine's storage driver is {driver}, upper directories need {STORAGE_DRIVER}"
    if os.geteuid() != 0:
        return "upper directories need root: run the service as root"
    return ""


def _other_root(client: docker.APIClient, owner: str) -> str:
    """The root that the engine names must be the one that we see: it makes a folder, we look.

    A volume, since that takes no image; its name is the same each time, so a crash leaves one.
    """
    name = f"gpuledger-probe-{checked_name(owner)}"
    point = Path(client.create_volume(name)["Mountpoint"])
    seen = point.is_dir()
    with suppress(NotFound):
        client.remove_volume(name)
    if seen and not point.exists():
        return ""
    return (
        f"{point.parent.parent} is not the engine's own here: give the service the engine's root"
        " directory under the same path"
    )


def _require_visible_mounts(socket_path: str, root: Path) -> None:
    pid = engine_pid(socket_path)
    if not (pid and can_read_mounts(pid)) and not follows_mounts(root):
        raise SystemDiskError(
            "what the engine has mounted is not to be seen here: give the service the host's"
            f" processes (pid: host), or {root} with rslave propagation"
        )


def _try_out(store: Store, layers: Path) -> bool:
    """Clone one of each kind and compare; whether clones share blocks. Raises when it differs."""
    folder = store.folder / ".probe"
    discard(folder)
    make_folder(folder)
    try:
        if _mount_id(folder) != _mount_id(layers):
            raise SystemDiskError(f"{layers} is a mount of its own, nothing can be moved out of it")
        _plant(folder / "tree")
        clone_now(folder / "tree", folder / "clone")
        wanted, got = _described(folder / "tree"), _described(folder / "clone")
        if wanted != got:
            differing = sorted(name for name in wanted if wanted[name] != got.get(name))
            raise SystemDiskError(
                f"cp does not copy everything here ({', '.join(differing)}): GNU coreutils is"
                " needed, and the capabilities SYS_ADMIN, MKNOD and SETFCAP"
            )
        return shares_blocks(folder)
    finally:
        discard(folder)


def _mount_id(folder: Path) -> str:
    """Of the mount that the folder is on: statx has it only since Python 3.15 (proc(5), fdinfo)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    finally:
        os.close(descriptor)
    return next(line.split()[1] for line in lines if line.startswith("mnt_id:"))


def _plant(tree: Path) -> None:
    """One of each kind that a layer can have and a plain copy loses."""
    tree.mkdir()
    os.setxattr(tree, "trusted.overlay.opaque", b"y")
    plain = tree / "plain"
    plain.write_bytes(b"x" * 4096)
    os.link(plain, tree / "link")
    os.chown(plain, 12, 34)
    os.chmod(plain, 0o4711)
    os.setxattr(plain, "user.gpuledger", b"kept")
    os.setxattr(plain, "security.capability", _CAPABILITY)
    os.mknod(tree / "whiteout", stat.S_IFCHR, os.makedev(0, 0))
    os.mknod(tree / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
        try:  # the path itself may be too long for an address (unix(7): 108 bytes)
            listener.bind(f"/proc/self/fd/{descriptor}/socket")
        finally:
            os.close(descriptor)
    os.symlink(b"nowhere\xff", tree / "symlink")
    with (tree / "sparse").open("wb") as file:
        file.truncate(_HOLE_BYTES)
    for path in (plain, tree / "symlink", tree):
        os.utime(path, ns=(_MTIME_NS, _MTIME_NS), follow_symlinks=False)


def _described(tree: Path) -> dict[str, tuple[object, ...]]:
    """Everything about the tree's entries that a clone must have in common with it."""
    found: dict[str, tuple[object, ...]] = {}
    for path in (tree, *sorted(tree.iterdir())):
        seen = path.lstat()
        names = sorted(os.listxattr(path, follow_symlinks=False))
        found[path.name if path != tree else "."] = (
            (seen.st_mode, seen.st_uid, seen.st_gid, seen.st_rdev, seen.st_nlink),
            0 if path.is_dir() else seen.st_size,
            seen.st_mtime_ns,
            seen.st_blocks * 512 < _HOLE_BYTES,
            [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names],
            os.readlink(os.fsencode(path)) if path.is_symlink() else None,
        )
    return found


def shares_blocks(folder: Path) -> bool:
    """Whether files in this folder can share blocks: tried with two that have no names."""
    with TemporaryFile(dir=folder) as old, TemporaryFile(dir=folder) as new:
        old.write(b"x" * 4096)
        old.flush()
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError as error:
            if error.errno in _NO_REFLINK:
                return False
            raise
    return True
