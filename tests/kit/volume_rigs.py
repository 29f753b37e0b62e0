"""The volume contract's set-up: stores of disks, and their use as a container would."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from service.adapters.btrfs_limits import BtrfsLimits
from service.adapters.folder_volumes import FolderVolumes
from service.adapters.loop_volumes import FileSystemKind, LoopVolumes
from service.disk_ports import VolumeStore
from service.ports import Progress
from tests.kit.data_roots import make_file_system
from tests.kit.memory_volumes import MemoryVolumes

MB = 1 << 20


class VolumeRig(Protocol):
    """A store, and a way to use its disks as a container would."""

    @property
    def store(self) -> VolumeStore: ...

    @property
    def scale(self) -> int:
        """How many times larger than elsewhere its disks have to be."""
        ...

    @property
    def shrinks(self) -> bool:
        """Can a disk be made smaller at all?"""
        ...

    async def mount(self, name: str) -> None: ...
    async def unmount(self, name: str) -> None: ...
    async def write(self, name: str, content: bytes) -> None:
        """Into the one file of a mounted disk."""
        ...

    async def read(self, name: str) -> bytes: ...
    async def allocate(self, name: str, length: int) -> None:
        """Make the one file of a mounted disk this long, with all its space taken."""
        ...

    async def size_bytes(self, name: str) -> int: ...
    async def reboot(self) -> None:
        """Every disk loses its device."""
        ...


def no_progress(_: Progress) -> None:
    """For a resize whose progress nobody watches."""


@dataclass
class MemoryRig:
    store: MemoryVolumes
    scale: int = 1
    shrinks: bool = True

    async def mount(self, name: str) -> None:
        assert self.store.disks[name].attached
        self.store.disks[name].mounted = True

    async def unmount(self, name: str) -> None:
        self.store.disks[name].mounted = False

    async def write(self, name: str, content: bytes) -> None:
        self.store.disks[name].files["file"] = content

    async def read(self, name: str) -> bytes:
        return self.store.disks[name].files["file"]

    async def allocate(self, name: str, length: int) -> None:
        await self.write(name, bytes(length))

    async def size_bytes(self, name: str) -> int:
        return self.store.disks[name].size_bytes

    async def reboot(self) -> None:
        for disk in self.store.disks.values():
            disk.attached = disk.mounted = False


@dataclass
class MountedRig:
    """Disks that are mounted for real, `v-1` on `v-1.mnt` in the folder."""

    folder: Path
    points: list[Path] = field(default_factory=list)

    def file(self, name: str) -> Path:
        """The one file of a mounted disk."""
        return self.point(name) / "file"

    def point(self, name: str) -> Path:
        return self.folder / f"{name}.mnt"

    async def mount_as(self, name: str, *arguments: str) -> None:
        point = self.point(name)
        await asyncio.to_thread(point.mkdir, exist_ok=True)
        await run("mount", *arguments, str(point))
        self.points.append(point)

    async def unmount(self, name: str) -> None:
        await run("umount", str(self.point(name)))
        self.points.remove(self.point(name))

    async def unmount_all(self) -> None:
        while self.points:
            await run("umount", str(self.points.pop()))

    async def write(self, name: str, content: bytes) -> None:
        await asyncio.to_thread(self.file(name).write_bytes, content)

    async def read(self, name: str) -> bytes:
        return await asyncio.to_thread(self.file(name).read_bytes)

    async def allocate(self, name: str, length: int) -> None:
        def take() -> None:
            with self.file(name).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, length)

        await asyncio.to_thread(take)


@dataclass(kw_only=True)
class LoopRig(MountedRig):
    store: LoopVolumes
    kind: FileSystemKind = "ext4"

    @property
    def scale(self) -> int:
        return 20 if self.kind == "xfs" else 1

    @property
    def shrinks(self) -> bool:
        return self.kind == "ext4"

    async def mount(self, name: str) -> None:
        await self.mount_as(name, "-t", self.kind, str(self.folder / f"{name}.dev"))

    async def size_bytes(self, name: str) -> int:
        return (self.folder / f"{name}.img").stat().st_size

    async def reboot(self) -> None:
        for image in self.folder.glob("*.img"):
            for device in (await devices(image)).split():
                await run("losetup", "-d", device)

    async def clear(self) -> None:
        """Leave no mount and no loop device behind."""
        await self.unmount_all()
        await self.reboot()


@dataclass(kw_only=True)
class BtrfsRig(MountedRig):
    """Its file system is in an image beside the mount point `disk`."""

    store: FolderVolumes
    disk: Path
    scale: int = 1
    shrinks: bool = True

    async def mount(self, name: str) -> None:
        await self.mount_as(name, "--bind", str(self.folder / name / "data"))

    async def size_bytes(self, name: str) -> int:
        return (await BtrfsLimits().usage(self.folder / name)).limit_bytes or 0

    async def reboot(self) -> None:
        await self.unmount_all()
        await run("umount", str(self.disk))
        await run("mount", "-o", "loop", str(self.disk.with_suffix(".img")), str(self.disk))


@asynccontextmanager
async def loop_rig_in(folder: Path, kind: FileSystemKind = "ext4") -> AsyncIterator[LoopRig]:
    """A store in this folder, gone at the end; skips the test where there can be none."""
    rig = LoopRig(folder, store=LoopVolumes(folder, kind), kind=kind)
    works, why_not = await rig.store.probe()
    if not works:
        pytest.skip(why_not)
    try:
        yield rig
    finally:
        await rig.clear()


@asynccontextmanager
async def btrfs_rig_in(folder: Path) -> AsyncIterator[BtrfsRig]:
    """A store on a btrfs of its own, gone at the end; skips the test where there can be none."""
    disk = folder / "btrfs"
    async with mounted(disk, "btrfs"):
        volumes = disk / "volumes"
        rig = BtrfsRig(volumes, store=FolderVolumes(volumes, BtrfsLimits()), disk=disk)
        works, why_not = await rig.store.probe()
        if not works:
            pytest.skip(why_not)
        try:
            yield rig
        finally:
            await rig.unmount_all()


@asynccontextmanager
async def mounted(point: Path, kind: str) -> AsyncIterator[None]:
    """A new file system there, gone at the end; skips the test without root or the tool."""
    if os.geteuid() != 0 or shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"to mount {kind} takes root and mkfs.{kind}")
    await asyncio.to_thread(make_file_system, point, kind)
    try:
        yield
    finally:
        await run("umount", str(point))


async def run(*command: str) -> str:
    """A command's stdout; CalledProcessError when it fails."""
    done = await asyncio.to_thread(
        subprocess.run, command, check=True, capture_output=True, text=True
    )
    return str(done.stdout)


async def devices(image: Path) -> str:
    """The loop devices behind which the file is, a line each."""
    return await run("losetup", "--noheadings", "--output", "NAME", "--associated", str(image))
