"""What must be so when a simulation has come to rest, whatever happened on the way."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field

from events.codec import decode
from events.debug_copies import DebugCopyBegun, DebugImageMade
from events.labels import LABEL_OWNER
from events.operations import OperationAccepted, OperationFailed, OperationSucceeded
from events.outcomes import CommandExecuted, ContainerStarted, EffectFailed
from events.record import Record
from events.replica_sets import ExecutionRequested, RevisionDeclared
from events.resources import (
    GpuAppeared,
    GpuDisappeared,
    GpuOccupied,
    GpuQuarantined,
    GpuRestored,
    GpusLeased,
    GpusReleased,
    GpuVacated,
)
from events.values import versioned
from projections.projector import Projector
from projections.state import State
from projections.tables import Row
from service.application.check import compare_engine
from service.domain.commands import ExpireSnapshots
from service.domain.invariants import check
from service.domain.reconcile import SNAPSHOT_REPOSITORY, reconcile
from service.domain.retention import due_to_expire
from service.ports import StoredEntry
from tests.kit.builders import OWNER
from tests.kit.decided_again import decided_again
from tests.kit.inline_store import InlineStore
from tests.kit.logs import content
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.simulation.clients import Told
from tests.simulation.line import Seen


async def records_of(ledger: MemoryLedger) -> list[Record]:
    """Everything in the ledger."""
    last_seq = await ledger.last_seq()
    return [decode(entry.body) async for batch in ledger.read(0, last_seq) for entry in batch]


async def check_at_rest(service: SimulatedService) -> None:
    """The service by itself: nothing due, nothing broken, and the rows say the same."""
    state = service.state
    assert check(state) == ()
    assert [o for o in state.operations.values() if o.state == "running"] == []
    assert due(state) == []
    fresh, rows = await fresh_fold(service.host.ledger)
    assert content(state) == content(fresh)
    assert await service.host.store.dump() == rows


def check_every_record(entries: Sequence[StoredEntry]) -> None:
    """The rules held all the way, and each decision comes out the same again."""
    for entry, record, state in decided_again(entries):
        assert check(state) == (), f"after record {entry.seq}: {record.events}"


async def fresh_fold(ledger: MemoryLedger) -> tuple[State, dict[str, list[Row]]]:
    """State and rows of the whole ledger, projected in one go."""
    last_seq = await ledger.last_seq()

    def read(after_seq: int) -> AsyncIterator[Sequence[StoredEntry]]:
        return ledger.read(after_seq, last_seq)

    async with InlineStore() as store:
        projector = Projector(read, store)
        await projector.run()
        return projector.state, await store.dump()


def due(state: State) -> list[object]:
    """Every effect that is due."""
    kinds: dict[str, Iterable[str]] = {"replica_set": state.replica_sets, "volume": state.volumes}
    named = ((kind, name) for kind, names in kinds.items() for name in names)
    return [effect for kind, name in named for effect in reconcile(state, kind, name)]


def waiting(state: State) -> list[str]:
    """The replica sets that are to be started again at some time."""
    return [name for name, one in state.replica_sets.items() if one.retry_due_us]


def check_retention(service: SimulatedService) -> None:
    """No system disk is kept that is to be given up, and what cannot be had back says why."""
    state, facts, now_us = service.state, service.facts(), service.host.clock.now_us()
    for name in state.replica_sets:
        assert due_to_expire(state, facts, now_us, ExpireSnapshots(name)) == ()
    for revision in state.revisions.values():
        assert revision.expiring == ""
        assert not (revision.gone and revision.snapshot)


async def check_world(state: State, host: SimulatedHost) -> None:
    """Docker and the disks hold what the ledger says, no more and no less."""
    shown = await host.engine.list_containers({LABEL_OWNER: OWNER})
    assert compare_engine(state, shown) == []
    images = {i for i in host.world.images if i.startswith(SNAPSHOT_REPOSITORY)}
    kept = {(r.snapshot_carry, r.snapshot) for r in state.revisions.values() if r.snapshot}
    kept |= {("commit", s.debug_image) for s in state.replica_sets.values() if s.debug_image}
    there = {("commit", i) for i in images} | {("upper", d) for d in host.disks.kept}
    assert kept == there
    live = [v for v in state.volumes.values() if v.current and not v.deleted]
    sizes = {v.name: n.size_bytes for v in live for n in v.versions if n.number == v.current}
    assert {name: disk.size_bytes for name, disk in host.volumes.disks.items()} == sizes
    made = {versioned(v.name, n.number) for v in live for n in v.versions if n.made}
    assert set(host.world.volumes) == made


def check_told(told: Sequence[Told], records: Sequence[Record]) -> None:
    """Whoever was told something was told the truth."""
    stored: dict[str, list[tuple[int, str]]] = {}
    ends: dict[str, list[str]] = {}
    for seq, record in enumerate(records, 1):
        for event in record.events:
            if isinstance(event, OperationAccepted):
                # The service's own, such as a restart for another host port, have none.
                ticket = event.request.get("ticket", "")
                stored.setdefault(ticket, []).append((seq, event.operation_id))
            elif isinstance(event, OperationSucceeded):
                ends.setdefault(event.operation_id, []).append("succeeded")
            elif isinstance(event, OperationFailed):
                ends.setdefault(event.operation_id, []).append("failed")
    for one in told:
        found = stored.get(one.ticket, [])
        assert len(found) <= 1, f"{one.ticket} was stored more than once"
        assert one.stored in (None, bool(found)), f"{one} is not so: {found}"
        if one.accepted is not None:
            assert found == [(one.accepted.seq, one.accepted.operation_id)], one
        if one.ended is not None:
            assert ends[one.ended.id] == [one.ended.state]


def check_done_once(records: Sequence[Record], seen: Seen) -> None:
    """No command ran twice, and no container was started that was not to be started."""
    assert seen.breaches == []
    again = {text: count for text, count in seen.executed.items() if count > 1}
    assert not again, f"executed more than once: {again}"
    events = [event for record in records for event in record.events]
    recorded = Counter(e.operation_id for e in events if isinstance(e, CommandExecuted))
    assert all(count == 1 for count in recorded.values())
    starts = {(e.name, e.revision, e.started_at) for e in events if isinstance(e, ContainerStarted)}
    really = {(*name.rsplit("-", 1), at) for name, ats in seen.starts.items() for at in ats}
    told = {(name, str(number), at) for name, number, at in starts}
    # What somebody else started just before us is as good as started; and of one that he started
    # anew or removed right after us, when our reply was lost, our start is not known; nor of one
    # that was refused to the life before, whose record came when this one tried again already.
    others = {(name.rsplit("-", 1)[0], at) for name, ats in seen.meddled.items() for at in ats}
    unsure = {tuple(name.rsplit("-", 1)) for name in (*seen.meddled, *seen.removed)}
    failed = (event for event in events if isinstance(event, EffectFailed))
    unsure |= {(e.name, str(e.number)) for e in failed if e.effect == "StartContainer"}
    assert {start for start in really - told if start[:2] not in unsure} == set()
    assert {start for start in told - really if (start[0], start[2]) not in others} == set()


def check_gpus(records: Sequence[Record]) -> None:
    """No GPU is lent to two, and none anew that is in quarantine, away, or used by others."""
    holders: dict[str, set[tuple[str, int]]] = {}
    obstacles: dict[str, set[str]] = {}
    for event in (event for record in records for event in record.events):
        match event:
            case GpusLeased(name=name, revision=number, uuids=uuids):
                for uuid in uuids:
                    held = holders.setdefault(uuid, set())
                    assert {holder for holder, _ in held} <= {name}, f"{event} of {held}"
                    assert held or not obstacles.get(uuid), f"{event} of {obstacles[uuid]}"
                    held.add((name, number))
            case GpusReleased(name=name, revision=number, uuids=uuids):
                for uuid in uuids:
                    holders[uuid].discard((name, number))
            case GpuQuarantined() | GpuDisappeared() | GpuOccupied():
                obstacles.setdefault(event.uuid, set()).add(type(event).__name__)
            case GpuRestored() | GpuAppeared() | GpuVacated():
                obstacles.get(event.uuid, set()).discard(OVERCOME[type(event)])


OVERCOME = {
    GpuRestored: GpuQuarantined.__name__,
    GpuAppeared: GpuDisappeared.__name__,
    GpuVacated: GpuOccupied.__name__,
}
"""What is in the way of a lease no more after which event."""


@dataclass
class Disk:
    """The system disk of one revision, by what the ledger says was written to it."""

    parent: "Disk | None" = None
    surely: set[str] = field(default_factory=set)
    perhaps: set[str] = field(default_factory=set)

    def all_surely(self) -> set[str]:
        return self.surely | (self.parent.all_surely() if self.parent else set())

    def all_perhaps(self) -> set[str]:
        return self.perhaps | (self.parent.all_perhaps() if self.parent else set())


def check_disks(records: Sequence[Record], host: SimulatedHost) -> None:
    """What a command wrote is there in every later container that carries the disk on.

    Every command writes a file of its own. Where its outcome is not known, it may be there.
    """
    disks: dict[tuple[str, int], Disk] = {}
    copied: dict[str, Disk] = {}
    writes: dict[str, tuple[Disk, str]] = {}
    for event in (event for record in records for event in record.events):
        match event:
            case RevisionDeclared(name=name, number=number, disk_from=disk_from):
                disks[name, number] = Disk(disks[name, disk_from] if disk_from else None)
            case DebugCopyBegun(of=of, version=version):
                copied[event.name] = disks[of, version]
                disks[event.name, event.number].surely |= disks[of, version].all_surely()
                disks[event.name, event.number].perhaps |= disks[of, version].all_perhaps()
            case DebugImageMade():
                # What was being executed meanwhile in the container that was copied.
                disks[event.name, event.number].perhaps |= copied[event.name].all_perhaps()
            case ExecutionRequested():
                disk, path = disks[event.name, event.number], event.cmd[-1].split(" > ")[1]
                disk.perhaps.add(path)
                writes[event.operation_id] = disk, path
            case CommandExecuted(exit_code=0):
                disk, path = writes[event.operation_id]
                disk.surely.add(path)
    for name, container in host.world.containers.items():
        base, _, revision = name.rpartition("-")
        carried = disks[base, int(revision)]
        assert carried.all_surely() <= set(container.files), f"{name} has lost files"
        assert set(container.files) <= carried.all_perhaps(), f"{name} has files of others"
