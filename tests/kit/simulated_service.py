"""The service's real parts on in-memory ports, put together in the bootstrap's order.

A `SimulatedHost` is what outlives the service: ledger, rows, engine, disks, GPUs. Entering a
`SimulatedService` on it is a start, leaving it an orderly stop; entering another one on the same
host is a restart.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

from events.gpu_health import GpuError, GpuHealth, GpuReport, MissingGpu
from events.values import Gpu
from projections.projector import Projector
from projections.state import Operation, State
from projections.store import ReadStore
from service.application.engine_gate import EngineGate
from service.application.executor import Executor
from service.application.gpu_access import GpuAccessWatch
from service.application.health import Component
from service.application.host_facts import DiskChoice, HostFacts, RuntimeChoice
from service.application.intake import Accepted, Caller
from service.application.ledger_intake import LedgerIntake
from service.application.observer import Observer
from service.application.orphan_work import OrphanWork
from service.application.orphans import Orphans
from service.application.performer import Performer
from service.application.retention import Retention
from service.application.retries import Retries
from service.application.service_health import ServiceHealth
from service.application.supervisor import Supervisor
from service.application.watcher import Watcher
from service.application.writer import Writer
from service.disk_ports import SystemDisks, VolumeStore
from service.domain.commands import Envelope, Facts, RegisterNode, Request
from service.domain.rejections import Rejected
from service.errors import DeviceProbeError, VolumeStoreError
from service.ports import ContainerEngine, Ledger
from service.telemetry import Metrics
from tests.kit.builders import IMAGE, NODE, OWNER, PORT_FIRST, gpu
from tests.kit.inline_store import InlineStore
from tests.kit.memory_disks import MemoryDisks
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.memory_volumes import MemoryVolumes
from tests.kit.simulated_access import SimulatedAccess
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_world import World
from tests.kit.virtual_time import CountingIds, VirtualClock

WAIT_S = 3600.0
"""A caller's patience; on virtual time it costs nothing."""

STOP_TIMEOUT_S = 10
FREE_BYTES_MIN = 1 << 30
ORPHAN_GRACE_S = 3600
FILE_STORAGE_PATH = "/root/foo-fs"


class ListProbe:
    """The port `DeviceProbe` on a list. `trouble` is a driver that does not answer."""

    def __init__(self, gpus: Sequence[Gpu]) -> None:
        self.shown = list(gpus)
        self.reports: dict[str, GpuReport] = {}
        """By UUID; what has none fares well."""
        self.missing: list[MissingGpu] = []
        self.boot = "boot-1"
        self.trouble = ""
        self.hangs = False
        """A look does not come back."""
        self.slow_s = 0.0
        """So long a look takes."""
        self.looks = 0
        self.let_go: frozenset[str] = frozenset()
        """What the last look asked to be left alone."""
        self._errors: asyncio.Queue[tuple[GpuError, ...]] = asyncio.Queue()

    def report(self, uuid: str, **changes: Any) -> None:
        """The GPU fares like this from now on."""
        self.reports[uuid] = GpuReport(uuid, **changes)

    def fail(self, *errors: GpuError) -> None:
        """The driver reports these errors."""
        self._errors.put_nowait(errors)

    async def health(self, let_go: Collection[str] = ()) -> GpuHealth:
        """As the port says."""
        self.looks += 1
        self.let_go = frozenset(let_go)
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.trouble:
            raise DeviceProbeError(self.trouble)
        reports = (self.reports.get(gpu.uuid) for gpu in self.shown)
        told = tuple(report for report in reports if report is not None)
        return GpuHealth(tuple(self.shown), told, tuple(self.missing), self.boot)

    async def errors(self) -> tuple[GpuError, ...]:
        """As the port says."""
        return await self._errors.get()

    async def describe(self) -> str:
        """As the port says."""
        return f"{len(self.shown)} GPUs on a list"

    async def close(self) -> None:
        """As the port says."""


class TextPaths:
    """The port `HostPaths` on paths as they are written: all may be mounted but `forbidden`."""

    def __init__(self) -> None:
        self.forbidden: set[str] = set()

    async def refusal(self, path: str, *, shared: bool) -> str | None:
        """As the port says."""
        return f"{path} may not be mounted" if path in self.forbidden else None

    async def absence(self, path: str) -> str | None:
        """As the port says; all paths are there."""
        return await self.refusal(path, shared=False)


class SimulatedHost:
    """A machine with `gpus` GPUs and `ports` host ports to lend; its images are there already."""

    def __init__(
        self,
        gpus: int = 2,
        ports: int = 8,
        *,
        pullable: Sequence[str] = (),
        system_disk: DiskChoice = "commit",
        clones_share_blocks: bool = True,
        gpu_runtime: RuntimeChoice = "nvidia",
        keep_revisions: int = 10,
        orphan_grace_s: float = ORPHAN_GRACE_S,
    ) -> None:
        self.orphan_grace_s = orphan_grace_s
        self.system_disk: DiskChoice = system_disk
        self.gpu_runtime: RuntimeChoice = gpu_runtime
        self.clock = VirtualClock()
        self.ids = CountingIds()
        self.ledger = MemoryLedger()
        self.store = InlineStore()
        self.world = World(images=[IMAGE], registry=pullable)
        self.world.now_us = self.clock.now_us
        self.engine = SimulatedEngine(self.world, owner=OWNER)
        self.volumes = MemoryVolumes()
        self.disks = MemoryDisks(self.world, owner=OWNER)
        self.disks.reflink = clones_share_blocks
        self.paths = TextPaths()
        self.probe = ListProbe([gpu(index) for index in range(gpus)])
        self.facts = Facts(
            NODE,
            port_first=PORT_FIRST,
            port_last=PORT_FIRST + ports - 1,
            keep_revisions=keep_revisions,
        )


