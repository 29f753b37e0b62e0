"""Ext4: grown mounted or not, shrunk when it is not mounted.

A resize2fs that is killed while it moves inodes leaves a file system that no e2fsck puts right
(measured: 2 of 60 kills, files lost). So what it overwrites is kept in an undo file beside the
image until it has ended, and an interrupted one is taken back before anything else.
"""

import asyncio
import re
from pathlib import Path

from events.values import show_size
from service.adapters.loop_devices import stays_in_use
from service.adapters.loop_file_system import FileSystem
from service.adapters.loop_progress import ShrinkProgress
from service.adapters.loop_tools import OnText, run_tool
from service.adapters.volume_space import BLOCK_BYTES
from service.errors import VolumeBelowUsed, VolumeStoreError

CAP_SYS_RESOURCE = 24
"""The capability's bit; the kernel wants it when a mounted ext4 is resized."""

_MAGIC_AT = 1024 + 0x38
_MAGIC = b"\x53\xef"
_MINIMUM = re.compile(r"minimum size of the filesystem: (\d+)", re.IGNORECASE)
_FIELD = re.compile(r"^([A-Z][A-Za-z ]+):\s+(\d+)$", re.MULTILINE)


class Ext4:
    """See `LoopFileSystem`."""

    kind = "ext4"
    tools = ("mkfs.ext4", "resize2fs", "e2fsck", "e2undo", "dumpe2fs")
    size_bytes_min = 8 << 20  # below it mkfs.ext4 makes no journal, and a crash could cost data
    shrinks = True

    def is_in(self, head: bytes) -> bool:
        return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC

    def grows_online(self) -> bool:
        return _has_capability(CAP_SYS_RESOURCE)

    async def make(self, image: Path) -> None:
        options = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"
        await run_tool(
            "mkfs.ext4", "-q", "-F", "-m", "0", "-b", str(BLOCK_BYTES), "-E", options, str(image)
        )

    async def measure(self, device: str) -> FileSystem:
        """From the superblock; also of a mounted device, whose cache is the kernel's own.

        The greatest size is how far the table of block groups was laid out to grow, about 1024
        times the first size: e2fsprogs 1.47.0 destroyed a volume that was grown further (64 MB
        to 1 TB: "Illegal doubly indirect block found").
        """
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

    async def grow(self, device: str, undo: Path, *, mounted: bool) -> None:
        if mounted:
            await run_tool("resize2fs", device)
            return
        await _check(device)
        await _resize(undo, device)

    async def shrink(
        self, name: str, device: str, undo: Path, size_bytes: int, progress: ShrinkProgress
    ) -> None:
        await _check(device, progress.check_said)
        least_bytes = await _needed_bytes(device)
        if size_bytes < least_bytes:
            raise VolumeBelowUsed(
                f"volume {name} cannot shrink to {show_size(size_bytes)}:"
                f" its data needs {show_size(least_bytes)}"
            )
        blocks = str(size_bytes // BLOCK_BYTES)
        await _resize(undo, device, blocks, on_text=progress.resize_said)

    async def take_back(self, device: str, undo: Path) -> None:
        """An undo file that does not fit was made for nothing: the tool had not begun, or had
        ended and the file system has been mounted since. The check after it tells.
        """
        if await stays_in_use(device):
            return
        refused = ""
        try:
            await run_tool("e2undo", str(undo), device)
        except VolumeStoreError as error:
            refused = f" ({error})"
        try:
            await _check(device)
        except VolumeStoreError as error:
            raise VolumeStoreError(
                f"an interrupted change of size could not be taken back, {undo} is left:"
                f" {error}{refused}"
            ) from error
        await asyncio.to_thread(undo.unlink, missing_ok=True)


async def _needed_bytes(device: str) -> int:
    """The least size, as resize2fs reckons it; that is above the data's own."""
    shown = await run_tool("resize2fs", "-P", device)
    minimum = _MINIMUM.search(shown)
    if minimum is None:
        raise VolumeStoreError(f"resize2fs -P does not tell the least size: {shown}")
    return int(minimum[1]) * BLOCK_BYTES


async def _resize(undo: Path, device: str, *size: str, on_text: OnText | None = None) -> None:
    """Resize what is not mounted; when that fails, or is cut short, it can be taken back."""
    try:
        await run_tool("resize2fs", "-p", "-z", str(undo), device, *size, on_text=on_text)
    except VolumeStoreError:
        await EXT4.take_back(device, undo)
        raise
    await asyncio.to_thread(undo.unlink, missing_ok=True)


async def _check(device: str, on_text: OnText | None = None) -> None:
    """Repair what can be repaired without asking (rc 1 says that something was)."""
    await run_tool("e2fsck", "-f", "-p", "-C", "1", device, rc_max=1, on_text=on_text)


def _has_capability(number: int) -> bool:
    """Has this process the capability with this number in effect?"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


EXT4 = Ext4()
