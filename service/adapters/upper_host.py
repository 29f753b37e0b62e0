"""UpperHost: the engine whose layers are directories here, as UpperDisks asks and reaches it.

Everything that blocks runs in threads of its own pool, in the order that locks by name give it.
"""

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import docker
from docker.utils import parse_host
from msgspec import Struct

from service.adapters import docker_objects as objects
from service.adapters.docker_connection import DockerConnection
from service.adapters.docker_errors import FOREIGN_ERRORS, map_error
from service.adapters.upper_layers import Layer, await_unmounted, engine_pid, layer_of
from service.adapters.upper_probe import shares_blocks
from service.adapters.upper_store import Store, checked_name
from service.errors import EngineUnavailable, SystemDiskError

T = TypeVar("T")

SLICE_S = 0.1
"""So long a thread goes on with a long procedure; who cancels it waits for the slice to end."""

_UNIX = "http+unix://"
"""How docker-py writes the address of a unix socket."""


class End(Struct, Generic[T], frozen=True):
    """A procedure has come to its end, with this result."""

    result: T


class UpperHost:
    """The engine and its root directory. `base_url` and `owner` as UpperDisks takes them."""

    def __init__(
        self, base_url: str | None, *, owner: str, pool_size: int, timeout_s: float
    ) -> None:
        self.owner = owner
        self.socket_path = _socket_path(base_url)
        self._connection = DockerConnection(base_url, timeout_s, pool_size)
        self._threads = ThreadPoolExecutor(pool_size, "upper-disks")
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._root: Path | None = None
        self._shares_blocks: bool | None = None

    def close(self) -> None:
        """Let go of the connections; what is under way in threads may finish."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connection.forget()

    async def root(self) -> Path:
        """The engine's root directory, as the engine names it."""
        if self._root is None:
            named = await self.ask(lambda client: str(client.info()["DockerRootDir"]))
            self._root = Path(named)
        return self._root

    async def store(self, kept: str) -> Store:
        """Raises SystemDiskError when `kept` is no name, before anything is asked."""
        checked_name(kept)
        return Store(await self.root(), self.owner)

    async def shares_blocks(self) -> bool:
        """Do clones share blocks below the root directory?"""
        root = await self.root()
        if self._shares_blocks is None:
            self._shares_blocks = await self.in_thread(lambda: shares_blocks(root))
        return self._shares_blocks

    async def layer(self, container: str) -> Layer | None:
        """None when there is no such container. Raises SystemDiskError when it is not ours."""
        seen = await self.ask(lambda client: objects.inspect(client, container))
        return None if seen is None else layer_of(seen, self.owner)

    async def existing_layer(self, container: str) -> Layer:
        """Raises SystemDiskError when there is no such container."""
        layer = await self.layer(container)
        if layer is None:
            raise no_container(container)
        return layer

    def await_unmounted(self, layer: Layer) -> None:
        """It blocks. Raises SystemDiskError when that takes too long."""
        await_unmounted(layer.upper, engine_pid(self.socket_path or ""))

    async def ask(self, call: Callable[[docker.APIClient], T]) -> T:
        """What the engine answers; its errors are ours."""

        def work() -> T:
            try:
                return call(self._connection.client())
            except FOREIGN_ERRORS as foreign:
                error = map_error(foreign)
                if isinstance(error, EngineUnavailable):
                    # It may come back as another one, with another root.
                    self._connection.forget()
                    self._root = self._shares_blocks = None
                raise error from foreign

        return await self.in_thread(work)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """For what is done soon, or cannot be stopped."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def go_through(
        self, steps: Generator[Any, None, T], on_slice: Callable[[], object] | None = None
    ) -> T:
        """Run a long procedure to its end, slice by slice; its result.

        `on_slice` is called between slices, on the event loop. Cancelling ends the procedure
        before this returns: nothing goes on behind the back of whoever holds the locks.
        """
        try:
            while True:
                _, end = await self.go_on(steps)
                if end is not None:
                    result: T = end.result
                    return result
                if on_slice is not None:
                    on_slice()
        finally:
            steps.close()

    async def go_on(self, steps: Generator[T | None, None, Any]) -> tuple[list[T], End[Any] | None]:
        """One slice of it: what it came up with, and its end if this was the last one."""
        loop = asyncio.get_running_loop()
        slice_ = loop.run_in_executor(self._threads, lambda: _go_on(steps))
        try:
            return await asyncio.shield(slice_)
        except asyncio.CancelledError:
            await asyncio.wait({slice_})
            raise

    @asynccontextmanager
    async def locked(self, *names: str) -> AsyncIterator[None]:
        """One thing at a time with each; what the disk has to say becomes our error."""
        async with AsyncExitStack() as held:
            for name in names:  # the same order everywhere, so that nobody waits in a circle
                await held.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            try:
                yield
            except OSError as error:
                raise SystemDiskError(f"the system disk could not be carried: {error}") from error


def no_container(container: str) -> SystemDiskError:
    return SystemDiskError(f"there is no container {container}")


def _go_on(steps: Generator[T | None, None, Any]) -> tuple[list[T], End[Any] | None]:
    found: list[T] = []
    deadline = time.monotonic() + SLICE_S
    while time.monotonic() < deadline:
        try:
            step = next(steps)
        except StopIteration as end:
            return found, End(end.value)
        if step is not None:
            found.append(step)
    return found, None


def _socket_path(base_url: str | None) -> str | None:
    """None when the engine is not reached over a unix socket."""
    host = str(parse_host(base_url))
    return host.removeprefix(_UNIX) if host.startswith(_UNIX) else None
