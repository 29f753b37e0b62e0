"""What the ledger server's own log says. These functions block: run them in a thread."""

import os
from pathlib import Path

_WRITE_FAILED = b"ritical write error"
"""Of the first write that failed: nats-server 2.15.1 writes "Critical" and "critical"."""

_TAIL_BYTES = 1 << 20


def write_failed(path: Path, begin: int) -> bool:
    """Does the log say, from this byte on, that the server has failed to write?

    A log that cannot be read says nothing.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if begin > size:  # the server has begun a new file
                begin = 0
            file.seek(max(begin, size - _TAIL_BYTES))
            return _WRITE_FAILED in file.read()
    except OSError:
        return False


def last_line(path: Path) -> str:
    """The last line, for people."""
    lines = path.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "it wrote no log"
