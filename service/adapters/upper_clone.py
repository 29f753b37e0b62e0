"""Cloning a directory as it is, by coreutils' cp.

A cp of its own process: it copies 5,000 files several times as fast as a loop in Python could,
keeps the interpreter free meanwhile, and can be stopped. What it must carry is tried out before
it is used, see upper_probe.py, because not every cp does (uutils', BusyBox's).
"""

import asyncio
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from service.adapters.loop_tools import find_tool
from service.errors import SystemDiskError

CLONE_TIMEOUT_S = 4 * 3600.0
"""For a disk of 1 TB at 70 MB/s. Whoever waits for longer waits for nothing."""

REMOVAL_TIMEOUT_S = 3600.0
PROGRESS_PERIOD_S = 0.5
BLOCK_BYTES = 512
"""The unit of st_blocks (inode(7))."""

SIZE_SECONDS_MAX = 5.0
"""So long a tree may take to be counted: about a million files that are in memory."""

# As -a, but with extended attributes named, so that one which cannot be kept is an error
# (cp(1): `-a` keeps what it can), and without the SELinux context, which is the target's own.
CP_OPTIONS = (
    "--recursive",
    "--no-dereference",
    "--preserve=mode,ownership,timestamps,links,xattr",
    "--reflink=auto",
    "--sparse=auto",
    "--no-target-directory",
)
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
_WORDS_MAX = 1000
_CP_FAILED_AT_SOME = 1
"""With this cp ends when it went through all of it, and could not copy everything."""


def tool(name: str) -> str:
    """The path of a tool of coreutils. Raises SystemDiskError."""
    path = find_tool(name)
    if path is None:
        raise SystemDiskError(f"{name} is not installed (coreutils has it)")
    return path


async def clone(source: Path, target: Path, on_written: Callable[[int], None]) -> None:
    """Make `target`, which must not be there, the same as `source`. Raises SystemDiskError.

    `on_written` hears now and then how many bytes were copied; shared blocks are not copied.
    Cancelling ends the copying; what was made so far is left for the caller to remove.
    """
    returncode, words = await _copy(source, target, on_written)
    if returncode != 0:
        raise SystemDiskError(f"the layer could not be copied: {words}")


async def clone_in_use(source: Path, target: Path, on_written: Callable[[int], None]) -> None:
    """The same while somebody works in `source`: what vanishes or changes meanwhile may be missing.

    Raises SystemDiskError when cp did not go through all of it. Which files it failed at does not
    matter: who asks for this compares the two afterwards.
    """
    returncode, words = await _copy(source, target, on_written)
    if returncode not in (0, _CP_FAILED_AT_SOME):
        raise SystemDiskError(f"the layer could not be copied: {words}")


async def sync_disk(path: Path) -> None:
    """Have on the disk all that was written to the file system of `path`. Raises SystemDiskError.

    Cancelling may have to wait for the disk.
    """
    returncode, words = await _run_to_end(
        (tool("sync"), "--file-system", "--", str(path)), lambda _: None
    )
    if returncode != 0:
        raise SystemDiskError(f"the disk of {path} could not be synced: {words}")


async def _copy(source: Path, target: Path, on_written: Callable[[int], None]) -> tuple[int, str]:
    return await _run_to_end(
        (tool("cp"), *CP_OPTIONS, "--", str(source), str(target)),
        lambda pid: on_written(_written_bytes(pid)),
    )


async def _run_to_end(command: Sequence[str], look: Callable[[int], None]) -> tuple[int, str]:
    """The exit code and the words of a command; `look` sees its pid now and then.

    Cancelling kills it. Raises SystemDiskError when it takes longer than CLONE_TIMEOUT_S.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=_ENVIRONMENT,
    )
    ended = asyncio.create_task(process.communicate())
    try:
        async with asyncio.timeout(CLONE_TIMEOUT_S):
            while not (await asyncio.wait({ended}, timeout=PROGRESS_PERIOD_S))[0]:
                look(process.pid)
    except TimeoutError as error:
        words = f"{' '.join(command)} did not end in {CLONE_TIMEOUT_S:g} s"
        raise SystemDiskError(words) from error
    finally:
        if not ended.done():
            process.kill()
        _, said = await ended
    returncode = process.returncode or 0
    return returncode, said.decode(errors="replace").strip()[:_WORDS_MAX] or f"rc {returncode}"


def clone_now(source: Path, target: Path) -> None:
    """The same for a small tree; it blocks."""
    _run("cp", *CP_OPTIONS, "--", str(source), str(target))


def discard(path: Path) -> None:
    """Remove a tree; one that is not there is success. It blocks. Raises SystemDiskError.

    By rm, which goes as deep as a tree may be.
    """
    if os.path.lexists(path):
        _run("rm", "--recursive", "--force", "--one-file-system", "--", str(path))


def size_on_disk(top: Path) -> int | None:
    """Bytes of all blocks in a tree, a file with several names once; it blocks.

    None when that is not known within SIZE_SECONDS_MAX. Blocks that are shared with other trees
    by reflink count like any others, and so do files that other trees have names for as well.
    What vanishes meanwhile does not count. Raises OSError when `top` is not there.
    """
    deadline = time.monotonic() + SIZE_SECONDS_MAX
    blocks = os.lstat(top).st_blocks
    linked: set[int] = set()
    folders = [os.fsencode(top)]
    try:
        while folders:
            for path, seen in _entries(folders.pop()):
                if stat.S_ISDIR(seen.st_mode):
                    folders.append(path)
                elif seen.st_nlink > 1:
                    if seen.st_ino in linked:
                        continue
                    linked.add(seen.st_ino)
                blocks += seen.st_blocks
            if time.monotonic() > deadline:
                return None
    except OSError:
        return None
    return blocks * BLOCK_BYTES


def _entries(folder: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """What is in a directory and still there when it is looked at."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                seen = entry.stat(follow_symlinks=False)
                yield entry.path, seen


def _run(name: str, *arguments: str) -> None:
    try:
        subprocess.run(
            [tool(name), *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=_ENVIRONMENT,
            timeout=REMOVAL_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip()[:_WORDS_MAX]
        raise SystemDiskError(f"{name} ended with {error.returncode}: {words}") from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise SystemDiskError(f"{name} did not work: {error}") from error


def _written_bytes(pid: int) -> int:
    """What a process has written by itself or with copy_file_range (proc(5), io: wchar)."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0  # it has ended, or the kernel does not count
    counts = dict(line.split(": ") for line in lines)
    return int(counts.get("wchar", 0))
