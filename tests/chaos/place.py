"""The folder of one run: everything that it makes, how it is emptied, and how it is kept.

A run that was killed itself is cleaned up after by the next one. The folder of a run that found
faults stays, with nothing running or mounted in it, until somebody removes it.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from tests.kit.engine_remains import end_processes, engine_processes, mounts_below

PREFIX = "gpuledger-chaos-"
KEPT = "kept"
"""The file that says that a folder is to be looked at by people."""
END_TIMEOUT_S = 10.0


class Place(Struct):
    """The folder, and whether it is to stay."""

    folder: Path
    keep: bool = False


@contextmanager
def place(parent: Path, seed: int) -> Iterator[Place]:
    """A new folder below `parent`; all that runs there or is mounted from there ends with it."""
    parent = parent.resolve()
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{seed}-", dir=parent))
    fd = os.open(folder, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    taken = Place(folder)
    try:
        yield taken
    finally:
        end_all(folder)
        if taken.keep:
            (folder / KEPT).touch()
        else:
            shutil.rmtree(folder)
        os.close(fd)


def loop_devices(folder: Path) -> dict[str, str]:
    """The loop devices of files below the folder: the device, and its file."""
    listed = subprocess.run(
        ["losetup", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"],
        check=True,
        capture_output=True,
        text=True,
    )
    pairs = (line.split(" ", 1) for line in listed.stdout.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2 and f"{folder}/" in pair[1]}


def processes(folder: Path) -> list[int]:
    """The services and NATS servers that work in the folder."""
    return engine_processes(folder, Path(sys.executable).name, "nats-server")


def end_all(folder: Path) -> None:
    """Look at the machine and at no notes, so that it works after a kill, too."""
    end_processes(processes(folder), signal.SIGKILL, END_TIMEOUT_S)
    for point in mounts_below(folder):
        subprocess.run(["umount", "--lazy", point], check=True)
    for device in loop_devices(folder):
        subprocess.run(["losetup", "--detach", device], check=True)


def _sweep(parent: Path) -> None:
    """Remove what runs left that were killed; those that go on hold a lock."""
    for folder in parent.glob(f"{PREFIX}*"):
        if folder.is_symlink() or (folder / KEPT).exists():
            continue
        fd = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            end_all(folder)
            shutil.rmtree(folder)
        finally:
            os.close(fd)
