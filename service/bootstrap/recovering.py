"""`gpuledger restore --execute`: from a log to the containers, on a host that has not got them.

First the plan is made, from the records alone and from what the host shows, and nothing is written.
Then the service's own parts do it, without its door: no observer that takes what is to be made
again for removed, and nobody who asks for anything else meanwhile.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec.structs import replace

from projections.state import State
from service.adapters.system import SystemClock
from service.adapters.volume_choice import choose
from service.application.engine_gate import EngineGate
from service.application.host_facts import HostFacts
from service.application.host_sight import look
from service.application.recovery import Recovery
from service.application.supervisor import Supervisor
from service.audit_ports import RefusalsVerified
from service.bootstrap.access import open_door
from service.bootstrap.backing_up import is_restored, restore, state_of_backup, state_of_log
from service.bootstrap.host import Host, facts_of
from service.bootstrap.serving import Service
from service.disk_ports import SystemDisks
from service.domain.commands import Facts, ObserveGpus
from service.domain.recovery_plan import (
    Outcome,
    Plan,
    RecoveryReport,
    foreseen,
    go_on,
    plan,
)
from service.errors import SettingsError
from service.ports import ContainerEngine, GpuHealth
from service.settings import Settings
from service.telemetry import configure_logging


async def recover(
    settings: Settings,
    folder: Path | None,
    tell: Callable[[RecoveryReport], None],
    *,
    execute: bool,
    accept_losses: bool = False,
    restored: Callable[[RefusalsVerified | None], None] = lambda refusals: None,
) -> RecoveryReport:
    """Plan, and unless something is in the way or lost without leave, make all of it again.

    The log is that of the backup in `folder`, which is restored first, or goes on where it was
    left; or without one that of the data directory. Without `execute` nothing is written.
    `tell` hears the plan before anything is done, `restored` what
    was found of the refusals in the backup.
    Raises GpuledgerError with one line for people.
    """
    host = Host()
    has_log = folder is None or await is_restored(settings, folder)
    if folder is None or has_log:
        state = await state_of_log(settings)
    else:
        state = await state_of_backup(folder)
    planned = await _planned(settings, host, state)
    node = state.node.node if state.node is not None else ""
    report = RecoveryReport(node, state.seq, planned)
    tell(report)
    if not execute or planned.in_the_way or (planned.losses and not accept_losses):
        return report
    if folder is not None and not has_log:
        restored((await restore(settings, folder)).refusals)
    return replace(report, executed=True, outcomes=await _executed(settings, host))


async def _planned(settings: Settings, host: Host, state: State) -> Plan:
    node, clock = state.node, SystemClock()
    if node is None or node.node != settings.node:
        name = node.node if node is not None else "nobody"
        raise SettingsError(f"this log is of node {name}, not {settings.node}: give --node {name}")
    async with AsyncExitStack() as stack:
        engine, close_engine = host.engine(settings, node.owner)
        stack.push_async_callback(close_engine)
        disks, close_disks = host.disks(settings, node.owner)
        stack.push_async_callback(close_disks)
        gate = EngineGate(engine, disks, clock)
        await gate.require()
        probe, handed_over = host.probe(settings)
        stack.push_async_callback(probe.close)
        facts = HostFacts(
            facts_of(settings),
            gate,
            lambda: ahead,
            handed_over,
            settings.gpu_runtime,
            settings.system_disk,
        )
        ahead = _with_gpus(state, await probe.health(), facts_of(settings), clock.now_us())
        # One that is named: nothing is tried out for it, as nothing is made.
        volumes = await choose(settings.data_dir / "volumes", "loop")
        sight = await look(engine, volumes, disks, host.paths(settings), ahead)
        return plan(ahead, sight, facts(), clock.now_us())


def _with_gpus(state: State, health: GpuHealth, facts: Facts, now_us: int) -> State:
    """The state with the GPUs of this host, as the service will record them."""
    command = ObserveGpus(health.gpus, health.reports, health.missing, health.boot)
    ahead = state.copy()
    events = foreseen(ahead, facts, now_us, command, "planned")
    go_on(ahead, facts, now_us, command, "planned", events)
    return ahead


async def _executed(settings: Settings, host: Host) -> tuple[Outcome, ...]:
    """Nobody comes in meanwhile, so that it needs no tokens and no certificate."""
    configure_logging(settings.log_level)
    within = replace(settings, host="127.0.0.1", access=replace(settings.access, tls=None))
    async with AsyncExitStack() as stack:
        service = _Recovering(within, host, await open_door(within, SystemClock()))
        await service.open_log(stack)
        await service.open_host(stack)
        return await service.recover()


class _Recovering(Service):
    """The parts of a service of which only the executor works, and that when all is recorded."""

    def begin_work(
        self, at_work: Supervisor, engine: ContainerEngine, disks: SystemDisks
    ) -> None:
        """Begin nothing yet."""
        self._at_work = at_work
        self._recovery = Recovery(
            engine,
            self.volumes,
            disks,
            self.paths,
            self.projector,
            self.writer,
            self.clock,
            self.ids,
            self.facts,
            self._failed,
        )

    async def recover(self) -> tuple[Outcome, ...]:
        """Record what is to be made again, and make it. Raises GpuledgerError."""
        await self.gate.require()
        await self._recovery.begin(await self._recovery.plan())
        self._at_work.start("executor", self.executor.run())
        return await self._recovery.finish()

    def _failed(self) -> str | None:
        return next((f"{part}: {why}" for part, why in self.supervisor.failures.items()), None)
