"""Running the tools of disks and file systems, off the event loop and within a time limit."""

import asyncio
import os
import re
import shutil
from codecs import getincrementaldecoder
from collections.abc import Callable

from service.errors import VolumeStoreError

OnText = Callable[[str], None]
"""Hears each piece of what a tool writes, as it comes."""

TOOL_TIMEOUT_S = 3600.0
"""e2fsck and resize2fs read and move data: minutes for terabytes. An hour is a hang."""

_PACKAGES = {
    "losetup": "mount",
    "mount": "mount",
    "unshare": "util-linux",
    "mkfs.xfs": "xfsprogs",
    "xfs_growfs": "xfsprogs",
    "btrfs": "btrfs-progs",
    "rm": "coreutils",
}
"""Debian's package of a tool; that of all others is e2fsprogs."""

# A service's PATH often lacks the sbin folders, where Debian keeps most of these.
_PATH = os.pathsep.join((os.defpath, "/usr/sbin", "/sbin", "/usr/local/sbin"))

_READ_BYTES = 1 << 16
_WORDS_MAX = 1000
_PROGRESS = re.compile(r"^\d \d+ \d+ /\S+$|-{20,}[\bX]*|\x08", re.MULTILINE)
"""What e2fsck -C and resize2fs -p write for a bar; in an error's text it would hide the words."""


def find_tool(tool: str) -> str | None:
    """The path of a tool, looked for on our PATH and in the sbin folders."""
    return shutil.which(tool) or shutil.which(tool, path=_PATH)


def missing_tools(*tools: str) -> str:
    """What is missing of these, and how people get it; empty when nothing is."""
    missing = [tool for tool in tools if find_tool(tool) is None]
    if not missing:
        return ""
    packages = sorted({_package(tool) for tool in missing})
    return f"sized volumes need {', '.join(missing)}: install {' and '.join(packages)}"


def _package(tool: str) -> str:
    return _PACKAGES.get(tool, "e2fsprogs")


async def run_tool(
    tool: str, *arguments: str, rc_max: int = 0, on_text: OnText | None = None
) -> str:
    """Run to the end and return what it wrote, stdout and stderr together, in English.

    Raises VolumeStoreError with the tool's own words when it is missing, ends with more than
    `rc_max` or takes over an hour. Cancelling waits for the tool first: one that is killed half
    way leaves work to undo.
    """
    path = find_tool(tool)
    if path is None:
        raise VolumeStoreError(f"{tool} is not installed (Debian: {_package(tool)})")
    process = await asyncio.create_subprocess_exec(
        path,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": _PATH, "LC_ALL": "C"},
    )
    # Read to its end whatever becomes of us: a tool whose pipe is full would never end.
    ended = asyncio.create_task(_read(process, on_text))
    try:
        async with asyncio.timeout(TOOL_TIMEOUT_S):
            text = await asyncio.shield(ended)
    except TimeoutError as error:
        process.kill()
        await ended
        raise VolumeStoreError(f"{tool} {' '.join(arguments)} did not end in an hour") from error
    except asyncio.CancelledError:
        await ended
        raise
    if process.returncode is None or not 0 <= process.returncode <= rc_max:
        said = " ".join(_PROGRESS.sub(" ", text).split())[-_WORDS_MAX:] or "no words"
        raise VolumeStoreError(f"{tool} ended with {process.returncode}: {said}")
    return text


async def _read(process: asyncio.subprocess.Process, on_text: OnText | None) -> str:
    """All that the tool writes, until it has ended."""
    assert process.stdout is not None
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    pieces: list[str] = []
    while read := await process.stdout.read(_READ_BYTES):
        pieces.append(decoder.decode(read))
        if on_text is not None:
            on_text(pieces[-1])
    await process.wait()
    return "".join(pieces)
