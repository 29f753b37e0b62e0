"""How it is now, as facts, each with what its record can be found by.

All of it is read from the state of the point that is asked about: the answer is what the state
says, and the records say why.
"""

from collections.abc import Iterator

from events.codec import show_time
from events.observations import PortRefused
from events.values import show_size, split_versioned, versioned
from projections.state import (
    GpuUnit,
    Operation,
    PortLease,
    ReplicaSet,
    RestingPort,
    Revision,
    State,
    Volume,
)
from service.domain import explaining_aspects as aspects
from service.domain.explaining import (
    Aspect,
    Fact,
    Source,
    ailment_source,
    bindings,
    gpu_name,
    gpu_names,
    holder_name,
    quarantine_source,
    revision_source,
    to_the_second,
    volume_source,
    words,
)
from service.domain.explaining_events import operation_name
from service.domain.placement import held_gpus, held_ports
from service.domain.port_moves import REST_US

_CONTAINERS = {
    "absent": "it has no container yet",
    "created": "its container was made, and has not run yet",
    "removed": "its container was removed",
}


def of_replica_set(state: State, name: str, last: Operation | None) -> Iterator[Fact]:
    """Why a replica set is as it is; `last` is the last operation that was to change it."""
    replica_set = state.replica_sets[name]
    if not replica_set.current:
        yield Fact(f"{name} is not there any more", source=aspects.phase_of(name))
        yield from _last(last)
        return
    revision = state.revisions[name, replica_set.current]
    container = versioned(name, revision.number)
    source = revision_source(state, name, revision.number)
    yield Fact(f"{name} is {container}, by {revision.cause}", source=source)
    yield Fact(f"it is to be {replica_set.phase}", source=aspects.phase_of(name))
    yield container_fact(revision)
    yield from _leases(state, revision)
    yield from _trouble(state, revision)
    yield from _going_on(state, replica_set, revision)
    yield from _last(last)


def of_revision(state: State, revision: Revision) -> Iterator[Fact]:
    """Why a version of a replica set is as it is."""
    name, number = revision.name, revision.number
    current = state.replica_sets[name].current
    source = revision_source(state, name, number)
    yield Fact(f"{versioned(name, number)} was declared by {revision.cause}", source=source)
    if revision.continued_as is None:
        yield container_fact(revision)
    yield from _leases(state, revision)
    if revision.continued_as is not None:
        after = versioned(name, revision.continued_as)
        source = revision_source(state, name, revision.continued_as)
        yield Fact(f"its container, with its system disk, went on as {after}", source=source)
    elif revision.snapshot is not None:
        size = show_size(revision.snapshot_bytes)
        going = f", and is being given up: {revision.expiring}" if revision.expiring else ""
        yield Fact(f"its system disk is kept, {size}{going}", source=aspects.disk_of(name, number))
    elif revision.gone:
        text = f"its system disk is not kept any more: {revision.gone}"
        yield Fact(text, source=aspects.disk_of(name, number))
    if revision.pinned:
        text = "its system disk is kept until it is unpinned"
        yield Fact(text, source=aspects.pin_of(name, number))
    if number != current:
        now = versioned(name, current) if current else "none"
        yield Fact(f"the current version is {now}", source=aspects.retired_by(name, number))


def of_volume(state: State, volume: Volume) -> Iterator[Fact]:
    """Why a volume has its size, and who keeps it from being deleted."""
    name = volume.name
    if volume.deleted or not volume.current:
        yield Fact(f"volume {name} is not there any more", source=aspects.end_of(name))
        return
    version = next(one for one in volume.versions if one.number == volume.current)
    size, container = show_size(version.size_bytes), versioned(name, volume.current)
    source = volume_source(state, name, volume.current)
    yield Fact(f"volume {name} is {container} with {size}, by {version.cause}", source=source)
    if version.made:
        yield Fact("it can be mounted", source=aspects.made_as(name, volume.current))
    else:
        yield Fact("it cannot be mounted yet")
    if volume.deleting:
        yield Fact("it is being deleted", source=aspects.end_of(name))
    for user in sorted(state.volume_users.get(name, ())):
        number = state.replica_sets[user].current
        source = revision_source(state, user, number)
        yield Fact(f"{versioned(user, number)} uses it", source=source)
    yield from operation_facts(state, volume.operation)
    if volume.failure is not None:
        yield Fact(f"that is being undone: {words(volume.failure.message)}")


