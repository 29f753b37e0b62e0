"""A folder with users' data, for its owner only, whoever may read the folder around it."""

import os
import stat
from pathlib import Path

_PRIVATE = 0o700


def make_private_folder(folder: Path) -> None:
    """Make it, and the folders around it; one that is there is closed to others. Blocks. Raises
    OSError."""
    folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & ~_PRIVATE:
        folder.chmod(_PRIVATE)
