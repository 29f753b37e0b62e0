"""Invariants: what must hold in every reachable state. A breach is a fault of ours."""

from collections.abc import Iterator

from msgspec import Struct

from projections.state import ReplicaSet, Revision, State
from service.domain.placement import held_gpus, held_ports
from service.domain.reconcile_orphans import expiring

IN_USE = ("created", "running", "exited")
"""A container that is there, as last observed."""


class Breach(Struct, frozen=True):
    """Something that must never be so."""

    subject: str
    message: str


def check(state: State) -> tuple[Breach, ...]:
    """All breaches. Its cost is that of the whole state: for tests and for `gpuledger check`."""
    return (
        *_gpu_leases(state),
        *_port_leases(state),
        *(breach for s in state.replica_sets.values() for breach in _replica_set(state, s)),
        *_containers_and_disks(state),
        *_debug_copies(state),
        *_operations(state),
        *_volumes(state),
    )


def _gpu_leases(state: State) -> Iterator[Breach]:
    for gpu in state.gpus.values():
        if (gpu.holder is None) != (not gpu.revisions):
            yield Breach(gpu.uuid, "it has a holder without a revision, or the other way round")
        if len(set(gpu.revisions)) != len(gpu.revisions):
            yield Breach(gpu.uuid, "one revision leases it twice")
        if gpu.occupants and gpu.holder is not None:
            yield Breach(gpu.uuid, "its holder's processes are taken for those of others")
        for number in gpu.revisions:
            revision = state.revisions.get((gpu.holder or "", number))
            if revision is None or gpu.uuid not in revision.gpus:
                yield Breach(gpu.uuid, f"leased by {gpu.holder}-{number}, which does not have it")
            elif not _counts(state, revision):
                yield Breach(gpu.uuid, f"leased by {gpu.holder}-{number}, which is retired")


def _port_leases(state: State) -> Iterator[Breach]:
    for lease in state.ports.values():
        if not lease.revisions or len(set(lease.revisions)) != len(lease.revisions):
            yield Breach(str(lease.host_port), "leased by no revision, or by one of them twice")
        for number in lease.revisions:
            revision = state.revisions.get((lease.holder, number))
            if revision is None or not _counts(state, revision):
                yield Breach(str(lease.host_port), f"leased by {lease.holder}-{number}: retired")


def _counts(state: State, revision: Revision) -> bool:
    replica_set = state.replica_sets[revision.name]
    return revision.number in (replica_set.current, replica_set.previous)


def _replica_set(state: State, replica_set: ReplicaSet) -> Iterator[Breach]:
    name = replica_set.name
    for number in (replica_set.current, replica_set.previous):
        revision = state.revisions.get((name, number)) if number else None
        if revision is None:
            continue
        if revision.container == "running" and not _holds_all(state, revision):
            yield Breach(f"{name}-{number}", "it runs without a lease on all its GPUs and ports")
    if replica_set.retry_due_us and not _waits(state, replica_set):
        yield Breach(name, "it is to be started again, and it has not ended by itself")
    if replica_set.operation is not None or not replica_set.current:
        return
    current = state.revisions[name, replica_set.current]
    held = held_gpus(state, name, current.number), held_ports(state, name, current.number)
    if replica_set.phase == "stopped" and any(held):
        yield Breach(name, "it is stopped and holds leases")
    if replica_set.phase in ("running", "paused") and not _holds_all(state, current):
        yield Breach(name, f"it is {replica_set.phase} and does not hold its leases")
    if replica_set.phase in ("paused", "stopped") and current.container == "running":
        yield Breach(name, f"it is {replica_set.phase} and its container runs")
    yield from _by_itself(state, replica_set, current)
    if replica_set.previous is not None:
        yield Breach(name, "it has a previous revision and no operation that retires it")
    if len(current.gpus) != current.spec.gpu_count:
        yield Breach(name, "it has not the number of GPUs that was asked for")


def _by_itself(state: State, replica_set: ReplicaSet, current: Revision) -> Iterator[Breach]:
    """What is done about a container that ended or was started by itself."""
    name, phase = replica_set.name, replica_set.phase
    if current.stray and phase == "running":
        yield Breach(name, "its container is to be stopped, and it is to run")
    starts = current.container == "exited" or current.gpu_access_lost_us
    if current.retrying and not (phase == "running" and starts):
        yield Breach(name, "its container is being started, and it is not to be or runs already")
    if current.gpu_access_lost_us and current.container != "running":
        yield Breach(name, "it lost its GPUs, and its container does not run")
    if current.remake:
        yield Breach(name, "its container is to be made anew, and no operation does it")
    halted = any(state.volumes[v].operation for v in state.volumes_used.get(name, ()))
    goes_on = current.container == "running" or current.retrying or replica_set.retry_due_us
    if phase == "running" and not halted and not goes_on:
        yield Breach(name, "it is to run, does not, and nobody does anything about it")


