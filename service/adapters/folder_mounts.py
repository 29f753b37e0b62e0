"""On which file system a folder lies, and whether a part of it is mounted anywhere. It blocks."""

import os
import re
from pathlib import Path

from msgspec import Struct

from service.errors import VolumeStoreError

_ESCAPED = re.compile(rb"\\([0-7]{3})")


class Mount(Struct, frozen=True):
    """A line of /proc/PID/mountinfo, see proc(5)."""

    device: str
    """As major:minor; the same for all mounts of one file system."""
    root: Path
    """What of the file system is seen there, as a path inside of it."""
    point: Path
    kind: str
    """The file system's name: "btrfs"."""


def mount_of(folder: Path) -> Mount:
    """The mount through which we see the folder. Raises VolumeStoreError."""
    folder = folder.resolve()
    # Of several on one point the last covers the others.
    found = [mount for mount in _mounts("self") if folder.is_relative_to(mount.point)]
    if not found:
        raise VolumeStoreError(f"/proc/self/mountinfo does not tell what {folder} is on")
    return max(reversed(found), key=lambda mount: len(mount.point.parts))


def is_bound(folder: Path) -> bool:
    """Is the folder, or something in it, the root of a mount in any mount namespace we can see?

    Looked for by file system and path inside it, as the paths outside differ between namespaces.
    Raises VolumeStoreError.
    """
    seen_at = mount_of(folder)
    inside = seen_at.root / folder.resolve().relative_to(seen_at.point)
    namespaces: set[str] = set()
    for process in filter(str.isdecimal, os.listdir("/proc")):
        try:
            namespace = os.readlink(f"/proc/{process}/ns/mnt")
            if namespace in namespaces:
                continue
            mounts = _mounts(process)
        except OSError:
            continue  # it is gone by now, or not ours to see
        namespaces.add(namespace)
        for mount in mounts:
            if mount.device == seen_at.device and mount.root.is_relative_to(inside):
                return True
    return False


def _mounts(process: str) -> list[Mount]:
    """Raises OSError."""
    lines = Path(f"/proc/{process}/mountinfo").read_bytes().splitlines()
    return [_parsed(line.split(b" ")) for line in lines]


def _parsed(fields: list[bytes]) -> Mount:
    return Mount(
        device=fields[2].decode(),
        root=_path(fields[3]),
        point=_path(fields[4]),
        kind=fields[fields.index(b"-") + 1].decode(),
    )


def _path(field: bytes) -> Path:
    """Spaces and the like are written as \\040."""
    return Path(os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), field)))
