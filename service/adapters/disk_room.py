"""Is there room to begin with on a disk? Found out by taking it: so quotas count, too."""

import os
import tempfile
from pathlib import Path

ROOM_BYTES = 8 << 20
"""For a new file of the ledger's store, the next rows of the read store and their logs."""


def take_room(folder: Path) -> None:
    """Take ROOM_BYTES in a folder and give them back. Blocks; raises OSError, as the disk does."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
