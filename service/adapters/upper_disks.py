"""UpperDisks: containers' own layers, kept and carried as the directories that they are.

For a local engine with the storage driver overlay2, by a service with root's rights. A layer
holds exactly what the container changed, deletions included (overlayfs keeps them as devices and
attributes), so moving it costs a rename, and cloning it costs what was changed, or nothing where
the file system shares blocks. The image is not touched.

Nothing is done to a container that another installation made, that runs, or whose layer is
mounted; the layer of one that runs is read at most. What lies where, and what a crash leaves, is
in upper_store.py.

The locks, in the order in which they are taken: "kept" for what decides whether a kept disk is
there, "files" for what needs all of its files to stay, "container" for a container's layer. A
compaction holds the first and takes the second only for moments, so that no fill waits for it.
"""

import errno
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import docker
from docker.errors import NotFound
from msgspec import Struct

from service.adapters.upper_changes import changes_between
from service.adapters.upper_clone import clone, clone_in_use, discard, size_on_disk, sync_disk
from service.adapters.upper_compact import find_twins, link_twins, settle
from service.adapters.upper_host import UpperHost, no_container
from service.adapters.upper_layers import STORAGE_DRIVER, Layer
from service.adapters.upper_probe import probe
from service.adapters.upper_room import free_bytes, require_room
from service.adapters.upper_store import Store, part_of, run_all
from service.adapters.upper_sync import SETTLED_NS, Delta, Stamps, take_stamps
from service.disk_ports import DiskProbe, DiskRef, FileChanges, OnProgress, StoredDisk
from service.errors import SystemDiskError, SystemDiskFull
from service.ports import Progress

T = TypeVar("T")
Written = Callable[[int], None]


