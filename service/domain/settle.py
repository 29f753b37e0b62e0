"""The end of an operation: nothing is left to do, so what is held no more is given back."""

from collections.abc import Iterator
from typing import Any

from events.operations import OperationFailed, OperationSucceeded
from events.outcomes import EffectFailed
from events.record import Event
from events.replica_sets import (
    BindMoved,
    PhaseRequested,
    ReplicaSetDeleted,
    RevisionAbandoned,
    RevisionRetired,
)
from events.values import show_size, versioned
from events.volumes import VolumeDeleted, VolumeVersionAbandoned
from projections.state import Failure, Operation, ReplicaSet, Revision, State, Volume
from service.domain.debug_copies import copy_ended
from service.domain.effects import Settle
from service.domain.reconcile import DECLARING
from service.domain.reconcile_volumes import lost_volume
from service.domain.release import release

COMMIT_LOSES = (
    "sockets",
    "files whose name begins with .wh.",
    "user and trusted extended attributes, and POSIX ACLs",
    "times below a second",
    "holes in sparse files",
)
"""What a container does not have any more whose system disk was carried by commit: Docker's own
layer format cannot hold it."""


def settle(state: State, effect: Settle) -> tuple[Event, ...]:
    """The events that end the operation. The effect is due, so all containers are as they should.

    A lease ends here after its container was observed gone or stopped; or when one that nobody
    asked to stop was (`observing`).
    """
    operation = state.operations[effect.operation_id]
    if effect.kind == "volume":
        return _volume(state, operation)
    replica_set = state.replica_sets[effect.name]
    current = state.revisions[effect.name, replica_set.current]
    lost = lost_volume(state, current) if current.container == "absent" else None
    if replica_set.failure is None and lost is not None:
        return (_in_vain(effect, lost),)
    if replica_set.failure is not None and operation.verb in ("recover", "continue"):
        return (*_not_recovered(state, current), _failed(operation, replica_set.failure))
    if replica_set.failure is not None:
        undone = _undone(state, replica_set, operation) if operation.verb in DECLARING else ()
        return (*undone, _failed(operation, replica_set.failure))
    name = replica_set.name
    done: tuple[Event, ...] = ()
    if replica_set.phase in ("stopped", "deleted"):
        done = release(state, name, replica_set.current)
    if replica_set.phase == "deleted":
        done = (*done, ReplicaSetDeleted(name))
    if replica_set.previous is not None:
        previous = replica_set.previous
        done = (RevisionRetired(name, previous), *release(state, name, previous))
    return (*done, OperationSucceeded(operation.id, _result(state, operation)))


def _in_vain(effect: Settle, volume: str) -> EffectFailed:
    """What waited for a volume that was lost fails, and is undone like any other."""
    return EffectFailed(
        operation_id=effect.operation_id,
        effect_id=effect.effect_id,
        effect="Settle",
        kind=effect.kind,
        name=effect.name,
        number=effect.number,
        reason="volume_lost",
        message=f"volume {volume}, which it binds, was lost and could not be made again",
    )


def _not_recovered(state: State, current: Revision) -> tuple[Event, ...]:
    """Without a container it is stopped, and can be made again later; paused, it has one."""
    if current.container != "removed":
        return ()
    stopped = state.replica_sets[current.name].phase == "stopped"
    phase = () if stopped else (PhaseRequested(current.name, "stopped"),)
    return (*phase, *release(state, current.name, current.number))


def _result(state: State, operation: Operation) -> dict[str, Any]:
    """What the caller gets, in the contract's words."""
    current = versioned(operation.name, state.replica_sets[operation.name].current)
    if operation.verb == "run":
        return {"name": current}
    if operation.verb == "debug":
        return {"name": current, **_debugged(state, operation.name)}
    if operation.verb == "recover":
        return {"containerName": current}
    if operation.verb in DECLARING:
        return {"containerName": current, **_not_carried(state, operation.name)}
    if operation.verb == "commit":
        return {"imageName": state.replica_sets[operation.name].committed}
    return {}


def _debugged(state: State, name: str) -> dict[str, Any]:
    """What a debug copy is a copy of, and what a commit of a live container left behind."""
    revision = state.revisions[name, state.replica_sets[name].current]
    live = revision.copied is not None and revision.copied.source == "container"
    not_carried = {"notCarried": list(COMMIT_LOSES)} if live else {}
    return {"debugOf": revision.debug_of, **not_carried}


def _not_carried(state: State, name: str) -> dict[str, Any]:
    """What a commit leaves behind of a system disk, named; nothing when all came along."""
    current = state.revisions[name, state.replica_sets[name].current]
    if current.disk_from is None or current.in_place:
        return {}
    source = state.revisions[name, current.disk_from]
    return {"notCarried": list(COMMIT_LOSES)} if source.snapshot_carry == "commit" else {}


def _undone(state: State, replica_set: ReplicaSet, operation: Operation) -> tuple[Event, ...]:
    name, number = replica_set.name, replica_set.current
    back_to = replica_set.previous or 0
    events: list[Event] = [*copy_ended(state, name, number), *release(state, name, number)]
    phase = replica_set.phase_before
    if not back_to:
        phase = "deleted"
    elif state.revisions[name, back_to].container == "removed":
        phase = "stopped"
        events += release(state, name, back_to)
    elif replica_set.phase == "paused":
        phase = "paused"
    events.append(RevisionAbandoned(name, number, back_to, phase))
    data_volume = state.revisions[name, number].data_volume
    if data_volume is not None:
        volume = state.volumes[data_volume]
        events.append(VolumeVersionAbandoned(data_volume, volume.current, back_to=0))
    return tuple(events)


def _volume(state: State, operation: Operation) -> tuple[Event, ...]:
    volume = state.volumes[operation.name]
    if volume.deleting:
        return VolumeDeleted(volume.name), OperationSucceeded(operation.id)
    if volume.failure is not None and volume.lost:
        return (_failed(operation, volume.failure),)
    if volume.failure is not None:
        back_to = next((v.number for v in reversed(volume.versions) if v.made), 0)
        return (
            VolumeVersionAbandoned(volume.name, volume.current, back_to),
            _failed(operation, volume.failure),
        )
    size = next(v.size_bytes for v in volume.versions if v.number == volume.current)
    result = {"name": versioned(volume.name, volume.current), "size": show_size(size)}
    return (*_moved_binds(state, volume), OperationSucceeded(operation.id, result))


def _moved_binds(state: State, volume: Volume) -> Iterator[BindMoved]:
    """Who binds a version before the current one binds the current one from now on."""
    new = versioned(volume.name, volume.current)
    for name in sorted(state.volume_users.get(volume.name, ())):
        current = state.revisions[name, state.replica_sets[name].current]
        bound = {bind.source for bind in current.spec.binds}
        for version in volume.versions:
            old = versioned(volume.name, version.number)
            if old != new and old in bound:
                yield BindMoved(name, current.number, old, new)


def _failed(operation: Operation, failure: Failure) -> OperationFailed:
    return OperationFailed(operation.id, failure.reason, failure.message)
