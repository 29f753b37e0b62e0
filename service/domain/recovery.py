"""The rules for what was lost with a host: containers and volumes are made again on this one.

A revision stays the one it is. Its container begins with the newest kept system disk that it comes
from and that is here, or with the bare image; GPUs and ports stay the same where they are there.
"""

from collections.abc import Iterator

from events.operations import OperationFailed, OperationSucceeded
from events.outcomes import EffectFailed, SnapshotRemoved
from events.record import Event
from events.recovery import ContainerLost, RecoveryBegun, VolumeLost
from events.replica_sets import RevisionUnpinned
from events.resources import GpusLeased, GpusReleased, PortsLeased, PortsReleased
from events.values import Phase, PortBinding
from projections.state import Operation, ReplicaSet, Revision, State, Volume
from service.domain.commands import Envelope
from service.domain.guards import Decision, accepted, not_found
from service.domain.placement import held_gpus, held_ports, place_gpus, place_ports
from service.domain.port_moves import resting_ports
from service.domain.reconcile import DECLARING
from service.domain.recovery_commands import RecoverReplicaSet, RecoverVolume
from service.domain.recovery_copies import HOST_LOST, copies_in_vain, debug_lost, is_lost
from service.domain.rejections import Reason, Rejected

NOT_HERE = "it is not on the host that was recovered"

Placed = tuple[tuple[str, ...], tuple[PortBinding, ...]]


def recover(state: State, envelope: Envelope, command: RecoverReplicaSet) -> Decision:
    """What is not here any more is told; the container is made again as it was to be.

    A run, patch, rollback or restart that was going on goes on with a new container, or is undone
    if that had begun, as is a debug copy: what it would begin with is not here. A recovery begins
    once more; one that is deleted goes on being deleted. Whatever else was going on ends.
    """
    replica_set = state.live(command.name)
    if replica_set is None:
        return not_found(command.name)
    operation = state.operations.get(replica_set.operation or "")
    in_vain = tuple(copies_in_vain(state, replica_set, command))
    gone = (*in_vain, *_kept_gone(state, replica_set, command))
    if operation is not None and operation.verb == "debug" and replica_set.failure is None:
        decided = debug_lost(state, command, replica_set)
    elif operation is not None and operation.verb in DECLARING:
        undone = replica_set.failure is not None
        events = _undone if undone else _goes_on
        decided = (*gone, *events(state, envelope, command, replica_set))
    elif operation is not None and operation.verb == "recover" and replica_set.failure is None:
        decided = (*gone, *_lost_again(state, envelope, command, replica_set))
    elif operation is not None and operation.verb in ("delete", "recover"):
        decided = ()
    else:
        decided = (*gone, *_made_again(state, envelope, command, replica_set, operation))
    if not decided:
        return Rejected(Reason.NOTHING_NEW, f"nothing of {command.name} was lost")
    if any(isinstance(event, ContainerLost) for event in decided):
        return (*_cut_off(replica_set), *decided)
    return decided


def recover_volume(state: State, envelope: Envelope, command: RecoverVolume) -> Decision:
    """Its disk is found or made, and the engine's volume on it; what is going on does that."""
    volume = state.live_volume(command.name)
    if volume is None:
        return Rejected(Reason.VOLUME_NOT_FOUND, f"there is no volume {command.name}")
    if is_data_disk_made(state, volume):
        return (VolumeLost(command.name, volume.current, empty=not command.disk),)
    if volume.operation is not None:
        return Rejected(
            Reason.OPERATION_IN_PROGRESS,
            f"volume {command.name} is being changed (operation {volume.operation})",
        )
    return (
        accepted(envelope, "recover", command.name, "volume"),
        VolumeLost(command.name, volume.current, empty=not command.disk),
    )


def is_data_disk_made(state: State, volume: Volume) -> bool:
    """Is it the data disk of a run that is going on, which has it already and counts on it?"""
    operation = state.operations.get(volume.operation or "")
    is_run = operation is not None and operation.kind == "replica_set"
    made = any(v.made for v in volume.versions if v.number == volume.current)
    return is_run and made and not volume.deleting


