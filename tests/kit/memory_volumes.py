"""MemoryVolumes: sized disks in memory, for simulations and as the contract's twin."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from service.errors import VolumeBelowUsed, VolumeStoreError
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
    """The port `VolumeStore`. `online`: mounted disks can grow. Faults as SimulatedEngine's."""

    def __init__(self, *, online: bool = True, faults: Faults = no_faults) -> None:
        self.disks: dict[str, MemoryDisk] = {}
        self.online = online
        self.faults = faults

    async def probe(self) -> tuple[bool, str]:
        return True, "disks in memory"

    async def grows_online(self) -> bool:
        return self.online

    async def create(self, name: str, size_bytes: int) -> Mapping[str, str]:
        def do() -> Mapping[str, str]:
            if size_bytes < VOLUME_BYTES_MIN:
                raise VolumeStoreError(f"volume {name} needs at least {VOLUME_BYTES_MIN} bytes")
            self.disks.setdefault(name, MemoryDisk(size_bytes))
            return {"type": "ext4", "device": f"/memory/{name}.dev"}

        return await self._call("create_disk", name, do)

    async def resize(self, name: str, size_bytes: int) -> None:
        def do() -> None:
            disk = self.disks.get(name)
            if disk is None:
                raise VolumeStoreError(f"there is no volume {name}")
            if size_bytes < VOLUME_BYTES_MIN:
                raise VolumeStoreError(f"volume {name} needs at least {VOLUME_BYTES_MIN} bytes")
            shrinks = size_bytes < disk.size_bytes
            if size_bytes != disk.size_bytes and disk.mounted and (shrinks or not self.online):
                raise VolumeStoreError(f"volume {name} is in use: stop its containers first")
            if size_bytes < disk.used_bytes:
                raise VolumeBelowUsed(
                    f"volume {name} cannot shrink to {size_bytes} bytes:"
                    f" its data needs {disk.used_bytes}"
                )
            disk.size_bytes = size_bytes

        await self._call("resize_disk", name, do)

    async def remove(self, name: str) -> None:
        def do() -> None:
            disk = self.disks.get(name)
            if disk is not None and disk.mounted:
                raise VolumeStoreError(f"volume {name} is still mounted")
            self.disks.pop(name, None)

        await self._call("remove_disk", name, do)

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
