"""Running util-linux and e2fsprogs, off the event loop's path and within a time limit."""

import asyncio
import os
import shutil

from service.errors import VolumeStoreError

TOOLS = ("losetup", "mkfs.ext4", "resize2fs", "e2fsck", "dumpe2fs")

TOOL_TIMEOUT_S = 3600.0
"""e2fsck and resize2fs read and move data: minutes for terabytes. An hour is a hang."""

# A service's PATH often lacks the sbin folders, where Debian keeps all of these.
_PATH = os.pathsep.join((os.defpath, "/usr/sbin", "/sbin", "/usr/local/sbin"))


def find_tool(tool: str) -> str | None:
    """The path of a tool, looked for on our PATH and in the sbin folders."""
    return shutil.which(tool) or shutil.which(tool, path=_PATH)


async def run_tool(tool: str, *arguments: str, rc_max: int = 0) -> str:
    """Run to the end and return what it wrote, stdout and stderr together, in English.

    Raises VolumeStoreError with the tool's own words when it is missing, ends with more than
    `rc_max` or takes over an hour. Cancelling waits for the tool first: a resize2fs that is
    killed half way can cost data.
    """
    path = find_tool(tool)
    if path is None:
        raise VolumeStoreError(f"{tool} is not installed (e2fsprogs and mount have it)")
    process = await asyncio.create_subprocess_exec(
        path,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": _PATH, "LC_ALL": "C"},
    )
    try:
        async with asyncio.timeout(TOOL_TIMEOUT_S):
            written, _ = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise VolumeStoreError(f"{tool} {' '.join(arguments)} did not end in an hour") from error
    except asyncio.CancelledError:
        await process.wait()
        raise
    text = written.decode(errors="replace")
    if process.returncode is None or not 0 <= process.returncode <= rc_max:
        said = " ".join(text.split()) or "no words"
        raise VolumeStoreError(f"{tool} ended with {process.returncode}: {said}")
    return text