def _cut_off(replica_set: ReplicaSet) -> Iterator[Event]:
    """Commands that were running in the container have no end that anybody will know."""
    for execution in replica_set.executions:
        yield EffectFailed(
            operation_id=execution.operation_id,
            effect_id=f"{execution.operation_id}/execute",
            effect="Execute",
            kind="replica_set",
            name=replica_set.name,
            number=execution.number,
            reason="host_lost",
            message=HOST_LOST,
        )
        yield OperationFailed(execution.operation_id, "host_lost", HOST_LOST)


def _kept_gone(
    state: State, replica_set: ReplicaSet, command: RecoverReplicaSet
) -> Iterator[Event]:
    """Kept system disks that are not here: nobody can go back to them any more.

    But not one that a container which is here waits for: that fails first, and is undone.
    """
    current = state.revisions[replica_set.name, replica_set.current]
    waits = current.container == "created" and current.number in command.containers
    awaited = current.disk_from if waits and not current.filled else None
    for number in replica_set.snapshots:
        kept = state.revisions[replica_set.name, number]
        if number != awaited and kept.snapshot is not None and kept.snapshot not in command.kept:
            if kept.pinned:
                yield RevisionUnpinned(kept.name, number)
            yield SnapshotRemoved(kept.name, number, kept.snapshot, NOT_HERE)


def _lost_again(
    state: State, envelope: Envelope, command: RecoverReplicaSet, replica_set: ReplicaSet
) -> tuple[Event, ...]:
    """A recovery of which nothing is left either: the same goes on, on this host."""
    current = state.revisions[replica_set.name, replica_set.current]
    lost, in_vain = is_lost(current, command), _waits_in_vain(state, envelope, command, current)
    if not lost and not in_vain:
        return ()
    phase = replica_set.phase
    told = (ContainerLost(current.name, current.number, phase),) if lost else ()
    return (*told, *_begun(state, envelope, command, current, phase, may_stop=True))


def _waits_in_vain(
    state: State, envelope: Envelope, command: RecoverReplicaSet, current: Revision
) -> bool:
    """Is the kept system disk that its container was to begin with not here?"""
    source = state.revisions.get((current.name, current.disk_from or 0))
    waits = current.container == "absent" and current.number not in command.containers
    was_kept = source is not None and source.snapshot is not None
    return waits and was_kept and source is not None and not _is_usable(source, envelope, command)


def _goes_on(
    state: State, envelope: Envelope, command: RecoverReplicaSet, replica_set: ReplicaSet
) -> tuple[Event, ...]:
    """What takes the place of another revision does so with a container made anew."""
    current = state.revisions[replica_set.name, replica_set.current]
    previous = state.revisions.get((replica_set.name, replica_set.previous or 0))
    lost = [one for one in (previous, current) if one is not None and is_lost(one, command)]
    in_vain = _waits_in_vain(state, envelope, command, current)
    anew = current.number not in command.containers and (lost or in_vain)
    events: list[Event] = [ContainerLost(one.name, one.number, "running") for one in lost]
    if anew:
        events += _begun(state, envelope, command, current, "running", may_stop=False)
    return tuple(events)


def _undone(
    state: State, envelope: Envelope, command: RecoverReplicaSet, replica_set: ReplicaSet
) -> tuple[Event, ...]:
    """What had failed is undone; what it goes back to can be made again after that."""
    previous = state.revisions.get((replica_set.name, replica_set.previous or 0))
    current = state.revisions[replica_set.name, replica_set.current]
    if previous is None:
        return ()
    lost = [previous] if is_lost(previous, command) else []
    both = not {previous.number, current.number} & set(command.containers)
    if is_lost(current, command) or (both and current.container == "absent"):
        lost.append(current)  # it may have been made, and is not here in any case
    return tuple(ContainerLost(one.name, one.number, replica_set.phase_before) for one in lost)


def _made_again(
    state: State,
    envelope: Envelope,
    command: RecoverReplicaSet,
    replica_set: ReplicaSet,
    operation: Operation | None,
) -> tuple[Event, ...]:
    current = state.revisions[replica_set.name, replica_set.current]
    lost = is_lost(current, command)
    if not lost and (current.lost is None or current.container != "removed" or current.snapshot):
        return ()
    phase = replica_set.phase if lost or current.lost is None else current.lost
    told = (ContainerLost(current.name, current.number, phase),) if lost else ()
    return (
        *told,
        *_ended(operation),
        accepted(envelope, "recover", command.name),
        *_begun(state, envelope, command, current, phase, may_stop=True),
    )