def _waits(state: State, replica_set: ReplicaSet) -> bool:
    """Is it to run, and did its container end by itself, or lose its GPUs?"""
    current = state.revisions.get((replica_set.name, replica_set.current))
    if current is None or replica_set.phase != "running":
        return False
    if current.container == "running":
        return current.gpu_access_lost_us > 0 and not current.retrying
    return current.container == "exited" and current.ended_alone and not current.retrying


def _holds_all(state: State, revision: Revision) -> bool:
    name, number = revision.name, revision.number
    return len(held_gpus(state, name, number)) == len(revision.gpus) and len(
        held_ports(state, name, number)
    ) == len(revision.ports)


def _containers_and_disks(state: State) -> Iterator[Breach]:
    in_use: dict[str, set[int]] = {}
    kept: dict[str, list[int]] = {}
    for revision in state.revisions.values():
        if revision.container in IN_USE:
            in_use.setdefault(revision.name, set()).add(revision.number)
        if revision.snapshot is not None:
            kept.setdefault(revision.name, []).append(revision.number)
        if revision.continued_as is not None:
            yield from _continued(state, revision, revision.continued_as)
    for name, replica_set in state.replica_sets.items():
        if not replica_set.current:
            continue
        others = {replica_set.previous} if replica_set.operation is not None else set()
        if spare := in_use.get(name, set()) - {replica_set.current} - others:
            yield Breach(name, f"versions {sorted(spare)} still have containers")
        listed = replica_set.snapshots
        if sorted(listed) != sorted(kept.get(name, ())):
            yield Breach(name, "the system disks listed as kept are not those that are")
        if not {*replica_set.expiring, *replica_set.to_compact} <= set(listed):
            yield Breach(name, "a system disk that is not kept is to be given up or compacted")
        yield from _source(state, state.revisions[name, replica_set.current])


def _continued(state: State, revision: Revision, later: int) -> Iterator[Breach]:
    """One whose container went on under another number has nothing of its own any more."""
    subject = f"{revision.name}-{revision.number}"
    if revision.snapshot is not None or revision.container in IN_USE or revision.pinned:
        yield Breach(subject, f"it went on as {later}, and has a system disk of its own")
    if later <= revision.number or (revision.name, later) not in state.revisions:
        yield Breach(subject, f"it went on as {later}, which does not come after it")


def _source(state: State, current: Revision) -> Iterator[Breach]:
    """The system disk that a revision starts with is there until it has it."""
    waits = current.container == "absent" or (current.container == "created" and not current.filled)
    if current.disk_from is None or not waits:
        return
    source = state.revisions.get((current.name, current.disk_from))
    has_disk = source is not None and (source.snapshot or source.container in IN_USE)
    if source is None or not has_disk or source.expiring:
        yield Breach(
            f"{current.name}-{current.number}",
            f"the system disk of {current.disk_from}, which it is to start with, is gone",
        )


def _debug_copies(state: State) -> Iterator[Breach]:
    """A disk is lent while somebody copies it, and is there; an image goes with its set."""
    for replica_set in state.replica_sets.values():
        name = replica_set.name
        if replica_set.debug_image and not replica_set.current:
            yield Breach(name, f"it was deleted, and its image {replica_set.debug_image} was not")
        for loan in replica_set.loans:
            copy = state.live(loan.to)
            if copy is None or copy.operation != loan.operation:
                yield Breach(name, f"its disk is lent to {loan.to}, which is not being made")
            lent = state.revisions.get((name, loan.version))
            has_disk = lent is not None and (lent.snapshot or lent.container in IN_USE)
            if lent is None or not has_disk or lent.expiring:
                yield Breach(name, f"the disk of {loan.version} is lent to {loan.to}, and gone")
        current = state.revisions.get((name, replica_set.current))
        copied = current.copied if current is not None else None
        if copied is None or current is None or current.container != "absent" or copied.imaged:
            continue
        if replica_set.failure is not None:
            continue  # it is not made any more
        if all(loan.to != name for loan in state.replica_sets[copied.of].loans):
            yield Breach(name, f"it begins with a disk of {copied.of}, which does not lend it")


def _operations(state: State) -> Iterator[Breach]:
    for operation in state.operations.values():
        if operation.state != "running":
            continue
        if operation.verb == "execute":
            known = state.replica_sets[operation.name]
            owned = any(e.operation_id == operation.id for e in known.executions)
        elif operation.kind == "volume":
            owned = state.volumes[operation.name].operation == operation.id
        elif operation.kind == "orphan":
            removed = expiring(state, operation.name)
            owned = removed is not None and removed.operation_id == operation.id
        else:
            owned = state.replica_sets[operation.name].operation == operation.id
        if not owned:
            yield Breach(operation.id, f"the {operation.verb} of {operation.name} has no end")


def _volumes(state: State) -> Iterator[Breach]:
    for volume in state.volumes.values():
        if volume.operation is not None and volume.operation not in state.operations:
            yield Breach(volume.name, "it waits for an operation that is not known")
        if volume.operation is None and volume.current and not volume.deleted:
            version = next(v for v in volume.versions if v.number == volume.current)
            if not version.made and not volume.lost:
                yield Breach(volume.name, "its current version was never made")
