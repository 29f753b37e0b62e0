"""MemoryDisks: system disks kept and carried in memory, as the twin of the real ones."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from events.labels import LABEL_OWNER
from service.disk_ports import (
    DiskProbe,
    DiskRef,
    FileChange,
    FileChanges,
    OnProgress,
    StoredDisk,
)
from service.errors import EngineUnavailable, SystemDiskError, SystemDiskFull
from service.ports import Progress
from tests.kit.simulated_engine import Faults, no_faults
from tests.kit.simulated_world import SimulatedContainer, World

T = TypeVar("T")


@dataclass
class KeptDisk:
    """A container's layer on its own: what it changed of its image."""

    container_id: str
    image_id: str
    changed: dict[str, bytes]
    deleted: frozenset[str]
    shared: set[str] = field(default_factory=set)
    """Paths of files that are those of another kept disk."""

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.changed.values()))


class MemoryDisks:
    """The port `SystemDisks` on a simulated world. `works` is what the probe says.

    `reflink` is whether clones share blocks: where they do not, a precopy and a compaction do
    something, and a clone needs the room that `free` says there is.

    Without an `owner`, every container is its own. Verbs for faults are precopy_layer (with the
    name of the container to be filled), keep_layer, put_back_layer, fill_layer, compact_layer and
    remove_layer; "before" and "after" are no answer of the engine (EngineUnavailable), since it is
    asked about every container, and "refuse" is the disk's no.
    """

    def __init__(
        self, world: World, *, owner: str | None = None, faults: Faults = no_faults
    ) -> None:
        self.world = world
        self.faults = faults
        self.works = True
        self.reflink = True
        self.free: int | None = 1 << 40
        """Bytes; None is a disk of another host."""
        self.copied_ahead: dict[str, dict[str, bytes]] = {}
        """By ids of containers that wait for a fill: the files that were copied for them."""
        self.kept: dict[str, KeptDisk] = {}
        self.put_back_to: dict[str, str] = {}
        """Container ids by names of kept disks: a second call finds that it was done."""
        self._owner = owner

    async def close(self) -> None:
        """Nothing to let go of."""

    async def probe(self) -> DiskProbe:
        await asyncio.sleep(0)
        return DiskProbe(works=self.works, reflink=self.reflink, detail="layers in memory")

    async def precopy(
        self, source: str, container: str, least_bytes: int, on_progress: OnProgress
    ) -> int:
        def do() -> int:
            live, seen = self._existing(source), self._existing(container)
            _require_untouched(seen)
            if live.image_id != seen.image_id:
                raise SystemDiskError(f"containers {source} and {container} have other images")
            self.copied_ahead.pop(seen.id, None)
            layer = self._layer(live)
            if self.reflink or layer.size_bytes < least_bytes:
                return 0
            self._require_room(layer.size_bytes)
            self.copied_ahead[seen.id] = layer.changed
            on_progress(Progress(layer.size_bytes, layer.size_bytes))
            return layer.size_bytes

        return await self._call("precopy_layer", container, do)

    async def keep(self, container: str, kept: str) -> int:
        def do() -> int:
            seen = self._container(container)
            there = self.kept.get(kept)
            if seen is None and there is None:
                raise SystemDiskError(f"there is no container {container}")
            if seen is not None:
                _require_still(seen)
                if there is None:
                    self.put_back_to.pop(kept, None)
                    there = self._layer(seen)
                    seen.files = self._image_files(seen)
                    self.kept[kept] = there
                _require_origin(there, seen, kept)
            assert there is not None
            return there.size_bytes

        return await self._call("keep_layer", kept, do)

    async def put_back(self, kept: str, container: str) -> None:
        def do() -> None:
            seen = self._existing(container)
            _require_still(seen)
            there = self.kept.get(kept)
            if there is None:
                if self.put_back_to.get(kept) != seen.id:
                    raise SystemDiskError(f"there is no kept system disk {kept}")
                return
            _require_origin(there, seen, kept)
            self._lay(there, seen)
            del self.kept[kept]
            self.put_back_to[kept] = seen.id

        await self._call("put_back_layer", kept, do)

    async def fill(self, container: str, kept: str, on_progress: OnProgress) -> None:
        def do() -> None:
            seen = self._existing(container)
            _require_untouched(seen)
            there = self._kept(kept)
            if there.image_id != seen.image_id:
                raise SystemDiskError(f"system disk {kept} belongs on image {there.image_id}")
            ahead = self.copied_ahead.pop(seen.id, {})
            changed = there.changed.items()
            self._require_room(sum(len(c) for p, c in changed if ahead.get(p) != c))
            self._lay(there, seen)
            on_progress(Progress(there.size_bytes, there.size_bytes))

        await self._call("fill_layer", kept, do)

    async def remove(self, kept: str) -> None:
        await self._call("remove_layer", kept, lambda: self.kept.pop(kept, None))

    async def is_kept(self, kept: str) -> bool:
        await asyncio.sleep(0)
        return kept in self.kept

    async def compact(self, kept: str, other: str) -> int:
        def do() -> int:
            mine, others = self._kept(kept), self._kept(other)
            if self.reflink or mine is others:
                return 0
            same = {p for p, content in mine.changed.items() if others.changed.get(p) == content}
            new = same - mine.shared
            mine.shared |= new
            return sum(len(mine.changed[path]) for path in new)

        return await self._call("compact_layer", kept, do)

    async def list_kept(self) -> tuple[StoredDisk, ...]:
        def do() -> tuple[StoredDisk, ...]:
            kept = sorted(self.kept.items())
            return tuple(StoredDisk(name, disk.size_bytes) for name, disk in kept)

        return await self._call("list_layers", "", do)

    async def size(self, container: str) -> int | None:
        await asyncio.sleep(0)
        return self._layer(self._existing(container)).size_bytes

    async def free_bytes(self) -> int | None:
        await asyncio.sleep(0)
        return self.free

    async def changes(self, old: DiskRef, new: DiskRef, listed_max: int) -> FileChanges:
        await asyncio.sleep(0)
        before, after = self._found(old), self._found(new)
        if before.image_id != after.image_id:
            raise SystemDiskError(
                f"{old.name} and {new.name} are on other images and cannot be compared"
            )
        image = self._files_of(before.image_id)
        was, now = _over(image, before), _over(image, after)
        found = [
            FileChange(path, _kind(path, was, now), len(now.get(path, b"")))
            for path in sorted(was.keys() | now.keys(), key=lambda path: path.split("/"))
            if was.get(path) != now.get(path)
        ]
        kinds = [change.kind for change in found]
        return FileChanges(
            tuple(found[:listed_max]),
            added=kinds.count("added"),
            changed=kinds.count("changed"),
            deleted=kinds.count("deleted"),
        )

    def _found(self, ref: DiskRef) -> KeptDisk:
        if ref.kind == "image":
            raise SystemDiskError(f"{ref.name} is an image: it cannot be compared as a directory")
        if ref.kind == "container":
            return self._layer(self._existing(ref.name))
        return self._kept(ref.name)

    def _layer(self, container: SimulatedContainer) -> KeptDisk:
        """A copy of what the container changed."""
        image = self._image_files(container)
        return KeptDisk(
            container_id=container.id,
            image_id=container.image_id,
            changed={p: c for p, c in container.files.items() if image.get(p) != c},
            deleted=frozenset(image.keys() - container.files.keys()),
        )

    def _lay(self, disk: KeptDisk, container: SimulatedContainer) -> None:
        """In place of whatever layer the container has."""
        container.files = _over(self._image_files(container), disk)

    def _image_files(self, container: SimulatedContainer) -> dict[str, bytes]:
        return self._files_of(container.image_id)

    def _files_of(self, image_id: str) -> dict[str, bytes]:
        """Empty when the image is gone from the world, as only its files are asked for."""
        found = self.world.find_image(image_id)
        return dict(found[1].files) if found else {}

    def _require_room(self, size_bytes: int) -> None:
        if not self.reflink and self.free is not None and size_bytes > self.free:
            raise SystemDiskFull(f"{self.free} bytes are left, too little for {size_bytes}")

    def _kept(self, name: str) -> KeptDisk:
        there = self.kept.get(name)
        if there is None:
            raise SystemDiskError(f"there is no kept system disk {name}")
        return there

    def _existing(self, name: str) -> SimulatedContainer:
        container = self._container(name)
        if container is None:
            raise SystemDiskError(f"there is no container {name}")
        return container

    def _container(self, name: str) -> SimulatedContainer | None:
        container = self.world.containers.get(name)
        if container is None or self._owner is None:
            return container
        if container.labels.get(LABEL_OWNER) != self._owner:
            raise SystemDiskError(f"container {name} does not belong to this installation")
        return container

    async def _call(self, verb: str, name: str, do: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        fault = self.faults(verb, name)
        if fault == "before":
            raise EngineUnavailable(f"no answer to {verb} {name}")
        if fault == "refuse":
            raise SystemDiskError(f"{verb} {name} did not work")
        answer = do()
        if fault == "after":
            raise EngineUnavailable(f"no answer to {verb} {name}")
        return answer


def _over(image: dict[str, bytes], disk: KeptDisk) -> dict[str, bytes]:
    """All files of a container with this layer."""
    left = {path: content for path, content in image.items() if path not in disk.deleted}
    return left | disk.changed


def _kind(
    path: str, was: dict[str, bytes], now: dict[str, bytes]
) -> Literal["added", "changed", "deleted"]:
    if path not in was:
        return "added"
    return "changed" if path in now else "deleted"


def _require_untouched(container: SimulatedContainer) -> None:
    if container.status != "created" or container.started_at:
        raise SystemDiskError(
            f"container {container.name} is {container.status}: only one that was never started"
            " can be filled"
        )


def _require_still(container: SimulatedContainer) -> None:
    if container.status == "running":
        raise SystemDiskError(f"container {container.name} is running: stop it first")


def _require_origin(disk: KeptDisk, container: SimulatedContainer, kept: str) -> None:
    if disk.container_id != container.id:
        raise SystemDiskError(f"system disk {kept} was kept from another container")
