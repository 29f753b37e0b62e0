"""UpperDisks: containers' own layers, kept and carried as the directories that they are.

For a local engine with the storage driver overlay2, by a service with root's rights. A layer
holds exactly what the container changed, deletions included (overlayfs keeps them as devices and
attributes), so moving it costs a rename, and cloning it costs what was changed, or nothing where
the file system shares blocks. The image is not touched.

Nothing is done to a container that another installation made, that runs, or whose layer is
mounted. What lies where, and what a crash leaves, is in upper_store.py.
"""

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import docker
from docker.utils import parse_host

from service.adapters import docker_objects as objects
from service.adapters.docker_connection import DockerConnection
from service.adapters.docker_errors import FOREIGN_ERRORS, map_error
from service.adapters.upper_clone import clone
from service.adapters.upper_layers import Layer, await_unmounted, engine_pid, layer_of
from service.adapters.upper_probe import probe
from service.adapters.upper_store import Store, checked_name, run_all
from service.errors import EngineUnavailable, SystemDiskError
from service.ports import DiskProbe, PullProgress

T = TypeVar("T")

_UNIX = "http+unix://"
"""How docker-py writes the address of a unix socket."""


class UpperDisks:
    """The port `SystemDisks` on overlay2. Raises EngineUnavailable too.

    `base_url` as docker-py takes it; None is the local socket. `owner` is what the owner label
    of our containers says. Nothing is connected until the first call.
    """

    def __init__(
        self,
        base_url: str | None,
        *,
        owner: str,
        pool_size: int = 8,
        timeout_s: float = 60.0,
    ) -> None:
        self._owner = owner
        self._connection = DockerConnection(base_url, timeout_s, pool_size)
        self._socket_path = _socket_path(base_url)
        self._threads = ThreadPoolExecutor(pool_size, "upper-disks")
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._root: Path | None = None

    async def close(self) -> None:
        """Let go of the connections; what is under way in threads may finish."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connection.forget()

    async def probe(self) -> DiskProbe:
        def call(client: docker.APIClient) -> DiskProbe:
            return probe(client, self._socket_path, self._owner)

        async with self._locked("probe"):
            return await self._ask(call)

    async def keep(self, container: str, kept: str) -> int:
        """The size is 0 when counting took too long: the container waits for it."""
        async with self._locked(f"kept {kept}", f"container {container}"):
            store = await self._store(kept)
            layer = await self._layer(container)
            if layer is not None:
                layer.require_still()
                await self._in_thread(lambda: self._move_out(store, layer, kept))
            elif not store.holds(kept):
                raise _no_container(container)
            return await self._in_thread(lambda: store.measure(kept))

    async def put_back(self, kept: str, container: str) -> None:
        """What was started and left in the empty layer meanwhile is dropped."""
        async with self._locked(f"kept {kept}", f"container {container}"):
            store = await self._store(kept)
            layer = await self._existing_layer(container)
            layer.require_still()
            await self._in_thread(lambda: self._move_in(store, layer, kept))

    async def fill(
        self, container: str, kept: str, on_progress: Callable[[PullProgress], None]
    ) -> None:
        """`on_progress` is called every half a second, and at the end; on the event loop.

        The clone is not forced onto the disk, as that would lengthen the pause by what it
        takes to write it; `kept` stays, and is on the disk.
        """
        async with self._locked(f"kept {kept}", f"container {container}"):
            store = await self._store(kept)
            layer = await self._existing_layer(container)
            layer.require_untouched()
            part = await self._in_thread(lambda: self._make_way(store, layer, kept))
            total_bytes = store.noted_size(kept)

            def written(done_bytes: int) -> None:
                on_progress(PullProgress(min(done_bytes, total_bytes), total_bytes))

            await clone(store.diff(kept), part, written)
            await self._in_thread(lambda: run_all(store.finish_fill(layer)))
            on_progress(PullProgress(total_bytes, total_bytes))

    async def remove(self, kept: str) -> None:
        async with self._locked(f"kept {kept}"):
            store = await self._store(kept)
            await self._in_thread(lambda: run_all(store.remove(kept)))

    def _move_out(self, store: Store, layer: Layer, kept: str) -> None:
        if not store.holds(kept):
            self._await_unmounted(layer)
        try:
            run_all(store.keep(layer, kept))
        except OSError:
            # It is to be all or nothing: whoever hears of a failure starts the container again.
            store.undo_keep(layer, kept)
            raise

    def _move_in(self, store: Store, layer: Layer, kept: str) -> None:
        if store.holds(kept):
            self._await_unmounted(layer)
        run_all(store.put_back(layer, kept))

    def _make_way(self, store: Store, layer: Layer, kept: str) -> Path:
        self._await_unmounted(layer)
        return store.begin_fill(layer, kept)

    def _await_unmounted(self, layer: Layer) -> None:
        await_unmounted(layer.upper, engine_pid(self._socket_path or ""))

    async def _existing_layer(self, container: str) -> Layer:
        layer = await self._layer(container)
        if layer is None:
            raise _no_container(container)
        return layer

    async def _layer(self, container: str) -> Layer | None:
        def call(client: docker.APIClient) -> Layer | None:
            seen = objects.inspect(client, container)
            return None if seen is None else layer_of(seen, self._owner)

        return await self._ask(call)

    async def _store(self, kept: str) -> Store:
        """Raises SystemDiskError when `kept` is no name, before anything is asked."""
        checked_name(kept)
        if self._root is None:
            root = await self._ask(lambda client: str(client.info()["DockerRootDir"]))
            self._root = Path(root)
        return Store(self._root, self._owner)

    async def _ask(self, call: Callable[[docker.APIClient], T]) -> T:
        def work() -> T:
            try:
                return call(self._connection.client())
            except FOREIGN_ERRORS as foreign:
                error = map_error(foreign)
                if isinstance(error, EngineUnavailable):
                    # It may come back as another one, with another root.
                    self._connection.forget()
                    self._root = None
                raise error from foreign

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    @asynccontextmanager
    async def _locked(self, *names: str) -> AsyncIterator[None]:
        """One thing at a time with each; what the disk has to say becomes our error."""
        async with AsyncExitStack() as held:
            for name in names:  # the same order everywhere, so that nobody waits in a circle
                await held.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            try:
                yield
            except OSError as error:
                raise SystemDiskError(f"the system disk could not be carried: {error}") from error


def _socket_path(base_url: str | None) -> str | None:
    """None when the engine is not reached over a unix socket."""
    host = str(parse_host(base_url))
    return host.removeprefix(_UNIX) if host.startswith(_UNIX) else None


def _no_container(container: str) -> SystemDiskError:
    return SystemDiskError(f"there is no container {container}")
