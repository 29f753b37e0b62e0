"""`gpuledger serve` with a Docker in memory: the whole service, and no container.

Run as a module with the flags of `serve`, and `--shown-gpus N` in place of `--gpus`: the GPUs of
the made-up histories, so that a ledger of thousands of them finds them all still there.
"""

import argparse
import os
import sys
from typing import Any
from unittest.mock import patch

import uvloop

from service import bootstrap
from service.bootstrap import serving
from service.ports import Gpu
from service.settings import SETTINGS, Settings
from tests.kit.histories import gpu_uuid
from tests.kit.memory_volumes import MemoryVolumes
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

    async def gpus(self) -> tuple[Gpu, ...]:
        """As the port says."""
        return self._gpus

    async def describe(self) -> str:
        """As the port says."""
        return f"{len(self._gpus)} made-up GPUs"


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
    world = World(images=[IMAGE])
    probe = HistoryProbe(given.pop("shown_gpus")), "simulated"
    with (
        # The composition root names Docker and the disks; all else is as users run it.
        patch.object(serving, "DockerEngine", lambda _, owner: SimulatedEngine(world, owner=owner)),
        patch.object(serving, "LoopVolumes", lambda _: MemoryVolumes()),
        patch.object(serving, "_probe", lambda _: probe),
    ):
        sys.exit(uvloop.run(bootstrap.serve(_settings(given))))


if __name__ == "__main__":
    main()
