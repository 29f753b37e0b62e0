"""`gpuledger serve`: everything put together, in order, until Ctrl-C or SIGTERM."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version

from aiohttp import web

from projections.projector import Projector
from service.adapters.system import SystemClock, TimedIds
from service.application.disk_diff import DiskDiff
from service.application.engine_gate import EngineGate
from service.application.event_feed import EventFeed
from service.application.executor import Executor
from service.application.gpu_access import GpuAccessWatch
from service.application.health import Component
from service.application.host_facts import HostFacts
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
from service.bootstrap.access import Door, open_door
from service.bootstrap.auditing import open_audit
from service.bootstrap.catching_up import catch_up
from service.bootstrap.gauges import show_gauges
from service.bootstrap.host import Host, docker_detail, facts_of
from service.bootstrap.ledger import OpenLedger, make_data_dir
from service.bootstrap.listening import is_ours, listen
from service.bootstrap.past import open_explainer, open_past
from service.bootstrap.stopping import Stopping, wind_down
from service.bootstrap.told import told
from service.bootstrap.webhooks import open_webhooks
from service.disk_ports import SystemDisks, VolumeStore
from service.domain.commands import Envelope, Facts, RegisterNode
from service.errors import SettingsError, VolumeStoreError
from service.ports import ContainerEngine
from service.settings import Settings
from service.telemetry import Metrics, configure_logging, start_tracing
from service.web.app import make_app
from service.web.context import NodeFacts, WebContext
from service.web.schemas import DiskPaths

log = logging.getLogger(__name__)


async def serve(
    settings: Settings, say: Callable[[str], None] = print, host: Host | None = None
) -> int:
    """Run the service until it is told to stop; the exit code. `say` gets lines for people.

    Raises GpuledgerError with one line for people when it cannot start.
    """
    stopping = Stopping()
    stopping.listen()
    configure_logging(settings.log_level)
    logging.getLogger("aiohttp.server").addFilter(is_ours)
    with stopping.until_told():
        async with AsyncExitStack() as stack:
            door = await open_door(settings, SystemClock())
            service = Service(settings, host or Host(), door)
            await service.open_log(stack)
            await service.open_host(stack)
            address = await listen(stack, settings, service.app(), door.context)
            say(f"gpuledger serves on {door.scheme}://{address}")
            for line in service.banner():
                say(line)
            await stopping.wait_started()
            say("stopping")
            await wind_down(service.intake, service.executor)
    return 0


class Service:
    """The parts of one service, made in the order in which they need each other."""

    def __init__(self, settings: Settings, host: Host, door: Door) -> None:
        self.settings = settings
        self.host = host
        self.door = door
        self.metrics = Metrics()
        self.clock = SystemClock()
        self.ids = TimedIds()
        self.supervisor = Supervisor()
        self.remarks: dict[str, Component] = {}

    async def open_log(self, stack: AsyncExitStack) -> None:
        """The log and what is folded from it; the installation is registered in it."""
        settings = self.settings
        make_data_dir(settings.data_dir)
        stop_tracing = start_tracing(node=settings.node, endpoint=settings.otlp_endpoint)
        stack.push_async_callback(asyncio.to_thread, stop_tracing)
        self.opened: OpenLedger = await stack.enter_async_context(
            self.host.ledger(settings, self._on_nats_failed, self._on_nats_full)
        )
        with told(settings.data_dir):
            self.store = await stack.enter_async_context(self.host.read_store(settings))
        self.projector = Projector(self.opened.ledger.read, self.store)
        await stack.enter_async_context(self.supervisor)
        if self.door.tls is not None:
            self.supervisor.start("tls", self.door.tls.follow(self.clock))
        with told(settings.data_dir):
            await catch_up(
                self.opened.ledger, self.projector, self.supervisor, self.clock, settings.data_dir
            )
        self.writer = Writer(self.opened.ledger, self.projector, settings.node, self.metrics)
        self.supervisor.start("writer", self.writer.run())
        self.owner = await self._register()
        on = self.opened, self.projector, self.store, self.clock, self.owner, self.metrics
        self.audit = await open_audit(stack, settings, *on, self.supervisor.failures)

    def _on_nats_failed(self, reason: str) -> None:
        self.remarks["nats"] = Component(False, reason)

    def _on_nats_full(self, reason: str) -> None:
        self.remarks.pop("nats", None)
        if reason:
            self.remarks["nats"] = Component(False, reason)

    async def _register(self) -> str:
        """The owner of this installation's containers; the first start makes it up."""
        node = self.projector.state.node
        if node is not None and node.node != self.settings.node:
            raise SettingsError(
                f"this ledger is of node {node.node}, not {self.settings.node}: start with"
                f" --node {node.node}, or with another --data-dir"
            )
        if node is not None:
            return node.owner
        owner = self.ids.new()
        await self.writer.submit(
            Envelope(
                command_id=self.ids.new(),
                issued_at_us=self.clock.now_us(),
                command=RegisterNode(self.settings.node, owner),
                facts=Facts(self.settings.node),
                actor="service",
            )
        )
        return owner

    async def open_host(self, stack: AsyncExitStack) -> None:
        """Docker, the GPUs and the disks of this host, and what acts on them."""
        settings = self.settings
        engine, close_engine = self.host.engine(settings, self.owner)
        stack.push_async_callback(close_engine)
        disks, close_disks = self.host.disks(settings, self.owner)
        stack.push_async_callback(close_disks)
        self.gate = EngineGate(engine, disks, self.clock)
        volumes = self.volumes = await self.host.volumes(settings)
        self.probe, handed_over = self.host.probe(settings)
        stack.push_async_callback(self.probe.close)
        base = await self._base_facts(volumes)
        self.facts = HostFacts(
            base,
            self.gate,
            lambda: self.projector.state,
            handed_over,
            settings.gpu_runtime,
            settings.system_disk,
        )
        self.paths = self.host.paths(settings)
        compare_images, close_diffs = self.host.image_diffs(settings, self.owner)
        stack.push_async_callback(close_diffs)
        self.disk_diff = DiskDiff(lambda: self.projector.state, disks.changes, compare_images)
        self.performer = Performer(
            engine,
            volumes,
            disks,
            self.paths,
            self.clock,
            owner=self.owner,
            node=settings.node,
            stop_timeout_s=settings.stop_timeout_s,
        )
        self._open_looks(stack, OrphanWork(engine, volumes, disks, self.owner))
        self.watcher = Watcher(
            self.probe, self.writer, self.projector, self.clock, self.ids, self.facts
        )
        await self.watcher.look()
        self.gpu_detail = self.watcher.trouble or await self.probe.describe()
        self.docker_detail = await docker_detail(self.gate)
        self.executor = Executor(
            self.projector, self.writer, self.performer, self.clock, self.facts, self.metrics
        )
        # Stopped before the engine is closed: this context is entered after the engine's.
        at_work = await stack.enter_async_context(Supervisor(self.supervisor.failures))
        self.begin_work(at_work, engine, disks)

    def _open_looks(self, stack: AsyncExitStack, work: OrphanWork) -> None:
        """What is looked for now and then, beside the containers themselves."""
        self.orphans = Orphans(
            work,
            self.opened.ledger,
            self.projector,
            self.writer,
            self.clock,
            self.ids,
            self.facts,
            self.settings.orphan_grace_s,
        )
        access, close_access = self.host.gpu_access(self.settings, self.owner)
        stack.push_async_callback(close_access)
        self.gpu_access = GpuAccessWatch(
            access, self.writer, self.projector, self.clock, self.ids, self.facts
        )

    def begin_work(
        self, at_work: Supervisor, engine: ContainerEngine, disks: SystemDisks
    ) -> None:
        """Start what acts on the host, and what looks at it."""
        at_work.start("executor", self.executor.run())
        at_work.start("watcher", self.watcher.run())
        retention = Retention(
            self.projector,
            self.writer,
            disks,
            self.clock,
            self.ids,
            self.facts,
            self.settings.free_bytes_min,
        )
        at_work.start("retention", retention.run())
        observer = Observer(
            engine,
            self.writer,
            self.projector,
            self.clock,
            self.ids,
            self.facts,
            self.owner,
            self.settings.node,
        )
        at_work.start("observer", observer.run())
        retries = Retries(
            self.projector, self.writer, self.gate, self.clock, self.ids, self.facts
        )
        at_work.start("retries", retries.run())
        at_work.start("gpu-access", self.gpu_access.run())
        at_work.start("orphans", self.orphans.run())

    async def _base_facts(self, volumes: VolumeStore) -> Facts:
        _, self.volume_detail = await volumes.probe()
        try:
            # Also of a backend that makes no new ones: there may be old ones.
            await volumes.attach_all()
        except VolumeStoreError as error:
            log.error("a volume has no device: %s", error)
            self.remarks["volumes"] = Component(False, str(error))
        return facts_of(self.settings)

    def app(self) -> web.Application:
        """The web application on these parts."""
        self.intake = LedgerIntake(
            self.writer,
            self.projector,
            self.store,
            self.performer,
            self.gate,
            self.clock,
            self.ids,
            self.facts,
            self.metrics,
            self.volumes,
            self.paths,
            self.settings.file_storage_path,
            self.watcher,
            self.orphans,
        )
        health = ServiceHealth(
            self.opened.ledger,
            self.projector,
            self.gate,
            self.watcher,
            self.supervisor,
            self.facts,
            self.remarks,
            self.audit.component,
        )
        feed = EventFeed(self.opened.ledger, self.projector)
        show_gauges(self.metrics, self.projector, feed)
        parts = self.opened, self.projector, self.store, self.supervisor
        past = open_past(self.settings.data_dir, *parts)
        work = self.intake, self.ids, self.clock, self.supervisor, self.metrics
        webhooks = open_webhooks(self.settings, feed, self.projector, *work)
        return make_app(
            WebContext(
                intake=self.intake,
                present=self.store,
                past=past,
                explainer=open_explainer(self.settings, self.opened, self.store, past),
                health=health,
                metrics=self.metrics,
                ids=self.ids,
                node=self._node_facts,
                port_first=self.settings.port_first,
                port_last=self.settings.port_last,
                wait_timeout_s=self.settings.wait_timeout_s,
                disk_diff=self.disk_diff,
                access=self.door.access,
                orphans=self.orphans.look,
                now_us=self.clock.now_us,
                feed=feed,
                webhooks=webhooks,
                refusals=self.audit.refusals,
                audit=self.audit.audit,
                disks=DiskPaths(self.settings.data_disk_path, self.settings.file_storage_path),
            )
        )

    def _node_facts(self) -> NodeFacts:
        info = self.gate.info
        return NodeFacts(
            node=self.settings.node,
            owner=self.owner,
            version=version("gpuledger"),
            versions={"docker": info.version if info else ""},
            gpu_runtime=self.facts.gpu_runtime(),
            gpu_detail=self.gpu_detail,
            volume_detail=self.volume_detail,
            disk_detail=self.facts.disk_detail(),
        )

    def banner(self) -> list[str]:
        """Lines for the person who started it."""
        return [
            f"  access   {self.door.detail}",
            f"  GPUs     {self.gpu_detail}",
            f"  Docker   {self.docker_detail}",
            f"  ledger   {self.opened.where}, {self.projector.folded_seq} records",
            f"  disks    {self.facts.disk_detail()}",
            f"  volumes  {self.volume_detail}",
        ]
