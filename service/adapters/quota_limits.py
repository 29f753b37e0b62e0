"""QuotaLimits: a folder belongs to a project of its own, whose quota is its limit.

Beside `data` lies `project`, the project's number. Writing past the limit fails in the container
with EDQUOT on ext4 and with ENOSPC on xfs. A process with CAP_SYS_RESOURCE, which no container
has unless it was given it, may write past it on ext4.
"""

import asyncio
import errno
import os
from pathlib import Path
from typing import Protocol

from service.adapters.folder_volumes import DATA, VOLUME_BYTES_MIN, Usage
from service.adapters.loop_tools import run_tool
from service.adapters.volume_space import sync_folder
from service.errors import VolumeStoreError

PROJECT = "project"
PROJECT_FIRST = 0x47500000
PROJECT_LAST = PROJECT_FIRST + 0xFFFF
"""Far above what engines and people count up from 1, and room for 65,536 volumes."""


class ProjectCalls(Protocol):
    """What the kernel is asked; see `ProjectQuota`. Blocks; raises OSError."""

    def why_not(self, folder: Path) -> str: ...
    def tag(self, folder: Path, project: int) -> None: ...
    def set_limit(self, folder: Path, project: int, size_bytes: int) -> None: ...
    def usage(self, folder: Path, project: int) -> Usage: ...


class QuotaLimits:
    """See `FolderLimits`. `make` must not run twice at a time in one folder."""

    def __init__(self, calls: ProjectCalls) -> None:
        self._calls = calls

    async def probe(self, folder: Path) -> tuple[bool, str]:
        if why_not := await asyncio.to_thread(self._calls.why_not, folder):
            return False, why_not
        trial = folder / ".probe"
        await self.remove(trial)
        try:
            await self.make(trial, VOLUME_BYTES_MIN)
            seen = await self.usage(trial)
        finally:
            await self.remove(trial)
        if seen.limit_bytes != VOLUME_BYTES_MIN:
            return False, f"project quotas keep no limit under {folder}"
        return True, f"folders with project quotas under {folder}"

    def is_one(self, path: Path) -> bool:
        return (path / PROJECT).is_file()

    async def make(self, path: Path, size_bytes: int) -> None:
        await asyncio.to_thread(self._make, path, size_bytes)

    async def set_limit(self, path: Path, size_bytes: int) -> None:
        await asyncio.to_thread(self._set_limit, path, size_bytes)

    async def usage(self, path: Path) -> Usage:
        return await asyncio.to_thread(lambda: self._calls.usage(path, _project_of(path)))

    async def remove(self, path: Path) -> None:
        """The number goes last: until then it is nobody else's, and known to a second try."""
        if not await asyncio.to_thread(self.is_one, path):
            return
        await run_tool("rm", "-rf", "--one-file-system", "--", str(path / DATA))
        await asyncio.to_thread(self._give_back, path)

    def _make(self, path: Path, size_bytes: int) -> None:
        project = self._free_project(path.parent)
        path.mkdir(exist_ok=True)
        fresh = path / f"{PROJECT}.new"
        with fresh.open("w") as file:
            file.write(f"{project}\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path / PROJECT)
        data = path / DATA
        data.mkdir()
        data.chmod(0o755)
        self._calls.tag(data, project)
        self._calls.set_limit(path, project, size_bytes)
        sync_folder(path)

    def _free_project(self, folder: Path) -> int:
        """The first number that no volume here has, and that the kernel knows of no use of.

        So a second folder on the same file system gets other numbers.
        """
        taken = {_project_of(found.parent) for found in folder.glob(f"*/{PROJECT}")}
        for project in range(PROJECT_FIRST, PROJECT_LAST + 1):
            if project not in taken:
                seen = self._calls.usage(folder, project)
                if not seen.used_bytes and seen.limit_bytes is None:
                    return project
        raise VolumeStoreError(
            f"all projects from {PROJECT_FIRST} to {PROJECT_LAST} are taken on the disk of {folder}"
        )

    def _set_limit(self, path: Path, size_bytes: int) -> None:
        self._calls.set_limit(path, _project_of(path), size_bytes)

    def _give_back(self, path: Path) -> None:
        self._calls.set_limit(path, _project_of(path), 0)
        (path / PROJECT).unlink()
        path.rmdir()


def _project_of(path: Path) -> int:
    """The number beside the volume. Raises OSError, also for a file that holds none of ours."""
    file = path / PROJECT
    text = file.read_text().strip()
    if not text.isdecimal() or not PROJECT_FIRST <= int(text) <= PROJECT_LAST:
        raise OSError(errno.EINVAL, f"no project number of ours: {text[:20]!r}", str(file))
    return int(text)
