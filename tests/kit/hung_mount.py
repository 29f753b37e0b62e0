"""A file system whose server never answers: whoever looks at something in it hangs."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_DETACH = 2
"""MNT_DETACH of umount2(2)."""


@contextmanager
def hung_mount(folder: Path) -> Iterator[None]:
    """Mount one on a folder; those who hang are let go on leaving, with an error."""
    folder.mkdir()
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
        target = os.fsencode(folder)
        if _LIBC.mount(b"hung", target, b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "mount", str(folder))
        try:
            yield
        finally:
            _LIBC.umount2(target, _DETACH)
    finally:
        os.close(server)