class SimulatedService:
    """One life of the service. Its parts are attributes, for tests that speak to one of them."""

    def __init__(
        self,
        host: SimulatedHost,
        *,
        ledger: Ledger | None = None,
        engine: ContainerEngine | None = None,
        volumes: VolumeStore | None = None,
        disks: SystemDisks | None = None,
        store: ReadStore | None = None,
        writer: Callable[[Ledger, Projector, str, Metrics], Writer] = Writer,
    ) -> None:
        """The ports given here take the place of the host's, such as ones that fail."""
        self.host = host
        self.ledger = ledger or host.ledger
        self.engine = engine or host.engine
        self._volumes = volumes or host.volumes
        self._disks = disks or host.disks
        self.metrics = Metrics()
        self.supervisor = Supervisor()
        self.remarks: dict[str, Component] = {}
        self._store = store or host.store
        self.projector = Projector(self.ledger.read, self._store)
        self.writer = writer(self.ledger, self.projector, NODE, self.metrics)
        self.gate = EngineGate(self.engine, self._disks, host.clock)
        self.facts = HostFacts(
            host.facts,
            self.gate,
            lambda: self.projector.state,
            None,
            host.gpu_runtime,
            host.system_disk,
        )
        self.watcher = Watcher(
            host.probe, self.writer, self.projector, host.clock, host.ids, self.facts
        )
        self.orphans = Orphans(
            OrphanWork(self.engine, self._volumes, self._disks, OWNER),
            self.ledger,
            self.projector,
            self.writer,
            host.clock,
            host.ids,
            self.facts,
            host.orphan_grace_s,
        )
        self.performer = Performer(
            self.engine,
            self._volumes,
            self._disks,
            host.paths,
            host.clock,
            owner=OWNER,
            node=NODE,
            stop_timeout_s=STOP_TIMEOUT_S,
        )
        self._stack = AsyncExitStack()

    @property
    def state(self) -> State:
        """What is folded by now."""
        return self.projector.state

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def _start(self, stack: AsyncExitStack) -> None:
        host = self.host
        await host.store.open()
        await stack.enter_async_context(self.supervisor)
        last_seq = await self.ledger.last_seq()
        await self.projector.load()
        self.supervisor.start("projector", self.projector.run())
        await self.projector.wait_stored(last_seq)
        self.supervisor.start("writer", self.writer.run())
        if self.state.node is None:
            command = RegisterNode(NODE, OWNER)
            await self.writer.submit(
                Envelope(host.ids.new(), host.clock.now_us(), command, host.facts)
            )
        with suppress(VolumeStoreError):
            await self._volumes.attach_all()
        await self.watcher.look()
        at_work = await stack.enter_async_context(Supervisor(self.supervisor.failures))
        self._begin_work(at_work)
        self.intake = LedgerIntake(
            self.writer,
            self.projector,
            self._store,
            self.performer,
            self.gate,
            host.clock,
            host.ids,
            self.facts,
            self.metrics,
            self._volumes,
            host.paths,
            FILE_STORAGE_PATH,
            self.watcher,
            self.orphans,
        )
        self.health = ServiceHealth(
            self.ledger,
            self.projector,
            self.gate,
            self.watcher,
            self.supervisor,
            self.facts,
            self.remarks,
        )

    def _begin_work(self, at_work: Supervisor) -> None:
        host = self.host
        self.executor = Executor(
            self.projector, self.writer, self.performer, host.clock, self.facts, self.metrics
        )
        at_work.start("executor", self.executor.run())
        at_work.start("watcher", self.watcher.run())
        retention = Retention(
            self.projector,
            self.writer,
            self._disks,
            host.clock,
            host.ids,
            self.facts,
            FREE_BYTES_MIN,
        )
        at_work.start("retention", retention.run())
        observer = Observer(
            self.engine,
            self.writer,
            self.projector,
            host.clock,
            host.ids,
            self.facts,
            OWNER,
            NODE,
        )
        at_work.start("observer", observer.run())
        retries = Retries(
            self.projector, self.writer, self.gate, host.clock, host.ids, self.facts
        )
        at_work.start("retries", retries.run())
        access = SimulatedAccess(host.engine, OWNER)
        self.gpu_access = GpuAccessWatch(
            access, self.writer, self.projector, host.clock, host.ids, self.facts
        )
        at_work.start("gpu-access", self.gpu_access.run())
        at_work.start("orphans", self.orphans.run())

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def submit(self, command: Request, key: str = "") -> Accepted | Rejected:
        """Hand a command in as the web layer does."""
        return await self.intake.submit(command, {}, Caller(idempotency_key=key))

    async def ended(self, accepted: Accepted | Rejected) -> Operation:
        """The operation once it has ended, seen as its caller sees it."""
        assert isinstance(accepted, Accepted), accepted
        operation = await self.intake.wait(accepted.operation_id, WAIT_S)
        assert operation is not None, f"{accepted.operation_id} did not end within {WAIT_S} s"
        return operation

    async def do(self, command: Request, key: str = "") -> Operation:
        """Hand a command in that must be accepted, and wait for its end."""
        return await self.ended(await self.submit(command, key))

    async def succeed(self, *commands: Request) -> None:
        """Hand commands in, one after the other; each must come to a good end."""
        for command in commands:
            operation = await self.do(command)
            assert operation.state == "succeeded", operation.message
