"""MemoryVolumes: sized disks in memory, for simulations and as the contract's twin."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from service.disk_ports import OnProgress, Resizes, StoredDisk
from service.errors import VolumeBelowUsed, VolumeStoreError
from service.ports import Progress
from tests.kit.simulated_engine import Faults, no_faults

T = TypeVar("T")

VOLUME_BYTES_MIN = 8 << 20


@dataclass
class MemoryDisk:
    """One disk; tests write `files` and set `mounted` as a container would."""

    size_bytes: int
    files: dict[str, bytes] = field(default_factory=dict)
    mounted: bool = False
    attached: bool = True

    @property
    def used_bytes(self) -> int:
        return sum(map(len, self.files.values()))


class MemoryVolumes:
    """The port `VolumeStore`. Faults as SimulatedEngine's.

    `online`: mounted disks can grow. `shrinks_mounted`: they can be made smaller, too.
    """

    def __init__(
        self, *, online: bool = True, shrinks_mounted: bool = False, faults: Faults = no_faults
    ) -> None:
        self.disks: dict[str, MemoryDisk] = {}
        self.online = online
        self.shrinks_mounted = shrinks_mounted
        self.faults = faults

    async def probe(self) -> tuple[bool, str]:
        return True, "disks in memory"

    async def resizes_mounted(self, name: str) -> Resizes:
        return Resizes(self.online, self.shrinks_mounted)

    async def create(self, name: str, size_bytes: int) -> Mapping[str, str]:
        def do() -> Mapping[str, str]:
            if size_bytes < VOLUME_BYTES_MIN:
                raise VolumeStoreError(f"volume {name} needs at least {VOLUME_BYTES_MIN} bytes")
            self.disks.setdefault(name, MemoryDisk(size_bytes))
            return {"type": "ext4", "device": f"/memory/{name}.dev"}

        return await self._call("create_disk", name, do)

    async def resize(self, name: str, size_bytes: int, on_progress: OnProgress) -> None:
        """A disk that shrinks reports twice, one that grows once."""
        def do() -> None:
            disk = self.disks.get(name)
            if disk is None:
                raise VolumeStoreError(f"there is no volume {name}")
            if size_bytes < VOLUME_BYTES_MIN:
                raise VolumeStoreError(f"volume {name} needs at least {VOLUME_BYTES_MIN} bytes")
            before_bytes = disk.size_bytes
            shrinks = size_bytes < before_bytes
            online = self.shrinks_mounted if shrinks else self.online
            if size_bytes != before_bytes and disk.mounted and not online:
                raise VolumeStoreError(f"volume {name} is in use: stop its containers first")
            if size_bytes < disk.used_bytes:
                raise VolumeBelowUsed(
                    f"volume {name} cannot shrink to {size_bytes} bytes:"
                    f" its data needs {disk.used_bytes}"
                )
            if shrinks:
                on_progress(Progress(before_bytes // 2, before_bytes))
            disk.size_bytes = size_bytes
            total_bytes = max(before_bytes, size_bytes)
            on_progress(Progress(total_bytes, total_bytes))

        await self._call("resize_disk", name, do)

    async def remove(self, name: str) -> None:
        def do() -> None:
            disk = self.disks.get(name)
            if disk is not None and disk.mounted:
                raise VolumeStoreError(f"volume {name} is still mounted")
            self.disks.pop(name, None)

        await self._call("remove_disk", name, do)

    async def list_disks(self) -> tuple[StoredDisk, ...]:
        def do() -> tuple[StoredDisk, ...]:
            disks = sorted(self.disks.items())
            return tuple(StoredDisk(name, disk.used_bytes) for name, disk in disks)

        return await self._call("list_disks", "", do)

    async def attach_all(self) -> None:
        def do() -> None:
            for disk in self.disks.values():
                disk.attached = True

        await self._call("attach_disks", "", do)

    async def _call(self, verb: str, name: str, do: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        fault = self.faults(verb, name)
        if fault in ("before", "refuse"):
            raise VolumeStoreError(f"{verb} {name} did not work")
        answer = do()
        if fault == "after":
            raise VolumeStoreError(f"{verb} {name} gave no answer")
        return answer
