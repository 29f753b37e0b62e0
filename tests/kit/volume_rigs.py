"""The volume contract's set-up: stores of disks, and their use as a container would."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from service.adapters.loop_volumes import LoopVolumes
from service.ports import VolumeStore
from tests.kit.memory_volumes import MemoryVolumes


class VolumeRig(Protocol):
    """A store, and a way to use its disks as a container would."""

    @property
    def store(self) -> VolumeStore: ...

    async def mount(self, name: str) -> None: ...
    async def unmount(self, name: str) -> None: ...
    async def write(self, name: str, content: bytes) -> None:
        """Into the one file of a mounted disk."""
        ...

    async def read(self, name: str) -> bytes: ...
    async def size_bytes(self, name: str) -> int: ...
    async def reboot(self) -> None:
        """Every disk loses its device."""
        ...


@dataclass
class MemoryRig:
    store: MemoryVolumes

    async def mount(self, name: str) -> None:
        assert self.store.disks[name].attached
        self.store.disks[name].mounted = True

    async def unmount(self, name: str) -> None:
        self.store.disks[name].mounted = False

    async def write(self, name: str, content: bytes) -> None:
        self.store.disks[name].files["file"] = content

    async def read(self, name: str) -> bytes:
        return self.store.disks[name].files["file"]

    async def size_bytes(self, name: str) -> int:
        return self.store.disks[name].size_bytes

    async def reboot(self) -> None:
        for disk in self.store.disks.values():
            disk.attached = disk.mounted = False


@dataclass
class LoopRig:
    store: LoopVolumes
    folder: Path

    async def mount(self, name: str) -> None:
        point = self.folder / f"{name}.mnt"
        point.mkdir(exist_ok=True)
        await run("mount", "-t", "ext4", str(self.folder / f"{name}.dev"), str(point))

    async def unmount(self, name: str) -> None:
        await run("umount", str(self.folder / f"{name}.mnt"))

    async def write(self, name: str, content: bytes) -> None:
        await asyncio.to_thread((self.folder / f"{name}.mnt" / "file").write_bytes, content)

    async def read(self, name: str) -> bytes:
        return await asyncio.to_thread((self.folder / f"{name}.mnt" / "file").read_bytes)

    async def size_bytes(self, name: str) -> int:
        return (self.folder / f"{name}.img").stat().st_size

    async def reboot(self) -> None:
        for image in self.folder.glob("*.img"):
            for device in (await devices(image)).split():
                await run("losetup", "-d", device)

    async def clear(self) -> None:
        """Leave no mount and no loop device behind."""
        for point in self.folder.glob("*.mnt"):
            if point.is_mount():
                await run("umount", str(point))
        await self.reboot()


@asynccontextmanager
async def loop_rig_in(folder: Path) -> AsyncIterator[LoopRig]:
    """A store in this folder, gone at the end; skips the test where there can be none."""
    rig = LoopRig(LoopVolumes(folder), folder)
    works, why_not = await rig.store.probe()
    if not works:
        pytest.skip(why_not)
    try:
        yield rig
    finally:
        await rig.clear()


async def run(*command: str) -> str:
    """A command's stdout; CalledProcessError when it fails."""
    done = await asyncio.to_thread(
        subprocess.run, command, check=True, capture_output=True, text=True
    )
    return str(done.stdout)


async def devices(image: Path) -> str:
    """The loop devices behind which the file is, a line each."""
    return await run("losetup", "--noheadings", "--output", "NAME", "--associated", str(image))
