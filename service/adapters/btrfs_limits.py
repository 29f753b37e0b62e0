"""BtrfsLimits: a folder is a subvolume, its limit that of the subvolume's own quota group.

Writing past it fails with EDQUOT ("Disk quota exceeded") in the container. A subvolume that a
container makes inside of its volume has a quota group of its own, without a limit.
"""

import asyncio
import re
import stat
from pathlib import Path

from service.adapters.folder_mounts import mount_of
from service.adapters.folder_volumes import DATA, VOLUME_BYTES_MIN, Usage
from service.adapters.loop_tools import missing_tools, run_tool
from service.errors import VolumeStoreError

KIND = "btrfs"

_ROOT_INODE = 256  # BTRFS_FIRST_FREE_OBJECTID: of a subvolume's top, and of nothing else's
_GROUP = re.compile(r"^0/\d+\s+(\d+)\s+\d+\s+(\d+|none)\b", re.MULTILINE)
_SUBVOLUME = re.compile(r"^ID (\d+) gen \d+ parent (\d+) ", re.MULTILINE)


class BtrfsLimits:
    """See `FolderLimits`. Needs btrfs-progs."""

    async def probe(self, folder: Path) -> tuple[bool, str]:
        """Switches quotas on where they are off, which all of that file system then pays for."""
        mount = await asyncio.to_thread(mount_of, folder)
        if mount.kind != KIND:
            return False, f"{folder} is on {mount.kind}, not on {KIND}"
        if missing := missing_tools("btrfs"):
            return False, missing
        await run_tool("btrfs", "quota", "enable", str(folder))
        trial = folder / ".probe"
        await self.remove(trial)
        try:
            await self.make(trial, VOLUME_BYTES_MIN)
            seen = await self.usage(trial)
        finally:
            await self.remove(trial)
        if seen.limit_bytes != VOLUME_BYTES_MIN:
            return False, f"{KIND} keeps no limit under {folder}"
        return True, f"{KIND} subvolumes with quotas under {folder}"

    def is_one(self, path: Path) -> bool:
        try:
            seen = path.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(seen.st_mode) or seen.st_ino != _ROOT_INODE:
            return False
        return mount_of(path).kind == KIND

    async def make(self, path: Path, size_bytes: int) -> None:
        await run_tool("btrfs", "subvolume", "create", str(path))
        await asyncio.to_thread(_make_data, path / DATA)
        await self.set_limit(path, size_bytes)
        await run_tool("btrfs", "filesystem", "sync", str(path))

    async def set_limit(self, path: Path, size_bytes: int) -> None:
        await run_tool("btrfs", "qgroup", "limit", str(size_bytes), str(path))

    async def usage(self, path: Path) -> Usage:
        # -W: quotas that were just switched on are still being counted.
        await run_tool("btrfs", "quota", "rescan", "-W", str(path))
        shown = await run_tool("btrfs", "qgroup", "show", "--raw", "--sync", "-rf", str(path))
        found = _GROUP.search(shown)
        if found is None:
            raise VolumeStoreError(f"btrfs qgroup show tells no limit of {path}: {shown}")
        return Usage(int(found[1]), None if found[2] == "none" else int(found[2]))

    async def remove(self, path: Path) -> None:
        """With the subvolumes in it, which a container may have made."""
        if not await asyncio.to_thread(self.is_one, path):
            return
        top = (await run_tool("btrfs", "inspect-internal", "rootid", str(path))).strip()
        listed = await run_tool("btrfs", "subvolume", "list", "-p", str(path))
        # Parents before children, so that the reverse empties a parent before its own turn.
        inside = [top]
        for parent in inside:
            inside += [child for child, of in _SUBVOLUME.findall(listed) if of == parent]
        for child in reversed(inside[1:]):
            await run_tool("btrfs", "subvolume", "delete", "--subvolid", child, str(path))
        await run_tool("btrfs", "subvolume", "delete", "--commit-after", str(path))


def _make_data(data: Path) -> None:
    data.mkdir()
    data.chmod(0o755)
