"""LoopVolumes: sized disks as ext4 image files behind loop devices.

For the volume `bar-1` the folder holds

    bar-1.img        the sparse image; its length is the volume's size
    bar-1.dev        a symlink to its loop device, which is what Docker's local driver mounts:
                     loop numbers change with every reboot, the symlink's path never does
    bar-1.img.part   the image while it is being made

The files are the only state, and every operation is a list of steps each of which looks whether
it is already done: after a crash anywhere, the same call again finishes the work.
"""

import asyncio
import os
import re
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from events.values import show_size
from service.adapters.loop_devices import (
    BLOCK_BYTES,
    CAP_SYS_RESOURCE,
    check,
    devices_of,
    file_system,
    follow_length,
    has_capability,
    in_use,
    needed_bytes,
    stays_in_use,
)
from service.adapters.loop_tools import TOOLS, find_tool, run_tool
from service.errors import VolumeBelowUsed, VolumeStoreError

VOLUME_BYTES_MIN = 8 << 20
"""Below it mkfs.ext4 makes no journal, and a crash could cost data."""

FREE_BYTES_MIN = 1 << 30
FREE_PART_MIN = 0.05
"""The disk is too full when less than both of these is free; a full one stops every volume."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class LoopVolumes:
    """The port `VolumeStore` on this host's loop devices. Needs root.

    With `over_commit` (the default) images are sparse, so all volumes together may be larger
    than the disk; without it a volume's space is set aside when it is made or grown.
    """

    def __init__(self, folder: Path, *, over_commit: bool = True) -> None:
        self._folder = folder
        self._over_commit = over_commit
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def probe(self) -> tuple[bool, str]:
        if os.geteuid() != 0:
            return False, "sized volumes need root (loop devices): run the service as root"
        missing = [tool for tool in TOOLS if find_tool(tool) is None]
        if missing:
            return False, f"sized volumes need {', '.join(missing)}: install e2fsprogs and mount"
        trial = self._folder / ".probe"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(_write_sparse, trial, VOLUME_BYTES_MIN)
            device = await run_tool("losetup", "--find", "--show", "--nooverlap", str(trial))
            await run_tool("losetup", "--detach", device.strip())
            trial.unlink()
        except (OSError, VolumeStoreError) as error:
            return False, f"loop devices do not work here, load the kernel module loop: {error}"
        return True, f"loop devices under {self._folder}"

    async def grows_online(self) -> bool:
        return has_capability(CAP_SYS_RESOURCE)

    async def create(self, name: str, size_bytes: int) -> Mapping[str, str]:
        """`size_bytes` is rounded up to whole blocks. A disk found made keeps its size."""
        size_bytes = self._checked_size(name, size_bytes)
        async with self._locked(name):
            if not self._image(name).exists():
                self._require_free_space(name, size_bytes)
                await self._build(name, size_bytes)
            await self._attach(name)
        return {"type": "ext4", "device": str(self._link(name))}

    async def resize(self, name: str, size_bytes: int) -> None:
        size_bytes = self._checked_size(name, size_bytes)
        async with self._locked(name):
            if not self._image(name).exists():
                raise VolumeStoreError(f"there is no volume {name} under {self._folder}")
            device = await self._attach(name)
            found = await file_system(device)
            if size_bytes < found.size_bytes:
                await self._shrink(name, device, size_bytes)
            elif size_bytes > found.size_bytes_max:
                raise VolumeStoreError(
                    f"volume {name} can grow to {show_size(found.size_bytes_max)} at most,"
                    " as it was made so small: make a new volume for more"
                )
            else:
                await self._grow(name, device, size_bytes, size_bytes > found.size_bytes)

    async def remove(self, name: str) -> None:
        """Raises VolumeStoreError while something still has the disk mounted."""
        async with self._locked(name):
            image = self._image(name)
            devices = await devices_of(image) if image.exists() else []
            for device in devices:
                if await stays_in_use(device):
                    raise VolumeStoreError(
                        f"volume {name} is still mounted: remove its containers first"
                    )
            # The image goes last: as long as it is there, a second try knows what is left to do.
            self._link(name).unlink(missing_ok=True)
            for device in devices:
                await run_tool("losetup", "--detach", device)
            self._part(name).unlink(missing_ok=True)
            image.unlink(missing_ok=True)
            if self._folder.exists():
                await asyncio.to_thread(_sync_folder, self._folder)

    async def attach_all(self) -> None:
        """One broken disk does not keep the others from theirs; the error names all broken.

        Images that were never finished are removed.
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

    async def _build(self, name: str, size_bytes: int) -> None:
        """Make the image under another name, so that one with the right name is complete."""
        part = self._part(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_write_sparse, part, size_bytes)
        options = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"
        await run_tool(
            "mkfs.ext4", "-q", "-F", "-m", "0", "-b", str(BLOCK_BYTES), "-E", options, str(part)
        )
        try:
            await self._fill(part, size_bytes)
        except OSError:
            part.unlink()
            raise
        await asyncio.to_thread(_sync_file, part)
        part.rename(self._image(name))
        await asyncio.to_thread(_sync_folder, self._folder)

    async def _attach(self, name: str) -> str:
        """Give the image its one loop device and the symlink to it; return the device."""
        image = self._image(name)
        devices = await devices_of(image)
        if devices:
            device = devices[0]
        else:
            # --nooverlap: even in a race the file never gets a second device, which would
            # have a cache of its own and corrupt the file system.
            shown = await run_tool("losetup", "--find", "--show", "--nooverlap", str(image))
            device = shown.strip()
            # Without direct I/O every page is cached twice; not every file system can do it.
            await run_tool("losetup", "--direct-io=on", device, rc_max=1)
        await follow_length(device, image)
        link = self._link(name)
        if not link.is_symlink() or os.readlink(link) != device:
            fresh = link.with_name(link.name + ".part")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(device)
            fresh.rename(link)
        return device

    async def _grow(self, name: str, device: str, size_bytes: int, grows: bool) -> None:
        """`grows` is False when only the file and device must follow, after a crash."""
        image = self._image(name)
        mounted = in_use(device)
        if grows and mounted and not await self.grows_online():
            mounted = await stays_in_use(device)
        if grows and mounted and not await self.grows_online():
            raise VolumeStoreError(
                f"volume {name} is in use, and growing it mounted needs CAP_SYS_RESOURCE:"
                " stop its containers first, or give the service that capability"
            )
        length_before = image.stat().st_size
        if size_bytes > length_before:
            self._require_free_space(name, size_bytes - image.stat().st_blocks * 512)
        await asyncio.to_thread(_set_length, image, size_bytes)
        try:
            await self._fill(image, size_bytes)
        except OSError:
            # Else what was set aside before the disk was full would stay so.
            await asyncio.to_thread(_set_length, image, length_before)
            raise
        await follow_length(device, image)
        if not grows:
            return
        if not mounted:
            await check(device)
        await run_tool("resize2fs", device)

    async def _shrink(self, name: str, device: str, size_bytes: int) -> None:
        if await stays_in_use(device):
            raise VolumeStoreError(f"volume {name} is in use: stop its containers to shrink it")
        await check(device)
        least_bytes = await needed_bytes(device)
        if size_bytes < least_bytes:
            raise VolumeBelowUsed(
                f"volume {name} cannot shrink to {show_size(size_bytes)}:"
                f" its data needs {show_size(least_bytes)}"
            )
        await run_tool("resize2fs", device, str(size_bytes // BLOCK_BYTES))
        # Only now, after success: a shorter file under a longer file system cannot be mounted.
        await asyncio.to_thread(_set_length, self._image(name), size_bytes)
        await follow_length(device, self._image(name))

    async def _fill(self, file: Path, size_bytes: int) -> None:
        """Set the file's space aside, unless volumes may promise more than there is."""
        if self._over_commit:
            return
        await asyncio.to_thread(_set_aside, file, size_bytes)

    def _require_free_space(self, name: str, growth_bytes: int) -> None:
        """`growth_bytes`: what the disk would have to set aside, if it is to."""
        self._folder.mkdir(parents=True, exist_ok=True)
        disk = os.statvfs(self._folder)
        free_bytes = disk.f_bavail * disk.f_frsize
        needed = min(FREE_BYTES_MIN, int(disk.f_blocks * disk.f_frsize * FREE_PART_MIN))
        if not self._over_commit:
            # Asked first, not tried: an allocation that fails has filled the disk before.
            needed += growth_bytes
        if free_bytes < needed:
            raise VolumeStoreError(
                f"the disk of {self._folder} has {show_size(free_bytes)} left, too little for"
                f" volume {name}: {show_size(needed)} must be free"
            )

    def _checked_size(self, name: str, size_bytes: int) -> int:
        if size_bytes < VOLUME_BYTES_MIN:
            raise VolumeStoreError(
                f"volume {name} needs at least {show_size(VOLUME_BYTES_MIN)},"
                f" {show_size(size_bytes)} asked for"
            )
        return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES

    @asynccontextmanager
    async def _locked(self, name: str) -> AsyncIterator[None]:
        """One operation per volume at a time; what the disk has to say becomes our error."""
        if not _NAME.fullmatch(name):
            raise VolumeStoreError(f"{name!r} is no name for a volume")
        async with self._locks.setdefault(name, asyncio.Lock()):
            try:
                yield
            except OSError as error:
                raise VolumeStoreError(f"volume {name}: {error}") from error

    def _image(self, name: str) -> Path:
        return self._folder / f"{name}.img"

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}.img.part"

    def _link(self, name: str) -> Path:
        return self._folder / f"{name}.dev"


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