def of_gpu(state: State, gpu: GpuUnit, before: Revision | None) -> Iterator[Fact]:
    """Who has a GPU, or why nobody may have it; `before` is the newest version that had it."""
    title, holder = gpu_name(state, gpu.uuid), gpu.holder
    if holder is not None:
        for number in gpu.revisions:
            text = f"{versioned(holder, number)} has {title}"
            yield Fact(text, source=revision_source(state, holder, number))
    else:
        had = f"; {versioned(before.name, before.number)} had it" if before else ""
        source = aspects.leased(gpu.uuid) if before else None
        yield Fact(f"nobody has {title}{had}", source=source)
    if gpu.quarantine is not None:
        by = "by hand" if gpu.quarantine.by_hand else "by the rules"
        text = f"it is not lent, in quarantine {by}: {words(gpu.quarantine.why)}"
        yield Fact(text, source=quarantine_source(gpu))
    elif gpu.obstacle:
        source = aspects.occupied(gpu.uuid) if gpu.present else aspects.shown(gpu.uuid)
        yield Fact(f"it is not lent: {gpu.obstacle}", source=source)
    elif holder is None:
        yield Fact("it may be lent")
    for ailment in gpu.ailments:
        yield Fact(f"it is sick: {words(ailment.message)}", source=ailment_source(gpu, ailment))
    if gpu.present:
        text = f"it is {gpu.uuid}, {gpu.name}, at index {gpu.index}"
        yield Fact(text, source=aspects.shown(gpu.uuid))


def of_port(
    state: State,
    host_port: int,
    before: Revision | None,
    now_us: int,
    lent: tuple[int, int],
) -> Iterator[Fact]:
    """Who has a host port, or why nobody may have it; `before` is the newest version that had it,
    `lent` the first and last that are lent, by the settings."""
    lease = state.ports.get(host_port)
    if lease is not None:
        holder = holder_name(lease.holder, lease.revisions)
        text = f"{holder} has host port {host_port}, for {lease.container_port}"
        yield Fact(text, source=lease_source(state, lease))
    else:
        had = f"; {versioned(before.name, before.number)} had it" if before else ""
        source = aspects.port_lent(host_port) if before else None
        yield Fact(f"nobody has host port {host_port}{had}", source=source)
    if (resting := _resting(state, host_port, now_us)) is not None:
        until = to_the_second(show_time(resting.until_us))
        text = f"it is not lent until {until}: another process was found to have it"
        yield Fact(text, source=_rest_source(resting))
    if not lent[0] <= host_port <= lent[1]:
        yield Fact(f"it is outside of the range {lent[0]}-{lent[1]}, so it is not lent")
    elif lease is None and resting is None:
        yield Fact("it may be lent")


def of_operation(operation: Operation) -> Iterator[Fact]:
    """What was asked for, and how it ended."""
    title = operation_name(operation.verb, operation.kind, operation.name)
    by = f", asked for by {operation.actor}" if operation.actor else ""
    if operation.finished_us is None:
        yield Fact(f"{title}{by}, goes on", operation.seq)
        return
    took_s = (operation.finished_us - operation.accepted_us) / 1_000_000
    yield Fact(f"{title}{by}, {operation.state} after {took_s:.1f} s", operation.seq)
    if operation.state == "failed":
        text = f"it failed ({operation.reason}): {words(operation.message)}"
        yield Fact(text, operation.finished_seq)


