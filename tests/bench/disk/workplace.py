"""The folder that holds everything a run makes, and how it is emptied.

One folder for all, with one name: a run that was killed is cleaned up after by the next one, and
two at the same time, which would spoil each other's figures, are refused.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.dockerd import NAME as ENGINE_NAME
from tests.kit.engine_remains import (
    end_processes,
    engine_processes,
    mounts_below,
    remove_remains,
)

FOLDER_NAME = "gpuledger-bench-disk"
END_TIMEOUT_S = 10.0


@contextmanager
def workplace(parent: Path) -> Iterator[Path]:
    """The folder, empty; it and all that runs or is mounted in it is gone afterwards.

    Ends the program, with a word on why, while another run has it.
    """
    folder = parent.resolve() / FOLDER_NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        sys.exit(f"another run works in {folder}")
    try:
        _empty(folder)
        yield folder
    finally:
        _empty(folder)
        folder.rmdir()
        os.close(fd)


def _empty(folder: Path) -> None:
    """Look at the machine and at no notes, so that it works after a kill, too."""
    services = engine_processes(folder, Path(sys.executable).name, "nats-server")
    end_processes(services, signal.SIGKILL, END_TIMEOUT_S)
    for engine in folder.glob(f"*/{ENGINE_NAME}[0-9]*"):
        remove_remains(engine.name, engine)
    for link in folder.glob("*/volumes/*.dev"):
        subprocess.run(["losetup", "--detach", link.resolve()], check=False, capture_output=True)
    for point in mounts_below(folder):
        subprocess.run(["umount", point], check=True)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
