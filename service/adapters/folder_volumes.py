"""FolderVolumes: sized disks as folders that the file system itself keeps a limit on.

For the volume `bar` the folder holds

    bar/data       what a container gets, as a bind mount; when the file system is not mounted it
                   is not there, and the container does not start
    .bar.part      the volume while it is being made
    .bar.gone      the volume while it is being removed

Limits are changed while the volume is in use, both ways, and no data is moved. The folders and the
kernel's limits are the only state; a step that was interrupted is done again by the next call.
"""

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from events.values import show_size
from service.adapters.folder_mounts import is_bound
from service.adapters.private_folder import make_private_folder
from service.adapters.volume_space import DiskSpace, require_name, sync_folder, whole_blocks
from service.disk_ports import OnProgress, Resizes, StoredDisk
from service.errors import VolumeBelowUsed, VolumeStoreError
from service.ports import Progress

DATA = "data"
VOLUME_BYTES_MIN = 8 << 20
"""As for an ext4, so that the least size does not depend on the host more than it must."""

_SETTLES_WITHIN_S = 2.0
_LOOK_EVERY_S = 0.02


class Usage(Struct, frozen=True):
    """What is in a limited folder."""

    used_bytes: int
    limit_bytes: int | None
    """None when it has no limit, as after quotas were switched off."""


class FolderLimits(Protocol):
    """A file system's way to keep folders below a size. Raises VolumeStoreError or OSError."""

    async def probe(self, folder: Path) -> tuple[bool, str]:
        """Does it work in this folder, tried out? And how, or why not."""
        ...

    def is_one(self, path: Path) -> bool:
        """Was this made by `make`?"""
        ...

    async def make(self, path: Path, size_bytes: int) -> None:
        """A folder with an empty, limited DATA in it, durable."""
        ...

    async def set_limit(self, path: Path, size_bytes: int) -> None: ...

    async def usage(self, path: Path) -> Usage:
        """As it is now, what is not yet written to the disk included."""
        ...

    async def remove(self, path: Path) -> None:
        """With all that is in it; one that is half made or half removed too."""
        ...


