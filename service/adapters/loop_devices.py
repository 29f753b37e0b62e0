"""A loop device: behind which file it is, how long it is, and whether anything uses it."""

import asyncio
import errno
import os
from pathlib import Path

from service.adapters.loop_tools import run_tool

SETTLES_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.02


async def devices_of(image: Path) -> list[str]:
    """The loop devices behind which the file is."""
    shown = await run_tool(
        "losetup", "--noheadings", "--raw", "--output", "NAME", "--associated", str(image)
    )
    return shown.split()


async def attach(image: Path) -> str:
    """Give the file its one loop device, or find it given; return the device."""
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
    return device


async def detach(device: str) -> None:
    """Take the file from behind the device."""
    await run_tool("losetup", "--detach", device)


async def follow_length(device: str, image: Path) -> None:
    """Let the device be as long as its file is now."""
    if _device_bytes(device) != _length(image):
        await run_tool("losetup", "--set-capacity", device)


def in_use(device: str) -> bool:
    """Is it mounted in any mount namespace, a container's or dockerd's own included?

    The kernel's answer: a mounted block device cannot be opened exclusively. Mount tables
    would only tell about our own namespace.
    """
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL))
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return True
    return False


async def stays_in_use(device: str) -> bool:
    """Is it in use, and not only for a moment?

    A container that starts elsewhere copies the mounts that it finds into its own namespace, and
    so keeps a device busy for some milliseconds after it was unmounted.
    """
    for _ in range(int(SETTLES_WITHIN_S / _LOOK_EVERY_S)):
        if not in_use(device):
            return False
        await asyncio.sleep(_LOOK_EVERY_S)
    return in_use(device)


def _length(file: Path) -> int:
    return file.stat().st_size


def _device_bytes(device: str) -> int:
    """The kernel counts in sectors of 512 bytes here, whatever the device's own are."""
    return int(Path(f"/sys/block/{os.path.basename(device)}/size").read_text()) * 512
