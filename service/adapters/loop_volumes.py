"""LoopVolumes: sized disks as image files behind loop devices, with ext4 or xfs in them.

For the volume `bar` the folder holds

    bar.img        the sparse image; its length is the volume's size
    bar.dev        a symlink to its loop device, which is what Docker's local driver mounts:
                   loop numbers change with every reboot, the symlink's path never does
    bar.img.part   the image while it is being made
    bar.img.undo   what takes a resize back, while one is at work on an ext4 that is not mounted

The files are the only state, and every operation is a list of steps each of which looks whether
it is already done: after a crash anywhere, the same call again finishes the work.
"""

import asyncio
import errno
import os
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from events.values import show_size
from service.adapters import loop_devices
from service.adapters.loop_ext4 import EXT4
from service.adapters.loop_file_system import HEAD_BYTES, LoopFileSystem
from service.adapters.loop_progress import ShrinkProgress
from service.adapters.loop_tools import missing_tools
from service.adapters.loop_xfs import XFS
from service.adapters.private_folder import make_private_folder
from service.adapters.volume_space import DiskSpace, require_name, sync_folder, whole_blocks
from service.disk_ports import OnProgress, Resizes, StoredDisk
from service.errors import VolumeStoreError
from service.ports import Progress

FileSystemKind = Literal["ext4", "xfs"]

_FILE_SYSTEMS: Mapping[FileSystemKind, LoopFileSystem] = {"ext4": EXT4, "xfs": XFS}