class FolderVolumes:
    """The port `VolumeStore` on quotas. Needs root.

    `over_commit` and `free_bytes_min`: see `DiskSpace`. Without over-commit what all volumes may
    still write must have its place on the disk.
    """

    def __init__(
        self,
        folder: Path,
        limits: FolderLimits,
        *,
        over_commit: bool = True,
        free_bytes_min: int | None = None,
    ) -> None:
        self._folder = folder
        self._limits = limits
        self._space = DiskSpace(folder, over_commit, free_bytes_min)
        self._promising = asyncio.Lock()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def probe(self) -> tuple[bool, str]:
        if os.geteuid() != 0:
            return False, "sized volumes need root (quotas): run the service as root"
        try:
            await asyncio.to_thread(make_private_folder, self._folder)
            works, detail = await self._limits.probe(self._folder)
        except (OSError, VolumeStoreError) as error:
            return False, f"quotas under {self._folder} do not work: {error}"
        return works, f"{detail}, {self._space.words()}" if works else detail

    async def resizes_mounted(self, name: str) -> Resizes:
        return Resizes(grows=True, shrinks=True)

    def owns(self, name: str) -> bool:
        """Is there a volume of this name, of these limits?"""
        return self._limits.is_one(self._path(name))

    def names(self) -> list[str]:
        """The volumes that are there."""
        if not self._folder.exists():
            return []
        found = sorted(entry.name for entry in self._folder.iterdir())
        return [name for name in found if not name.startswith(".") and self.owns(name)]

    async def create(self, name: str, size_bytes: int) -> Mapping[str, str]:
        """`size_bytes` is rounded up to whole blocks. A disk found made keeps its size."""
        size_bytes = whole_blocks(name, size_bytes, VOLUME_BYTES_MIN, "with a quota")
        path = self._path(name)
        async with self._locked(name):
            if not await asyncio.to_thread(self.owns, name):
                async with self._promising:
                    await self._require_space(name, size_bytes)
                    part = self._part(name)
                    await self._limits.remove(part)
                    await self._limits.make(part, size_bytes)
                    await asyncio.to_thread(part.rename, path)
                await asyncio.to_thread(sync_folder, self._folder)
        return {"type": "none", "o": "bind", "device": str(path / DATA)}

    async def resize(self, name: str, size_bytes: int, on_progress: OnProgress) -> None:
        size_bytes = whole_blocks(name, size_bytes, VOLUME_BYTES_MIN, "with a quota")
        async with self._locked(name):
            if not await asyncio.to_thread(self.owns, name):
                raise VolumeStoreError(f"there is no volume {name} under {self._folder}")
            path = self._path(name)
            before = await self._limits.usage(path)
            _require_used_below(name, size_bytes, before)
            async with self._promising:
                limit_bytes = before.limit_bytes
                if limit_bytes is None or size_bytes > limit_bytes:
                    await self._require_space(name, size_bytes - before.used_bytes)
                await self._limits.set_limit(path, size_bytes)
            if limit_bytes is not None and size_bytes < limit_bytes:
                try:
                    # Somebody may have written between the look and the limit.
                    _require_used_below(name, size_bytes, await self._limits.usage(path))
                except VolumeBelowUsed:
                    await self._limits.set_limit(path, limit_bytes)
                    raise
            on_progress(Progress(size_bytes, size_bytes))

    async def remove(self, name: str) -> None:
        """Raises VolumeStoreError while something still has the disk mounted."""
        async with self._locked(name):
            gone = self._gone(name)
            if await asyncio.to_thread(self.owns, name):
                if await _stays_bound(self._path(name)):
                    raise VolumeStoreError(
                        f"volume {name} is still mounted: remove its containers first"
                    )
                await self._limits.remove(gone)
                await asyncio.to_thread(self._path(name).rename, gone)
            await self._limits.remove(self._part(name))
            await self._limits.remove(gone)
            if await asyncio.to_thread(self._folder.exists):
                await asyncio.to_thread(sync_folder, self._folder)

    async def list_disks(self) -> tuple[StoredDisk, ...]:
        """To know their sizes would mean to write all of them out."""
        try:
            names = await asyncio.to_thread(self.names)
        except OSError as error:
            raise VolumeStoreError(f"volumes under {self._folder}: {error}") from error
        return tuple(StoredDisk(name, None) for name in names)

    async def attach_all(self) -> None:
        """Removes what was half made or half removed; raises for volumes without a limit."""
        failures = []
        for left in await asyncio.to_thread(self._leftovers):
            try:
                await self._limits.remove(left)
            except (OSError, VolumeStoreError) as error:
                failures.append(f"{left.name}: {error}")
        for name in await asyncio.to_thread(self.names):
            try:
                if (await self._limits.usage(self._path(name))).limit_bytes is None:
                    failures.append(f"{name}: its quota is gone; resize it")
            except (OSError, VolumeStoreError) as error:
                failures.append(f"{name}: {error}")
        if failures:
            raise VolumeStoreError("volumes without a limit: " + "; ".join(failures))

    def _leftovers(self) -> list[Path]:
        if not self._folder.exists():
            return []
        ours = (".part", ".gone")
        found = sorted(p for p in self._folder.glob(".*") if p.suffix in ours and p.is_dir())
        return [path for path in found if self._limits.is_one(path)]

    async def _require_space(self, name: str, growth_bytes: int) -> None:
        """`growth_bytes` is what volume `name` may write that is not on the disk yet.

        The others' promises count too, to the last byte that they may still write.
        """
        if not self._space.over_commit:
            for other in await asyncio.to_thread(self.names):
                if other != name:
                    seen = await self._limits.usage(self._path(other))
                    growth_bytes += max(0, (seen.limit_bytes or 0) - seen.used_bytes)
        self._space.require(name, growth_bytes)

    @asynccontextmanager
    async def _locked(self, name: str) -> AsyncIterator[None]:
        """One operation per volume at a time; what the disk has to say becomes our error."""
        require_name(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                yield
            except OSError as error:
                raise VolumeStoreError(f"volume {name}: {error}") from error

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _part(self, name: str) -> Path:
        return self._folder / f".{name}.part"

    def _gone(self, name: str) -> Path:
        return self._folder / f".{name}.gone"


def _require_used_below(name: str, size_bytes: int, seen: Usage) -> None:
    if size_bytes < seen.used_bytes:
        raise VolumeBelowUsed(
            f"volume {name} cannot shrink to {show_size(size_bytes)}:"
            f" its data needs {show_size(seen.used_bytes)}"
        )


async def _stays_bound(path: Path) -> bool:
    """Is it mounted, and not only for a moment, as in a namespace that a container begins with?"""
    for _ in range(int(_SETTLES_WITHIN_S / _LOOK_EVERY_S)):
        if not await asyncio.to_thread(is_bound, path):
            return False
        await asyncio.sleep(_LOOK_EVERY_S)
    return await asyncio.to_thread(is_bound, path)