def _ended(operation: Operation | None) -> tuple[Event, ...]:
    """What was going on with a container that is lost: one that was to stand still does."""
    if operation is None:
        return ()
    if operation.verb in ("stop", "pause"):
        return (OperationSucceeded(operation.id),)
    return (OperationFailed(operation.id, "host_lost", HOST_LOST),)


def _begun(
    state: State,
    envelope: Envelope,
    command: RecoverReplicaSet,
    revision: Revision,
    phase: Phase,
    *,
    may_stop: bool,
) -> tuple[Event, ...]:
    """The revision with GPUs, ports and a disk to begin with, and the leases it has from now on.

    Where there are not enough it is stopped, if it may be; otherwise its start is to fail.
    """
    name, number = revision.name, revision.number
    held = held_gpus(state, name, number), held_ports(state, name, number)
    gpus, ports = revision.gpus, revision.ports
    if phase != "stopped":
        placed = _placed(state, envelope, revision)
        if placed is None and may_stop:
            phase = "stopped"
        elif placed is not None:
            gpus, ports = placed
    disk_from = _source(state, envelope, command, revision)
    known = disk_from is None and revision.origin in command.images
    begun = RecoveryBegun(
        name=name,
        revision=number,
        phase=phase,
        gpus=gpus,
        ports=ports,
        gpu_runtime=envelope.facts.gpu_runtime,
        disk_from=disk_from,
        image_id=revision.origin if known else None,
    )
    wanted = (gpus, ports) if phase != "stopped" else ((), ())
    return _leased(begun, held, wanted)


def _leased(
    begun: RecoveryBegun, held: tuple[tuple[str, ...], tuple[int, ...]], wanted: Placed
) -> tuple[Event, ...]:
    name, number = begun.name, begun.revision
    numbers = {binding.host_port for binding in wanted[1]}
    events: list[Event] = []
    if spare := tuple(uuid for uuid in held[0] if uuid not in wanted[0]):
        events.append(GpusReleased(name, number, spare))
    if unused := tuple(port for port in held[1] if port not in numbers):
        events.append(PortsReleased(name, number, unused))
    events.append(begun)
    if more := tuple(uuid for uuid in wanted[0] if uuid not in held[0]):
        events.append(GpusLeased(name, number, more))
    if new := tuple(binding for binding in wanted[1] if binding.host_port not in held[1]):
        events.append(PortsLeased(name, number, new))
    return tuple(events)


def _placed(state: State, envelope: Envelope, revision: Revision) -> Placed | None:
    """GPUs and ports, those it had before others; None when there are not enough."""
    facts, spec = envelope.facts, revision.spec
    gpus = place_gpus(state, revision.name, spec.gpu_count, revision.gpus)
    ports = place_ports(
        state,
        revision.name,
        spec.container_ports,
        {binding.container_port: binding.host_port for binding in revision.ports},
        facts.port_first,
        facts.port_last,
        resting=resting_ports(state, envelope.issued_at_us),
    )
    return None if gpus is None or ports is None else (gpus, ports)


def _source(
    state: State, envelope: Envelope, command: RecoverReplicaSet, revision: Revision
) -> int | None:
    """The newest version in the line of its system disk that is kept and can be used here."""
    made = _made_as(state, revision)
    while made.disk_from is not None:
        source = state.revisions.get((revision.name, made.disk_from))
        if source is None:
            return None
        if _is_usable(source, envelope, command):
            return source.number
        made = _made_as(state, source)
    return None


def _made_as(state: State, revision: Revision) -> Revision:
    """The revision that its container was made as, whose disk it began with."""
    return state.revisions.get((revision.name, revision.made_as), revision)


def _is_usable(kept: Revision, envelope: Envelope, command: RecoverReplicaSet) -> bool:
    if kept.snapshot is None or kept.expiring or kept.snapshot not in command.kept:
        return False
    reachable = envelope.facts.carry == "upper" and kept.base_image in command.images
    return kept.snapshot_carry == "commit" or reachable
