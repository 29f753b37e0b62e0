"""MemoryDisks: system disks kept and carried in memory, as the twin of the real ones."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from events.labels import LABEL_OWNER
from service.errors import EngineUnavailable, SystemDiskError
from service.ports import DiskProbe, PullProgress
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

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.changed.values()))


class MemoryDisks:
    """The port `SystemDisks` on a simulated world. `works` is what the probe says.

    Without an `owner`, every container is its own. Verbs for faults are keep_layer,
    put_back_layer, fill_layer and remove_layer; "before" and "after" are no answer of the engine
    (EngineUnavailable), since it is asked about every container, and "refuse" is the disk's no.
    """

    def __init__(
        self, world: World, *, owner: str | None = None, faults: Faults = no_faults
    ) -> None:
        self.world = world
        self.faults = faults
        self.works = True
        self.kept: dict[str, KeptDisk] = {}
        self.put_back_to: dict[str, str] = {}
        """Container ids by names of kept disks: a second call finds that it was done."""
        self._owner = owner

    async def close(self) -> None:
        """Nothing to let go of."""

    async def probe(self) -> DiskProbe:
        await asyncio.sleep(0)
        return DiskProbe(works=self.works, reflink=True, detail="layers in memory")

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
                    there = self._take(seen)
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

    async def fill(
        self, container: str, kept: str, on_progress: Callable[[PullProgress], None]
    ) -> None:
        def do() -> None:
            seen = self._existing(container)
            if seen.status != "created" or seen.started_at:
                raise SystemDiskError(
                    f"container {container} is {seen.status}: only one that was never started"
                    " can be filled"
                )
            there = self.kept.get(kept)
            if there is None:
                raise SystemDiskError(f"there is no kept system disk {kept}")
            if there.image_id != seen.image_id:
                raise SystemDiskError(f"system disk {kept} belongs on image {there.image_id}")
            self._lay(there, seen)
            on_progress(PullProgress(there.size_bytes, there.size_bytes))

        await self._call("fill_layer", kept, do)

    async def remove(self, kept: str) -> None:
        await self._call("remove_layer", kept, lambda: self.kept.pop(kept, None))

    def _take(self, container: SimulatedContainer) -> KeptDisk:
        image = self._image_files(container)
        taken = KeptDisk(
            container_id=container.id,
            image_id=container.image_id,
            changed={p: c for p, c in container.files.items() if image.get(p) != c},
            deleted=frozenset(image.keys() - container.files.keys()),
        )
        container.files = dict(image)
        return taken

    def _lay(self, disk: KeptDisk, container: SimulatedContainer) -> None:
        """In place of whatever layer the container has."""
        image = self._image_files(container)
        left = {path: content for path, content in image.items() if path not in disk.deleted}
        container.files = left | disk.changed

    def _image_files(self, container: SimulatedContainer) -> dict[str, bytes]:
        """Empty when the image is gone from the world, as only its files are asked for."""
        found = self.world.find_image(container.image_id)
        return dict(found[1].files) if found else {}

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


def _require_still(container: SimulatedContainer) -> None:
    if container.status == "running":
        raise SystemDiskError(f"container {container.name} is running: stop it first")


def _require_origin(disk: KeptDisk, container: SimulatedContainer, kept: str) -> None:
    if disk.container_id != container.id:
        raise SystemDiskError(f"system disk {kept} was kept from another container")
