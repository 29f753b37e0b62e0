"""System disks and volumes at the end of a line."""

from collections.abc import Callable
from typing import TypeVar

from service.disk_ports import OnProgress
from tests.kit.builders import OWNER
from tests.kit.memory_disks import MemoryDisks
from tests.kit.memory_volumes import MemoryVolumes
from tests.kit.simulated_service import SimulatedHost
from tests.simulation.engine_line import ENGINE_DELAYS_S, LOST
from tests.simulation.line import Line

T = TypeVar("T")


class LineDisks(MemoryDisks):
    """System disks at the end of a line."""

    def __init__(self, line: Line, host: SimulatedHost) -> None:
        super().__init__(host.world, owner=OWNER, faults=self._fault)
        self.kept, self.put_back_to = host.disks.kept, host.disks.put_back_to
        self.reflink = host.disks.reflink
        self._line = line
        self._host = host

    async def free_bytes(self) -> int | None:
        """As the port says, of the host's disk."""
        self.free = self._host.disks.free
        return await super().free_bytes()

    async def _call(self, verb: str, name: str, do: Callable[[], T]) -> T:
        async def arrive() -> T:
            self.free = self._host.disks.free
            return await super(LineDisks, self)._call(verb, name, do)

        return await self._line.carry(ENGINE_DELAYS_S, arrive, about=name)

    def _fault(self, verb: str, name: str) -> str | None:
        if not self._line.is_bad():
            return None
        # A layer that was moved and says that it was not could not be found again.
        refusable = verb in ("precopy_layer", "fill_layer", "compact_layer")
        fault = self._line.rng.choice((*LOST, "refuse") if refusable else LOST)
        self._line.met[f"disks: {verb} {fault}"] += 1
        return fault


class LineVolumes(MemoryVolumes):
    """Disks at the end of a line; those of running containers are mounted."""

    def __init__(self, line: Line, host: SimulatedHost) -> None:
        super().__init__(faults=self._fault)
        self.disks = host.volumes.disks
        self._line = line
        self._world = host.world
        self._wanted: dict[str, int] = {}

    async def _call(self, verb: str, name: str, do: Callable[[], T]) -> T:
        async def arrive() -> T:
            self._mount()
            return await super(LineVolumes, self)._call(verb, name, do)

        return await self._line.carry(ENGINE_DELAYS_S, arrive, about=f"disk {name}")

    async def resize(self, name: str, size_bytes: int, on_progress: OnProgress) -> None:
        """As the port says."""
        self._wanted[name] = size_bytes
        await super().resize(name, size_bytes, on_progress)

    def _fault(self, verb: str, name: str) -> str | None:
        disk = self.disks.get(name)
        if disk is not None and verb == "create_disk":
            return None
        if disk is not None and verb == "resize_disk" and disk.size_bytes == self._wanted[name]:
            return None
        if not self._line.is_bad():
            return None
        # A disk that was resized and says that it was not is a fault nobody could recover from.
        fault = self._line.rng.choice(("before",) if verb == "resize_disk" else LOST)
        self._line.met[f"volumes: {verb} {fault}"] += 1
        return fault

    def _mount(self) -> None:
        running = [c for c in self._world.containers.values() if c.status == "running"]
        mounts = [m["Source"] for c in running for m in c.host.get("Mounts") or ()]
        in_use = {source.rpartition("-")[0] for source in mounts if source[:1] != "/"}
        for name, disk in self.disks.items():
            disk.mounted = name in in_use
