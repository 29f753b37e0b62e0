"""Which store makes this host's volumes, and which serves those that are there."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from service.adapters.btrfs_limits import BtrfsLimits
from service.adapters.folder_volumes import FolderVolumes
from service.adapters.loop_volumes import FileSystemKind, LoopVolumes
from service.adapters.quota_limits import QuotaLimits
from service.adapters.quota_projects import ProjectQuota
from service.adapters.volume_space import require_name
from service.disk_ports import OnProgress, Resizes, StoredDisk, VolumeStore
from service.errors import VolumeStoreError

Backend = Literal["loop", "btrfs", "quota"]


async def choose(
    folder: Path,
    backend: Backend | Literal["auto"] = "auto",
    file_system: FileSystemKind = "ext4",
    *,
    over_commit: bool = True,
    free_bytes_min: int | None = None,
) -> "ChosenVolumes":
    """Try out what works in this folder; "auto" takes the first of btrfs, quota and loop.

    `file_system` counts for loop only. A backend that was named and does not work is not
    replaced by another: the store's `probe` says why.
    """
    volumes = ChosenVolumes(
        folder,
        LoopVolumes(
            folder, file_system, over_commit=over_commit, free_bytes_min=free_bytes_min
        ),
        FolderVolumes(
            folder, BtrfsLimits(), over_commit=over_commit, free_bytes_min=free_bytes_min
        ),
        FolderVolumes(
            folder,
            QuotaLimits(ProjectQuota()),
            over_commit=over_commit,
            free_bytes_min=free_bytes_min,
        ),
    )
    await volumes.settle(backend)
    return volumes


class ChosenVolumes:
    """The port `VolumeStore`: new volumes by one backend, each old one by its own."""

    def __init__(
        self, folder: Path, loop: LoopVolumes, btrfs: FolderVolumes, quota: FolderVolumes
    ) -> None:
        self._folder = folder
        self._limited: Mapping[Backend, FolderVolumes] = {"btrfs": btrfs, "quota": quota}
        self._stores: Mapping[Backend, VolumeStore] = {"loop": loop, **self._limited}
        self._chosen: VolumeStore = loop

    async def settle(self, backend: Backend | Literal["auto"]) -> None:
        """Choose what makes new volumes."""
        if backend != "auto":
            self._chosen = self._stores[backend]
            return
        self._chosen = self._stores["loop"]
        for store in self._limited.values():
            works, _ = await store.probe()
            if works:
                self._chosen = store
                return

    async def probe(self) -> tuple[bool, str]:
        """Of the backend that makes new volumes."""
        return await self._chosen.probe()

    async def resizes_mounted(self, name: str) -> Resizes:
        return await (await self._store_of(name)).resizes_mounted(name)

    async def create(self, name: str, size_bytes: int) -> Mapping[str, str]:
        return await (await self._store_of(name)).create(name, size_bytes)

    async def resize(self, name: str, size_bytes: int, on_progress: OnProgress) -> None:
        await (await self._store_of(name)).resize(name, size_bytes, on_progress)

    async def remove(self, name: str) -> None:
        await (await self._store_of(name)).remove(name)

    async def list_disks(self) -> tuple[StoredDisk, ...]:
        """Of every backend, whichever makes new ones."""
        found = [disk for store in self._stores.values() for disk in await store.list_disks()]
        return tuple(sorted(found, key=lambda disk: disk.name))

    async def attach_all(self) -> None:
        """Of every backend; the error names all that is broken."""
        failures = []
        for store in self._stores.values():
            try:
                await store.attach_all()
            except VolumeStoreError as error:
                failures.append(str(error))
        if failures:
            raise VolumeStoreError("; ".join(failures))

    async def _store_of(self, name: str) -> VolumeStore:
        """By what is on the disk; a volume that is not there is for the one that was chosen."""
        require_name(name)
        return await asyncio.to_thread(self._find, name)

    def _find(self, name: str) -> VolumeStore:
        if (self._folder / f"{name}.img").exists():
            return self._stores["loop"]
        for store in self._limited.values():
            if store.owns(name):
                return store
        return self._chosen