def lease_source(state: State, lease: PortLease) -> Source | Aspect | None:
    """The record by which a host port has its holder: its declaration, unless its ports moved."""
    number = max(lease.revisions)
    revision = state.revisions[lease.holder, number]
    if revision.attempt or revision.remake:
        return aspects.port_lent(lease.host_port)
    return revision_source(state, lease.holder, number)


def _resting(state: State, host_port: int, now_us: int) -> RestingPort | None:
    resting = state.node.resting if state.node is not None else ()
    found = (one for one in resting if one.host_port == host_port and one.until_us > now_us)
    return next(found, None)


def _rest_source(resting: RestingPort) -> Source:
    """Whose it was then is not known any more: the record has no address here."""
    at_us = resting.until_us - REST_US
    return Source((), at_us, PortRefused, (("host_port", resting.host_port),))


def container_fact(revision: Revision) -> Fact:
    """What was last seen of a revision's container."""
    if revision.container == "running":
        text = f"its container runs since {to_the_second(revision.started_at)}"
    elif revision.container == "exited":
        alone = "ended by itself" if revision.ended_alone else "was stopped"
        text = f"its container {alone}, with exit code {revision.exit_code}"
        text += "; it was short of memory" * revision.oom_killed
    else:
        text = _CONTAINERS[revision.container]
    if revision.container == "absent":
        return Fact(text)
    return Fact(text, source=aspects.container_of(revision.name, revision.number))


def _leases(state: State, revision: Revision) -> Iterator[Fact]:
    name, number = revision.name, revision.number
    if revision.gpus:
        held = held_gpus(state, name, number)
        text = f"it has {gpu_names(state, held)}" if held else "it has given its GPUs back"
        yield Fact(text, source=aspects.gpus_of(name, number))
    if revision.ports:
        numbers = held_ports(state, name, number)
        had = tuple(port for port in revision.ports if port.host_port in numbers)
        text = f"it has host port {bindings(had)}" if had else "it has given its ports back"
        yield Fact(text, source=aspects.ports_of(name, number))


def _trouble(state: State, revision: Revision) -> Iterator[Fact]:
    name, number = revision.name, revision.number
    for uuid in held_gpus(state, name, number):
        gpu = state.gpus[uuid]
        for ailment in gpu.ailments:
            text = f"{gpu_name(state, uuid)} is sick: {words(ailment.message)}"
            yield Fact(text, source=ailment_source(gpu, ailment))
    if revision.gpu_access_lost_us:
        text = "its container may not use its GPUs any more"
        yield Fact(text, source=aspects.access_of(name, number))


def _going_on(state: State, replica_set: ReplicaSet, revision: Revision) -> Iterator[Fact]:
    if replica_set.retry_due_us:
        due = to_the_second(show_time(replica_set.retry_due_us))
        source = aspects.retry_of(revision.name, revision.number)
        yield Fact(f"it is to be started again at {due}", source=source)
    yield from operation_facts(state, replica_set.operation)
    if replica_set.failure is not None:
        yield Fact(f"that is being undone: {words(replica_set.failure.message)}")
    volumes = (split_versioned(bind.source) for bind in revision.spec.binds)
    for name in sorted({volume[0] for volume in volumes if volume is not None}):
        volume = state.volumes.get(name)
        if volume is not None and volume.operation not in (None, replica_set.operation):
            yield from operation_facts(state, volume.operation)


def operation_facts(state: State, operation_id: str | None) -> Iterator[Fact]:
    """That an operation goes on; nothing where none does."""
    operation = state.operations.get(operation_id or "")
    if operation is not None:
        title = operation_name(operation.verb, operation.kind, operation.name)
        yield Fact(f"{title} goes on, operation {operation.id}", operation.seq)


def _last(last: Operation | None) -> Iterator[Fact]:
    if last is not None and last.state == "failed":
        title = operation_name(last.verb, last.kind, last.name)
        text = f"the last that was asked for failed, {title}: {words(last.message)}"
        yield Fact(text, last.finished_seq)
