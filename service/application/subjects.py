"""What can be explained, as it was at a point: found by the name that people give it."""

import asyncio
import re
from collections.abc import Sequence

from msgspec import Struct

from projections.historic import HistoricReads
from projections.state import GpuUnit, Operation, Revision, State
from service.application.stored_records import StoredRecords
from service.domain import explaining_answers as answers
from service.domain.explaining import (
    Address,
    Fact,
    Source,
    SubjectKind,
    gpu_addresses,
    revision_source,
)
from service.domain.explaining_events import sentence

LAST_OPERATIONS = 20
"""The last command that was to change a replica set is among so many of its last ones."""

SETS_TOLD_MAX = 50
"""Of so many versions that had a GPU or port it is told when it became theirs, the newest."""

_CHANGES_NOTHING = ("execute", "commit", "pin", "unpin")
_VERSION = re.compile(r"(?P<name>[^@]+)@(?P<number>[1-9][0-9]{0,8})")
_NUMBER = re.compile(r"[0-9]{1,18}")


class Bounds(Struct, frozen=True):
    """What is asked for, and what an answer about host ports needs of the installation."""

    everything: bool
    """The history too, not only what still matters."""
    now_us: int
    port_first: int
    port_last: int


class Subject(Struct, frozen=True):
    """A thing that there is: how it is, and where its records are."""

    kind: SubjectKind
    name: str
    """As records have it: a GPU's UUID."""
    facts: tuple[Fact, ...]
    addresses: tuple[Address, ...] = ()
    number: int = 0
    """The version that it is asked of; 0 is the thing as it is now."""
    had: tuple[Source, ...] = ()
    """Records of its history that are at no address of its own, the newest first."""
    operation: Operation | None = None


async def subject_of(
    kind: SubjectKind, name: str, reads: HistoricReads, records: StoredRecords, bounds: Bounds
) -> Subject | None:
    """The thing of a kind and name; None when there was none. Raises what reading raises."""
    match kind:
        case "replicaSet":
            return await _replica_set(name, reads)
        case "volume":
            return _volume(name, reads.state)
        case "gpu":
            # In a thread: of ten thousand versions it takes longer than others should wait.
            return await asyncio.to_thread(_gpu, name, reads.state, bounds.everything)
        case "port":
            return await asyncio.to_thread(_port, name, reads.state, bounds)
        case "operation":
            return await _operation(name, reads)
        case "record":
            return await _record(name, reads.state, records)


async def _replica_set(name: str, reads: HistoricReads) -> Subject | None:
    state = reads.state
    if match := _VERSION.fullmatch(name):
        name, number = match["name"], int(match["number"])
        revision = state.revisions.get((name, number))
        if revision is None:
            return None
        facts = tuple(answers.of_revision(state, revision))
        return Subject("replicaSet", name, facts, (("replica_set", name),), number)
    if name not in state.replica_sets:
        return None
    recent = await reads.operations(LAST_OPERATIONS, None, name)
    last = (o for o in recent if o.kind == "replica_set" and o.verb not in _CHANGES_NOTHING)
    facts = tuple(answers.of_replica_set(state, name, next(last, None)))
    return Subject("replicaSet", name, facts, (("replica_set", name),))


def _volume(name: str, state: State) -> Subject | None:
    volume = state.volumes.get(name)
    if volume is None:
        return None
    # A data disk was declared, and may have been undone, with the replica set of its name.
    addresses = (("volume", name), ("replica_set", name))
    return Subject("volume", name, tuple(answers.of_volume(state, volume)), addresses)


def _gpu(name: str, state: State, everything: bool) -> Subject | None:
    gpu = _gpu_named(name, state)
    if gpu is None:
        return None
    looked_at = state.revisions.values() if everything or gpu.holder is None else ()
    had = _newest([one for one in looked_at if gpu.uuid in one.gpus])
    addresses = gpu_addresses(gpu.uuid)
    if gpu.holder is None and had:
        addresses = (*addresses, ("replica_set", had[0].name))
    facts = tuple(answers.of_gpu(state, gpu, had[0] if had else None))
    return Subject("gpu", gpu.uuid, facts, addresses, had=_sources(state, had))


def _gpu_named(name: str, state: State) -> GpuUnit | None:
    """By UUID, else by index: a GPU that is gone may have left its index to another."""
    if (known := state.gpus.get(name)) is not None:
        return known
    same = [gpu for gpu in state.gpus.values() if str(gpu.index) == name]
    return min(same, key=lambda gpu: (not gpu.present, gpu.uuid), default=None)


def _port(name: str, state: State, bounds: Bounds) -> Subject | None:
    if not _NUMBER.fullmatch(name) or not 0 < int(name) <= 65_535:
        return None
    port = int(name)
    lease = state.ports.get(port)
    looked_at = state.revisions.values() if bounds.everything or lease is None else ()
    had = _newest(
        [one for one in looked_at if any(binding.host_port == port for binding in one.ports)]
    )
    holder = lease.holder if lease is not None else had[0].name if had else None
    addresses = (("replica_set", holder),) if holder is not None else ()
    range_ = bounds.port_first, bounds.port_last
    facts = answers.of_port(state, port, had[0] if had else None, bounds.now_us, range_)
    return Subject("port", str(port), tuple(facts), addresses, had=_sources(state, had))


def _newest(revisions: list[Revision]) -> list[Revision]:
    return sorted(revisions, key=lambda one: (-one.created_us, one.name, -one.number))


def _sources(state: State, revisions: Sequence[Revision]) -> tuple[Source, ...]:
    some = (revision_source(state, one.name, one.number) for one in revisions[:SETS_TOLD_MAX])
    return tuple(source for source in some if source is not None)


async def _operation(name: str, reads: HistoricReads) -> Subject | None:
    operation = await reads.operation(name)
    if operation is None:
        return None
    facts = tuple(answers.of_operation(operation))
    return Subject("operation", operation.id, facts, operation=operation)


async def _record(name: str, state: State, records: StoredRecords) -> Subject | None:
    if not _NUMBER.fullmatch(name) or not 0 < int(name) <= state.seq:
        return None
    told = await records.one(int(name))
    facts = tuple(Fact(sentence(event, state), told.seq) for event in told.record.events)
    return Subject("record", told.record.command_id, facts)
