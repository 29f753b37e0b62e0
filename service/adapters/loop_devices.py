"""A loop device and the ext4 on it: what they are like, and the steps that change them."""

import asyncio
import errno
import os
import re
from pathlib import Path

from msgspec import Struct

from service.adapters.loop_tools import run_tool
from service.errors import VolumeStoreError

BLOCK_BYTES = 4096
"""Of every file system made here, so that sizes are whole blocks of all of them."""

CAP_SYS_RESOURCE = 24
"""The capability's bit; the kernel wants it when a mounted ext4 is resized."""

_MINIMUM = re.compile(r"minimum size of the filesystem: (\d+)", re.IGNORECASE)
_FIELD = re.compile(r"^([A-Z][A-Za-z ]+):\s+(\d+)$", re.MULTILINE)


async def devices_of(image: Path) -> list[str]:
    """The loop devices behind which the file is."""
    shown = await run_tool(
        "losetup", "--noheadings", "--raw", "--output", "NAME", "--associated", str(image)
    )
    return shown.split()


async def follow_length(device: str, image: Path) -> None:
    """Let the device be as long as its file is now."""
    if _device_bytes(device) != _length(image):
        await run_tool("losetup", "--set-capacity", device)


async def check(device: str) -> None:
    """Repair what can be repaired without asking (rc 1 says that something was)."""
    await run_tool("e2fsck", "-f", "-p", device, rc_max=1)


class FileSystem(Struct, frozen=True):
    """An ext4, from its superblock."""

    size_bytes: int
    size_bytes_max: int
    """How far its table of block groups was laid out to grow, about 1024 times its first size.

    e2fsprogs 1.47.0 destroyed a volume that was grown further than that (64 MB to 1 TB:
    "Illegal doubly indirect block found").
    """


async def file_system(device: str) -> FileSystem:
    """Read the superblock; also of a mounted device, whose cache is the kernel's own."""
    shown = await run_tool("dumpe2fs", "-h", device)
    fields = {name: int(number) for name, number in _FIELD.findall(shown)}
    try:
        blocks, block_bytes = fields["Block count"], fields["Block size"]
        group_blocks = fields["Blocks per group"]
    except KeyError as error:
        raise VolumeStoreError(
            f"dumpe2fs does not tell the {error} of {device}: {shown}"
        ) from error
    # 32 bytes a group is what a file system without the feature 64bit has; it tells no size.
    groups_per_block = block_bytes // fields.get("Group descriptor size", 32)
    table_blocks = -(-blocks // (group_blocks * groups_per_block))
    table_blocks_max = table_blocks + fields.get("Reserved GDT blocks", 0)
    return FileSystem(
        size_bytes=blocks * block_bytes,
        size_bytes_max=table_blocks_max * groups_per_block * group_blocks * block_bytes,
    )


SETTLES_WITHIN_S = 2.0
_LOOK_EVERY_S = 0.02


def in_use(device: str) -> bool:
    """Is it mounted in any mount namespace, a container's or dockerd's own included?

    The kernel's answer: a mounted block device cannot be opened exclusively. Mount tables
    would only tell about our own namespace.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return True
    return False


async def stays_in_use(device: str) -> bool:
    """Is it in use, and not only for a moment?

    A container that starts elsewhere copies the mounts that it finds into its own namespace, and
    so keeps a device busy for some milliseconds after it was unmounted.
    """
    for _ in range(int(SETTLES_WITHIN_S / _LOOK_EVERY_S)):
        if not in_use(device):
            return False
        await asyncio.sleep(_LOOK_EVERY_S)
    return in_use(device)


def _device_bytes(device: str) -> int:
    """The kernel counts in sectors of 512 bytes here, whatever the device's own are."""
    return int(Path(f"/sys/block/{os.path.basename(device)}/size").read_text()) * 512


async def needed_bytes(device: str) -> int:
    """The least size that still holds the data, as resize2fs reckons it (above the data's own)."""
    shown = await run_tool("resize2fs", "-P", device)
    minimum = _MINIMUM.search(shown)
    if minimum is None:
        raise VolumeStoreError(f"resize2fs -P does not tell the least size: {shown}")
    return int(minimum[1]) * BLOCK_BYTES


def _length(file: Path) -> int:
    return file.stat().st_size


def has_capability(number: int) -> bool:
    """Has this process the capability with this number in effect?"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False
