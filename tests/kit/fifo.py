"""A named pipe by which another process tells a test that it has come to a point."""

import asyncio
import os
from pathlib import Path

TIMEOUT_S = 60.0


class Signal:
    """Somebody writes to the pipe at `path`, the test waits for that. Close it at the end."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        # For writing too, so that reading never meets an end while no writer is there.
        self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    async def wait(self) -> None:
        """Raises TimeoutError when nothing comes."""
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_reader(self._descriptor, came.set)
        try:
            await asyncio.wait_for(came.wait(), TIMEOUT_S)
        finally:
            loop.remove_reader(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
