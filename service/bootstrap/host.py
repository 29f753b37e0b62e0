"""The host that a service acts on."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from events.values import GpuRuntime
from projections.store import ReadStore
from service.adapters.bind_roots import BindRoots
from service.adapters.cgroup_access import CgroupAccess
from service.adapters.docker_engine import DockerEngine
from service.adapters.docker_image_changes import ImageDiffs
from service.adapters.nvml import NvmlProbe
from service.adapters.simulated_gpus import NoGpus, SimulatedProbe
from service.adapters.upper_disks import UpperDisks
from service.adapters.volume_choice import choose
from service.application.disk_diff import Compare
from service.application.engine_gate import EngineGate
from service.bootstrap.ledger import OpenLedger, open_ledger
from service.bootstrap.maintaining import READ_STORE
from service.disk_ports import HostPaths, SystemDisks, VolumeStore
from service.domain.commands import Facts
from service.domain.retention import DAY_US
from service.errors import EngineUnavailable
from service.ports import ContainerEngine, DeviceProbe, GpuAccessProbe
from service.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

Closing = tuple[T, Callable[[], Awaitable[None]]]
"""Something, and how to let go of it."""


def facts_of(settings: Settings) -> Facts:
    """What the settings alone say to decisions."""
    return Facts(
        node=settings.node,
        port_first=settings.port_first,
        port_last=settings.port_last,
        keep_revisions=settings.keep_revisions,
        keep_us=round(settings.keep_days * DAY_US),
        data_disk_path=settings.data_disk_path,
    )


class Host:
    """What a service acts on: Docker, disks and GPUs, the real ones. A bench makes others."""

    def ledger(
        self,
        settings: Settings,
        on_failed: Callable[[str], None],
        on_full: Callable[[str], None],
    ) -> AbstractAsyncContextManager[OpenLedger]:
        """The ledger; they hear why its server is not started again, or cannot write for now."""
        return open_ledger(settings, on_failed, on_full)

    def read_store(self, settings: Settings) -> ReadStore:
        """Where the rows are, not opened yet."""
        return ReadStore(settings.data_dir / READ_STORE)

    def engine(self, settings: Settings, owner: str) -> Closing[ContainerEngine]:
        """The container engine, and how to let go of it."""
        engine = DockerEngine(settings.docker, owner=owner)
        return engine, engine.close

    def disks(self, settings: Settings, owner: str) -> Closing[SystemDisks]:
        """Where containers' own layers are kept, and how to let go of it."""
        disks = UpperDisks(settings.docker, owner=owner)
        return disks, disks.close

    def gpu_access(self, settings: Settings, owner: str) -> Closing[GpuAccessProbe]:
        """What looks whether containers may use their GPUs, and how to let go of it."""
        probe = CgroupAccess(settings.docker, owner=owner)
        return probe, probe.close

    def paths(self, settings: Settings) -> HostPaths:
        """What containers may mount; never what rules the engine, or this service."""
        docker = settings.docker
        if docker is not None and not docker.startswith("unix:"):
            return BindRoots(settings.bind_roots, local=False)
        socket = [Path(docker.removeprefix("unix://"))] if docker is not None else []
        return BindRoots(settings.bind_roots, [settings.data_dir, *socket])

    async def volumes(self, settings: Settings) -> VolumeStore:
        """Where sized volumes are made."""
        return await choose(
            settings.data_dir / "volumes",
            settings.volume_backend,
            file_system=settings.volume_file_system,
            over_commit=settings.over_commit,
            free_bytes_min=settings.free_bytes_min,
        )

    def image_diffs(self, settings: Settings, owner: str) -> Closing[Compare]:
        """What compares system disks that were kept by commit, and how to let go of it."""
        diffs = ImageDiffs(settings.docker, owner=owner)
        return diffs.changes, diffs.close

    def probe(self, settings: Settings) -> tuple[DeviceProbe, GpuRuntime | None]:
        """What lists the GPUs, and how they are handed over when that is settled already."""
        if settings.simulated_gpus:
            return SimulatedProbe(settings.simulated_gpus), "simulated"
        if settings.gpus == "none":
            return NoGpus(), "none"
        return NvmlProbe(), None


async def docker_detail(gate: EngineGate) -> str:
    """One line for people about the engine, which may not be there yet."""
    try:
        await gate.require()
    except EngineUnavailable as error:
        log.warning("%s", error)
    info = gate.info
    if info is None:
        return "not there; commands are refused until it is, reads work"
    return f"{info.version} ({info.storage_driver}, {info.root_dir})"
