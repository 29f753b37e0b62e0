"""Room on the disk that system disks are on. Everything here blocks."""

import os
from pathlib import Path

from events.values import show_size
from service.errors import SystemDiskFull

RESERVE_BYTES_MAX = 1 << 30
RESERVE_SHARE = 0.05
"""The lesser of the two stays free: the engine, and what runs, must be able to go on."""


def free_bytes(folder: Path) -> int:
    """What is free for others than root, on the disk that `folder` is on (statvfs(3))."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def reserve_bytes(folder: Path) -> int:
    """What a clone must leave free."""
    disk = os.statvfs(folder)
    return min(RESERVE_BYTES_MAX, int(disk.f_blocks * disk.f_frsize * RESERVE_SHARE))


def require_room(folder: Path, size_bytes: int) -> None:
    """Raises SystemDiskFull unless so much can be written and the reserve stays free."""
    free, reserve = free_bytes(folder), reserve_bytes(folder)
    if size_bytes + reserve > free:
        raise SystemDiskFull(
            f"the disk of {folder} has {show_size(free)} left, too little for a copy of"
            f" {show_size(size_bytes)} and the {show_size(reserve)} that must stay free: make room,"
            " or remove kept revisions"
        )
