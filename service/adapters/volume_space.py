"""Whether a disk has room for what volumes are promised."""

import os
import re
from pathlib import Path

from msgspec import Struct

from events.values import show_size
from service.errors import VolumeStoreError

FREE_BYTES_MIN = 1 << 30
FREE_PART_MIN = 0.05
"""Unless told otherwise, the lesser of these stays free; a full disk stops every volume."""

BLOCK_BYTES = 4096
"""Sizes are whole blocks of these, which every file system made here has."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class DiskSpace(Struct, frozen=True):
    """The disk that a folder is on, and how much of it may be promised.

    With `over_commit` all volumes together may be larger than the disk; without it every byte
    of every volume has its place. `free_bytes_min` always stays free when a volume is made or
    grown; None is 1 GiB or 5 % of the disk, whichever is less.
    """

    folder: Path
    over_commit: bool = True
    free_bytes_min: int | None = None

    def require(self, name: str, growth_bytes: int) -> None:
        """Raises VolumeStoreError unless there is room for volume `name`.

        `growth_bytes` is what the disk would have to hold more, if no over-commit is allowed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self.folder)
        free_bytes = disk.f_bavail * disk.f_frsize
        needed_bytes = self.free_bytes_min
        if needed_bytes is None:
            disk_bytes = disk.f_blocks * disk.f_frsize
            needed_bytes = min(FREE_BYTES_MIN, int(disk_bytes * FREE_PART_MIN))
        if not self.over_commit:
            # Asked first, not tried: an allocation that fails has filled the disk before.
            needed_bytes += growth_bytes
        if free_bytes < needed_bytes:
            raise VolumeStoreError(
                f"the disk of {self.folder} has {show_size(free_bytes)} left, too little for"
                f" volume {name}: {show_size(needed_bytes)} must be free"
            )

    def words(self) -> str:
        """For people."""
        return "over-commit on" if self.over_commit else "over-commit off"


def require_name(name: str) -> None:
    """Raises VolumeStoreError. No dots, so that no name is another's file."""
    if not _NAME.fullmatch(name):
        raise VolumeStoreError(f"{name!r} is no name for a volume")


def whole_blocks(name: str, size_bytes: int, size_bytes_min: int, what: str) -> int:
    """The size rounded up to blocks. Raises VolumeStoreError when it is below the least."""
    if size_bytes < size_bytes_min:
        raise VolumeStoreError(
            f"volume {name} needs at least {show_size(size_bytes_min)} ({what}),"
            f" {show_size(size_bytes)} asked for"
        )
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def sync_folder(folder: Path) -> None:
    """Let the folder's entries survive a power cut; it blocks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