class LoopVolumes:
    """The port `VolumeStore` on this host's loop devices. Needs root.

    `file_system` is made in new volumes; one that is there stays what it is. With `over_commit`
    (the default) images are sparse, so all volumes together may be larger than the disk; without
    it a volume's space is set aside when it is made or grown. `free_bytes_min`: see `DiskSpace`.
    """

    def __init__(
        self,
        folder: Path,
        file_system: FileSystemKind = "ext4",
        *,
        over_commit: bool = True,
        free_bytes_min: int | None = None,
    ) -> None:
        self._folder = folder
        self._made = _FILE_SYSTEMS[file_system]
        self._space = DiskSpace(folder, over_commit, free_bytes_min)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def probe(self) -> tuple[bool, str]:
        """Tried with the least file system: the kernel, the tools and the rights must do."""
        if os.geteuid() != 0:
            return False, "sized volumes need root (loop devices): run the service as root"
        if missing := missing_tools("losetup", *self._made.tools):
            return False, missing
        trial = self._folder / ".probe"
        try:
            make_private_folder(self._folder)
            await asyncio.to_thread(_write_sparse, trial, self._made.size_bytes_min)
            await self._made.make(trial)
            device = await loop_devices.attach(trial)
            try:
                await self._made.measure(device)
            finally:
                await loop_devices.detach(device)
            trial.unlink()
        except (OSError, VolumeStoreError) as error:
            return False, f"{self._made.kind} on loop devices does not work here: {error}"
        where = f"{self._made.kind} on loop devices under {self._folder}"
        return True, f"{where}, {self._space.words()}"

    async def resizes_mounted(self, name: str) -> Resizes:
        file_system = self._made
        async with self._locked(name):
            if self._image(name).exists():
                file_system = await asyncio.to_thread(_file_system_in, self._image(name))
        return Resizes(file_system.grows_online(), not file_system.shrinks)

    async def create(self, name: str, size_bytes: int) -> Mapping[str, str]:
        """`size_bytes` is rounded up to whole blocks. A disk found made keeps its size."""
        async with self._locked(name):
            if not self._image(name).exists():
                size_bytes = _checked_size(name, size_bytes, self._made)
                self._space.require(name, size_bytes)
                await self._build(name, size_bytes)
            await self._attach(name)
            file_system = await asyncio.to_thread(_file_system_in, self._image(name))
        return {"type": file_system.kind, "device": str(self._link(name))}

    async def resize(self, name: str, size_bytes: int, on_progress: OnProgress) -> None:
        async with self._locked(name):
            if not self._image(name).exists():
                raise VolumeStoreError(f"there is no volume {name} under {self._folder}")
            file_system = await asyncio.to_thread(_file_system_in, self._image(name))
            size_bytes = _checked_size(name, size_bytes, file_system)
            device = await self._attach(name)
            if self._undo(name).exists():
                raise VolumeStoreError(
                    f"volume {name} is in use, and its last change of size was interrupted:"
                    " stop its containers first"
                )
            found = await file_system.measure(device)
            if size_bytes < found.size_bytes:
                progress = ShrinkProgress(found.size_bytes, on_progress)
                await self._shrink(name, device, size_bytes, file_system, progress)
                return
            if found.size_bytes_max is not None and size_bytes > found.size_bytes_max:
                raise VolumeStoreError(
                    f"volume {name} can grow to {show_size(found.size_bytes_max)} at most,"
                    " as it was made so small: make a new volume for more"
                )
            grows = size_bytes > found.size_bytes
            await self._grow(name, device, size_bytes, file_system, grows=grows)
            on_progress(Progress(size_bytes, size_bytes))

    async def remove(self, name: str) -> None:
        """Raises VolumeStoreError while something still has the disk mounted."""
        async with self._locked(name):
            image = self._image(name)
            devices = await loop_devices.devices_of(image) if image.exists() else []
            for device in devices:
                if await loop_devices.stays_in_use(device):
                    raise VolumeStoreError(
                        f"volume {name} is still mounted: remove its containers first"
                    )
            # The image goes last: as long as it is there, a second try knows what is left to do.
            self._link(name).unlink(missing_ok=True)
            for device in devices:
                await loop_devices.detach(device)
            self._part(name).unlink(missing_ok=True)
            self._undo(name).unlink(missing_ok=True)
            image.unlink(missing_ok=True)
            if self._folder.exists():
                await asyncio.to_thread(sync_folder, self._folder)

    async def list_disks(self) -> tuple[StoredDisk, ...]:
        try:
            return await asyncio.to_thread(self._list)
        except OSError as error:
            raise VolumeStoreError(f"volumes under {self._folder}: {error}") from error

    async def attach_all(self) -> None:
        """One broken disk does not keep the others from theirs; the error names all broken.

        Images that were never finished are removed, resizes that were interrupted taken back.
        """
        failures = []
        for file in sorted(self._folder.glob("*.img*")):
            name, _, rest = file.name.rpartition(".img")
            try:
                async with self._locked(name):
                    if rest == ".part":
                        file.unlink(missing_ok=True)
                    elif not rest:
                        await self._attach(name)
            except VolumeStoreError as error:
                failures.append(f"{name}: {error}")
        if failures:
            raise VolumeStoreError("volumes without a device: " + "; ".join(failures))

    def _list(self) -> tuple[StoredDisk, ...]:
        images = sorted(self._folder.glob("*.img"))
        return tuple(StoredDisk(i.stem, i.stat().st_blocks * 512) for i in images)

    async def _build(self, name: str, size_bytes: int) -> None:
        """Make the image under another name, so that one with the right name is complete."""
        part = self._part(name)
        await asyncio.to_thread(_write_sparse, part, size_bytes)
        await self._made.make(part)
        try:
            await self._fill(part, size_bytes)
        except OSError:
            part.unlink()
            raise
        await asyncio.to_thread(_sync_file, part)
        part.rename(self._image(name))
        await asyncio.to_thread(sync_folder, self._folder)

    async def _attach(self, name: str) -> str:
        """Give the image its one loop device and the symlink to it; return the device."""
        image = self._image(name)
        device = await loop_devices.attach(image)
        if self._undo(name).exists():
            file_system = await asyncio.to_thread(_file_system_in, image)
            await file_system.take_back(device, self._undo(name))
        link = self._link(name)
        if not link.is_symlink() or os.readlink(link) != device:
            fresh = link.with_name(link.name + ".part")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(device)
            fresh.rename(link)
        return device

    async def _grow(
        self, name: str, device: str, size_bytes: int, file_system: LoopFileSystem, *, grows: bool
    ) -> None:
        """`grows` is False when only the file and device must follow, after a crash."""
        image = self._image(name)
        mounted = loop_devices.in_use(device)
        if grows and mounted and not file_system.grows_online():
            mounted = await loop_devices.stays_in_use(device)
        if grows and mounted and not file_system.grows_online():
            raise VolumeStoreError(
                f"volume {name} is in use, and growing it mounted needs CAP_SYS_RESOURCE:"
                " stop its containers first, or give the service that capability"
            )
        length_before = image.stat().st_size
        if size_bytes > length_before:
            self._space.require(name, size_bytes - image.stat().st_blocks * 512)
        await asyncio.to_thread(_set_length, image, size_bytes)
        try:
            await self._fill(image, size_bytes)
        except OSError:
            # Else what was set aside before the disk was full would stay so.
            await asyncio.to_thread(_set_length, image, length_before)
            raise
        await loop_devices.follow_length(device, image)
        if grows:
            await file_system.grow(device, self._undo(name), mounted=mounted)

    async def _shrink(
        self,
        name: str,
        device: str,
        size_bytes: int,
        file_system: LoopFileSystem,
        progress: ShrinkProgress,
    ) -> None:
        if file_system.shrinks and await loop_devices.stays_in_use(device):
            raise VolumeStoreError(f"volume {name} is in use: stop its containers to shrink it")
        await file_system.shrink(name, device, self._undo(name), size_bytes, progress)
        # Only now, after success: a shorter file under a longer file system cannot be mounted.
        await asyncio.to_thread(_set_length, self._image(name), size_bytes)
        await loop_devices.follow_length(device, self._image(name))
        progress.end()

    async def _fill(self, file: Path, size_bytes: int) -> None:
        """Set the file's space aside, unless volumes may promise more than there is."""
        if self._space.over_commit:
            return
        await asyncio.to_thread(_set_aside, file, size_bytes)

    @asynccontextmanager
    async def _locked(self, name: str) -> AsyncIterator[None]:
        """One operation per volume at a time; what the disk has to say becomes our error."""
        require_name(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                yield
            except OSError as error:
                if error.errno == errno.EFBIG:
                    text = f"the file system of {self._folder} takes no file so large; ask for less"
                    raise VolumeStoreError(f"volume {name}: {text}") from error
                raise VolumeStoreError(f"volume {name}: {error}") from error

    def _image(self, name: str) -> Path:
        return self._folder / f"{name}.img"

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}.img.part"

    def _undo(self, name: str) -> Path:
        return self._folder / f"{name}.img.undo"

    def _link(self, name: str) -> Path:
        return self._folder / f"{name}.dev"


def _file_system_in(image: Path) -> LoopFileSystem:
    """By what is in it: a setting that changed changes no volume that is there."""
    with image.open("rb") as handle:
        head = handle.read(HEAD_BYTES)
    for file_system in _FILE_SYSTEMS.values():
        if file_system.is_in(head):
            return file_system
    raise VolumeStoreError(f"{image} holds neither {' nor '.join(_FILE_SYSTEMS)}")


def _checked_size(name: str, size_bytes: int, file_system: LoopFileSystem) -> int:
    return whole_blocks(name, size_bytes, file_system.size_bytes_min, file_system.kind)


def _write_sparse(file: Path, length: int) -> None:
    with file.open("wb") as handle:
        handle.truncate(length)


def _set_length(file: Path, length: int) -> None:
    with file.open("r+b") as handle:
        if os.fstat(handle.fileno()).st_size != length:
            handle.truncate(length)
            os.fsync(handle.fileno())


def _set_aside(file: Path, length: int) -> None:
    with file.open("r+b") as handle:
        os.posix_fallocate(handle.fileno(), 0, length)


def _sync_file(file: Path) -> None:
    with file.open("r+b") as handle:
        os.fsync(handle.fileno())
