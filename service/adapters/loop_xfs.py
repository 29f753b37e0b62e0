"""Xfs: grown while it is mounted, by the kernel, without CAP_SYS_RESOURCE; never shrunk.

The kernel is asked through a mount point. The one in a container, or in the engine's own mount
namespace, need not be visible here, so the device is mounted once more in a namespace of our own,
where nobody else sees it: that is the same file system, which grows for all who use it.
"""

import re
from pathlib import Path

from service.adapters.loop_file_system import FileSystem
from service.adapters.loop_progress import ShrinkProgress
from service.adapters.loop_tools import run_tool
from service.adapters.volume_space import BLOCK_BYTES
from service.errors import VolumeStoreError

_MAGIC = b"XFSB"
_DATA = re.compile(r"^data\s+=\s+bsize=(\d+)\s+blocks=(\d+)", re.MULTILINE)

_MOUNTED = 'mount -t xfs "$1" "$2" || exit; shift; xfs_growfs "$@"; rc=$?; umount "$1"; exit $rc'


class Xfs:
    """See `LoopFileSystem`."""

    kind = "xfs"
    tools = ("mkfs.xfs", "xfs_growfs", "unshare", "mount")
    size_bytes_min = 300 << 20  # mkfs.xfs makes no smaller one since xfsprogs 5.19
    shrinks = False

    def is_in(self, head: bytes) -> bool:
        return head.startswith(_MAGIC)

    def grows_online(self) -> bool:
        return True

    async def make(self, image: Path) -> None:
        await run_tool("mkfs.xfs", "-q", "-f", "-b", f"size={BLOCK_BYTES}", str(image))

    async def measure(self, device: str) -> FileSystem:
        shown = await _growfs(device, "-n")
        found = _DATA.search(shown)
        if found is None:
            raise VolumeStoreError(f"xfs_growfs does not tell the size of {device}: {shown}")
        return FileSystem(size_bytes=int(found[1]) * int(found[2]), size_bytes_max=None)

    async def grow(self, device: str, undo: Path, *, mounted: bool) -> None:
        """Needs no `undo`: what was begun is in the file system's own log."""
        await _growfs(device)

    async def shrink(
        self, name: str, device: str, undo: Path, size_bytes: int, progress: ShrinkProgress
    ) -> None:
        raise VolumeStoreError(f"volume {name} is xfs, which cannot be made smaller")

    async def take_back(self, device: str, undo: Path) -> None:
        """There is nothing that could be half done."""


async def _growfs(device: str, *options: str) -> str:
    """xfs_growfs, on a mount that goes with the namespace, however that ends.

    Mounted over /mnt, which every system has (FHS 3.0), so that no folder is left behind.
    """
    return await run_tool(
        "unshare", "--mount", "sh", "-c", _MOUNTED, "sh", device, "/mnt", *options
    )


XFS = Xfs()
