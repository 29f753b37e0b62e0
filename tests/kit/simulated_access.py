"""SimulatedAccess: whether containers are let at their GPUs, in a simulated world."""

import asyncio

from service.errors import EngineUnavailable
from service.ports import GpuAccess
from tests.kit.simulated_engine import SimulatedEngine


class SimulatedAccess:
    """The port `GpuAccessProbe`: as the world says of a container of this engine's owner.

    Its faults are those of the engine, which is asked where a container is ("look_at_access").
    """

    def __init__(self, engine: SimulatedEngine, owner: str) -> None:
        self._engine = engine
        self._owner = owner

    async def look(self, container: str) -> GpuAccess:
        """As the port says."""
        await asyncio.sleep(0)
        if self._engine.down or self._engine.faults("look_at_access", container):
            raise EngineUnavailable(f"no answer to look_at_access {container}")
        there = self._engine.world.containers.get(container)
        if there is None or there.status != "running" or there.owner != self._owner:
            return GpuAccess("unknown", f"no container of ours runs as {container}")
        if not there.has_devices:
            return GpuAccess("unknown", "it has no such device")
        return GpuAccess("has") if there.gpu_access else GpuAccess("lost", "not permitted")
