"""`gpuledger serve` with a Docker in memory: the whole service, and no container.

Run as a module with the flags of `serve`, and `--shown-gpus N` in place of `--gpus`: the GPUs of
the made-up histories, so that a ledger of thousands of them finds them all still there.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Collection
from typing import Any

import uvloop

from events.values import Gpu, GpuRuntime
from service.application.disk_diff import Compare
from service.bootstrap.host import Closing, Host
from service.bootstrap.serving import serve
from service.disk_ports import SystemDisks, VolumeStore
from service.ports import ContainerEngine, DeviceProbe, GpuAccessProbe, GpuError, GpuHealth
from service.settings import Settings
from service.settings_table import SETTINGS
from tests.kit.histories import gpu_uuid
from tests.kit.memory_disks import MemoryDisks
from tests.kit.memory_volumes import MemoryVolumes
from tests.kit.simulated_access import SimulatedAccess
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_world import World

IMAGE = "bench:1"


class HistoryProbe:
    """DeviceProbe that shows the first GPUs of the made-up histories."""

    def __init__(self, count: int) -> None:
        self._gpus = tuple(
            Gpu(gpu_uuid(n), n, "NVIDIA A100-SXM4-80GB", 80 << 30, f"0000:{n:04x}:00.0")
            for n in range(count)
        )

    async def health(self, let_go: Collection[str] = ()) -> GpuHealth:
        """As the port says."""
        return GpuHealth(self._gpus)

    async def errors(self) -> tuple[GpuError, ...]:
        """As the port says: never any."""
        await asyncio.Event().wait()
        return ()

    async def describe(self) -> str:
        """As the port says."""
        return f"{len(self._gpus)} made-up GPUs"

    async def close(self) -> None:
        """As the port says."""


class MemoryHost(Host):
    """Docker and the disks in memory; all else is as users run it."""

    def __init__(self, probe: HistoryProbe) -> None:
        self._probe = probe
        self._world = World(images=[IMAGE])

    def engine(self, settings: Settings, owner: str) -> Closing[ContainerEngine]:
        """A simulated engine."""
        engine = SimulatedEngine(self._world, owner=owner)
        return engine, engine.close

    def disks(self, settings: Settings, owner: str) -> Closing[SystemDisks]:
        """Layers of the same world."""
        disks = MemoryDisks(self._world, owner=owner)
        return disks, disks.close

    def gpu_access(self, settings: Settings, owner: str) -> Closing[GpuAccessProbe]:
        """As the same world says."""
        engine = SimulatedEngine(self._world, owner=owner)
        return SimulatedAccess(engine, owner), engine.close

    async def volumes(self, settings: Settings) -> VolumeStore:
        """Disks that are numbers."""
        return MemoryVolumes()

    def image_diffs(self, settings: Settings, owner: str) -> Closing[Compare]:
        """The same layers again: there is nothing to compare."""
        disks, close = self.disks(settings, owner)
        return disks.changes, close

    def probe(self, settings: Settings) -> tuple[DeviceProbe, GpuRuntime | None]:
        """The GPUs of the histories."""
        return self._probe, "simulated"


def _settings(given: dict[str, object]) -> Settings:
    flags: dict[str, Any] = {name: given[name] for name in SETTINGS}
    return Settings.from_mapping(os.environ, **flags)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    for name in SETTINGS:
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name)
    parser.add_argument("--shown-gpus", type=int, default=0)
    given: dict[str, Any] = vars(parser.parse_args())
    probe = HistoryProbe(given.pop("shown_gpus"))
    sys.exit(uvloop.run(serve(_settings(given), host=MemoryHost(probe))))


if __name__ == "__main__":
    main()