class _Ahead(Struct, frozen=True):
    """What was copied for a container before the layer that it is to get was kept."""

    part: Path
    """It is gone with the container, also when there is another of its name."""
    stamps: Stamps


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
        self._host = UpperHost(base_url, owner=owner, pool_size=pool_size, timeout_s=timeout_s)
        self._ahead: dict[str, _Ahead] = {}
        """By the names of the containers to be filled."""

    async def close(self) -> None:
        """Let go of the connections; what is under way in threads may finish."""
        self._host.close()

    async def probe(self) -> DiskProbe:
        def call(client: docker.APIClient) -> DiskProbe:
            return probe(client, self._host.socket_path, self._host.owner)

        async with self._host.locked("probe"):
            return await self._host.ask(call)

    async def precopy(
        self, source: str, container: str, least_bytes: int, on_progress: OnProgress
    ) -> int:
        """Raises SystemDiskFull when it would fill the disk, or did: nothing is left of it then.

        The disk is synced before and after: before, for the stamps (upper_sync.py); after, as
        the engine syncs all of it when it unmounts the stopped container's layer.
        """
        async with self._host.locked(f"container {container}"):
            live = await self._host.existing_layer(source)
            layer = await self._host.existing_layer(container)
            layer.require_untouched()
            if live.image_id != layer.image_id:
                raise SystemDiskError(f"containers {source} and {container} have other images")
            self._forget_ahead(container)
            if await self._host.shares_blocks():
                return 0
            size = await self._host.in_thread(lambda: size_on_disk(live.upper))
            if size is not None and size < least_bytes:
                return 0
            settled_before_ns = time.time_ns() - SETTLED_NS
            await sync_disk(live.upper)
            stamps = await self._host.go_through(take_stamps(live.upper, settled_before_ns))
            if stamps.size_bytes < least_bytes:
                return 0
            await self._copy_ahead(live, layer, stamps.size_bytes, on_progress)
            self._ahead[container] = _Ahead(part_of(layer), stamps)
            return stamps.size_bytes

    async def keep(self, container: str, kept: str) -> int:
        """The size is 0 when counting took too long: the container waits for it."""
        async with self._host.locked(f"kept {kept}", f"files {kept}", f"container {container}"):
            store = await self._host.store(kept)
            layer = await self._host.layer(container)
            if layer is not None:
                layer.require_still()
                await self._host.in_thread(lambda: self._move_out(store, layer, kept))
            elif not store.holds(kept):
                raise no_container(container)
            return await self._host.in_thread(lambda: store.measure(kept))

    async def put_back(self, kept: str, container: str) -> None:
        """What was started and left in the empty layer meanwhile is dropped."""
        async with self._host.locked(f"kept {kept}", f"files {kept}", f"container {container}"):
            store = await self._host.store(kept)
            layer = await self._host.existing_layer(container)
            layer.require_still()
            await self._host.in_thread(lambda: self._move_in(store, layer, kept))

    async def fill(self, container: str, kept: str, on_progress: OnProgress) -> None:
        """`on_progress` is called every half a second or more often, and at the end; on the loop.

        The clone is not forced onto the disk, as that would lengthen the pause by what it
        takes to write it; `kept` stays, and is on the disk. When the size of `kept` took too long
        to count, only the reserve must be free.
        """
        async with self._host.locked(f"files {kept}", f"container {container}"):
            store = await self._host.store(kept)
            layer = await self._host.existing_layer(container)
            layer.require_untouched()
            ahead = await self._copied_ahead(store, layer, kept)
            total_bytes = store.noted_size(kept)
            there_bytes = 0 if ahead is None else ahead.stamps.size_bytes
            await self._require_room(max(0, total_bytes - there_bytes))
            await self._host.in_thread(lambda: self._await_still(store, layer, kept))

            def written(done_bytes: int) -> None:
                on_progress(Progress(min(done_bytes, total_bytes), total_bytes))

            if ahead is None or not await self._bring_up(store, kept, ahead, written):
                part = await self._host.in_thread(lambda: store.begin_fill(layer, kept))
                await clone(store.diff(kept), part, written)
            await self._host.in_thread(lambda: run_all(store.finish_fill(layer)))
            on_progress(Progress(total_bytes, total_bytes))

    async def compact(self, kept: str, other: str) -> int:
        """Comparing reads both once; files that are shared already are not read again."""
        both = sorted({kept, other})
        async with self._host.locked(*(f"kept {name}" for name in both)):
            store = await self._host.store(kept)
            for name in (kept, other):
                store.require(name)
            if kept == other or await self._host.shares_blocks():
                return 0
            await self._change_files(kept, lambda: settle(store.entry(kept)))
            steps = find_twins(store.diff(kept), store.diff(other))
            saved_bytes = 0
            end = None
            try:
                while end is None:
                    twins, end = await self._host.go_on(steps)
                    if twins:
                        linked = partial(run_all, link_twins(store.entry(kept), twins))
                        saved_bytes += await self._change_files(kept, linked)
            finally:
                steps.close()
            return saved_bytes

    async def remove(self, kept: str) -> None:
        async with self._host.locked(f"kept {kept}", f"files {kept}"):
            store = await self._host.store(kept)
            await self._host.in_thread(lambda: run_all(store.remove(kept)))

    async def list_kept(self) -> tuple[StoredDisk, ...]:
        if self._host.socket_path is None:
            return ()
        root = await self._host.root()
        async with self._host.locked():
            return await self._host.in_thread(Store(root, self._host.owner).list_kept)

    async def is_kept(self, kept: str) -> bool:
        async with self._host.locked(f"kept {kept}"):
            store = await self._host.store(kept)
            return await self._host.in_thread(lambda: store.holds(kept))

    async def size(self, container: str) -> int | None:
        """None too when the directory is not one of this host's."""
        async with self._host.locked():
            layer = await self._host.existing_layer(container)
            return await self._host.in_thread(
                lambda: size_on_disk(layer.upper) if layer.upper.is_dir() else None
            )

    async def free_bytes(self) -> int | None:
        if self._host.socket_path is None:
            return None
        root = await self._host.root()
        async with self._host.locked():
            return await self._host.in_thread(lambda: free_bytes(root) if root.is_dir() else None)

    async def changes(self, old: DiskRef, new: DiskRef, listed_max: int) -> FileChanges:
        """No lock is held: a patch does not wait for who looks.

        Raises SystemDiskError when one of them was moved meanwhile, as by a patch.
        """
        async with self._host.locked():
            (before, image), (after, other_image) = [await self._found(ref) for ref in (old, new)]
            if image != other_image:
                raise SystemDiskError(
                    f"{old.name} and {new.name} are on other images and cannot be compared file by"
                    f" file: {image} and {other_image}"
                )
            layers = await self._host.ask(lambda client: _image_layers(client, image))
            inodes = await self._host.in_thread(lambda: _inodes(before, after))
            steps = changes_between(before, after, layers, listed_max)
            found = None
            with suppress(FileNotFoundError):  # what vanishes below the two is no error
                found = await self._host.go_through(steps)
            if found is None or inodes != await self._host.in_thread(
                lambda: _inodes(before, after)
            ):
                raise SystemDiskError(
                    f"{old.name} or {new.name} was moved while it was compared: ask again"
                )
            return found

    async def _copy_ahead(
        self, live: Layer, layer: Layer, size_bytes: int, on_progress: OnProgress
    ) -> None:
        part = part_of(layer)
        await self._host.in_thread(lambda: discard(part))
        await self._require_room(size_bytes)

        def written(done_bytes: int) -> None:
            on_progress(Progress(min(done_bytes, size_bytes), size_bytes))

        await clone_in_use(live.upper, part, written)
        try:
            await self._require_room(0)
        except SystemDiskFull:
            # Whatever took the room meanwhile: the running container needs it more.
            await self._host.in_thread(lambda: discard(part))
            raise
        await sync_disk(part)
        written(size_bytes)

    def _forget_ahead(self, container: str) -> None:
        """What was copied for it before, and for containers that are gone."""
        for name, ahead in tuple(self._ahead.items()):
            if name == container or not ahead.part.exists():
                del self._ahead[name]

    async def _copied_ahead(self, store: Store, layer: Layer, kept: str) -> _Ahead | None:
        """Once: whatever becomes of the fill, what was copied is not as it was any more.

        It may have been copied from another layer than `kept` is: then nothing of it has the
        right stamp, and all of it is replaced.
        """
        await self._host.in_thread(lambda: store.require_fit(layer, kept))
        ahead = self._ahead.pop(layer.container, None)
        if ahead is None or not await self._host.in_thread(ahead.part.exists):
            return None
        return ahead

    async def _bring_up(self, store: Store, kept: str, ahead: _Ahead, written: Written) -> bool:
        """Make what was copied ahead the same as `kept`; False where that cannot be done."""
        changed_ns = (await self._host.in_thread(lambda: store.require(kept))).changed_ns
        delta = Delta(store.diff(kept), ahead.part, ahead.stamps, changed_ns)
        try:
            await self._host.go_through(
                delta.steps(), lambda: written(ahead.stamps.size_bytes + delta.copied_bytes)
            )
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return False  # cp goes deeper than a path can be long
            raise
        return True

    async def _require_room(self, size_bytes: int) -> None:
        """For a clone. Raises SystemDiskFull."""
        if not await self._host.shares_blocks():
            root = await self._host.root()
            await self._host.in_thread(lambda: require_room(root, size_bytes))

    async def _change_files(self, kept: str, change: Callable[[], T]) -> T:
        """Once no clone is being made of it: cp fails at a file that is replaced under it."""
        async with self._host.locked(f"files {kept}"):
            return await self._host.in_thread(change)

    def _move_out(self, store: Store, layer: Layer, kept: str) -> None:
        if not store.holds(kept):
            self._host.await_unmounted(layer)
        try:
            run_all(store.keep(layer, kept))
        except OSError:
            # It is to be all or nothing: whoever hears of a failure starts the container again.
            store.undo_keep(layer, kept)
            raise

    def _move_in(self, store: Store, layer: Layer, kept: str) -> None:
        if store.holds(kept):
            self._host.await_unmounted(layer)
        run_all(store.put_back(layer, kept))

    def _await_still(self, store: Store, layer: Layer, kept: str) -> None:
        self._host.await_unmounted(layer)
        settle(store.entry(kept))

    async def _found(self, ref: DiskRef) -> tuple[Path, str]:
        """Where the layer of a container or a kept disk is, and on which image."""
        if ref.kind == "image":
            raise SystemDiskError(f"{ref.name} is an image: it cannot be compared as a directory")
        if ref.kind == "container":
            layer = await self._host.existing_layer(ref.name)
            return layer.upper, layer.image_id
        store = await self._host.store(ref.name)
        origin = await self._host.in_thread(lambda: store.require(ref.name))
        return store.diff(ref.name), origin.image_id


def _inodes(*paths: Path) -> list[int | None]:
    return [path.lstat().st_ino if path.exists() else None for path in paths]


def _image_layers(client: docker.APIClient, image: str) -> list[Path]:
    """The image's own directories, the topmost first. Raises SystemDiskError."""
    try:
        driver = client.inspect_image(image).get("GraphDriver") or {}
    except NotFound as error:
        raise SystemDiskError(
            f"image {image} is gone: what was changed of it cannot be told any more"
        ) from error
    data = driver.get("Data") or {}
    if driver.get("Name") != STORAGE_DRIVER or not data.get("UpperDir"):
        raise SystemDiskError(f"image {image} has no directories (not on {STORAGE_DRIVER})")
    below = data.get("LowerDir") or ""
    return [Path(folder) for folder in (data["UpperDir"], *below.split(":")) if folder]
