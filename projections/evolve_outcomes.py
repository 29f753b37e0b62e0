"""The fold of what the engine was seen to do."""

from typing import Any

from msgspec.structs import replace

from events.outcomes import (
    CommandExecuted,
    ContainerCreated,
    ContainerRemoved,
    ContainerStarted,
    ContainerStopped,
    EffectFailed,
    ImageCommitted,
    ImageResolved,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskFilled,
    SystemDiskPutBack,
    VolumeMade,
    VolumeRemoved,
)
from events.record import Record
from events.values import show_size, versioned
from projections.evolve_replica_sets import add_step, put_replica_set, put_revision
from projections.evolve_volumes import put_volume
from projections.state import Failure, Folds, State


def _step(state: State, record: Record, text: str) -> None:
    add_step(state, record.operation_id, record.at_us, text)


def _change(state: State, name: str, number: int, **changes: Any) -> None:
    put_revision(state, replace(state.revisions[name, number], **changes))


def _image_resolved(state: State, record: Record, event: ImageResolved) -> None:
    _change(state, event.name, event.revision, image_id=event.image_id)
    _step(state, record, f"image {event.image} is there")


def _created(state: State, record: Record, event: ContainerCreated) -> None:
    _change(
        state,
        event.name,
        event.revision,
        container="created",
        container_id=event.container_id,
        base_image=event.image,
    )
    _step(state, record, f"{versioned(event.name, event.revision)} created")


def _started(state: State, record: Record, event: ContainerStarted) -> None:
    _change(
        state,
        event.name,
        event.revision,
        container="running",
        started_at=event.started_at,
        exit_code=None,
    )
    _step(state, record, f"{versioned(event.name, event.revision)} started")


def _stopped(state: State, record: Record, event: ContainerStopped) -> None:
    _change(state, event.name, event.revision, container="exited", exit_code=event.exit_code)
    _step(state, record, f"{versioned(event.name, event.revision)} stopped")


def _removed(state: State, record: Record, event: ContainerRemoved) -> None:
    _change(state, event.name, event.revision, container="removed")
    _step(state, record, f"{versioned(event.name, event.revision)} removed")


def _snapshot_taken(state: State, record: Record, event: SnapshotTaken) -> None:
    _change(
        state, event.name, event.revision, snapshot=event.image, snapshot_carry=event.carry
    )
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, snapshots=(*known.snapshots, event.revision)))
    size = show_size(event.size_bytes) + (" with its image" if event.carry == "commit" else "")
    container = versioned(event.name, event.revision)
    _step(state, record, f"system disk of {container} kept ({size})")


def _snapshot_removed(state: State, record: Record, event: SnapshotRemoved) -> None:
    _forget_snapshot(state, event.name, event.revision)


def _put_back(state: State, record: Record, event: SystemDiskPutBack) -> None:
    _forget_snapshot(state, event.name, event.revision)
    _step(state, record, f"{versioned(event.name, event.revision)} has its system disk again")


def _forget_snapshot(state: State, name: str, number: int) -> None:
    _change(state, name, number, snapshot=None)
    known = state.replica_sets[name]
    left = tuple(kept for kept in known.snapshots if kept != number)
    put_replica_set(state, replace(known, snapshots=left))


def _filled(state: State, record: Record, event: SystemDiskFilled) -> None:
    _change(state, event.name, event.revision, filled=True)
    _step(state, record, f"system disk carried to {versioned(event.name, event.revision)}")


def _image_committed(state: State, record: Record, event: ImageCommitted) -> None:
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, committed=event.image))
    _step(state, record, f"saved as {event.image} ({show_size(event.size_bytes)})")


def _executed(state: State, record: Record, event: CommandExecuted) -> None:
    _end_execution(state, event.name, event.operation_id)
    _step(state, record, f"exit code {event.exit_code}")


def _end_execution(state: State, name: str, operation_id: str) -> None:
    known = state.replica_sets[name]
    left = tuple(e for e in known.executions if e.operation_id != operation_id)
    put_replica_set(state, replace(known, executions=left))


def _volume_made(state: State, record: Record, event: VolumeMade) -> None:
    known = state.volumes[event.name]
    versions = tuple(
        replace(version, made=True) if version.number == event.number else version
        for version in known.versions
    )
    put_volume(state, replace(known, versions=versions, previous=None, halts_users=False))
    _step(state, record, f"volume {versioned(event.name, event.number)} made")


def _volume_removed(state: State, record: Record, event: VolumeRemoved) -> None:
    put_volume(state, replace(state.volumes[event.name], removed=True))
    _step(state, record, f"volume {event.name} removed")


def _effect_failed(state: State, record: Record, event: EffectFailed) -> None:
    failure = Failure(event.reason, event.message)
    _step(state, record, f"{event.effect} failed: {event.message}")
    if event.effect == "Execute":
        _end_execution(state, event.name, event.operation_id)
        return
    if event.kind == "volume":
        known = state.volumes[event.name]
        put_volume(state, replace(known, failure=failure, halts_users=False))
    replica_set = state.replica_sets.get(event.name)
    if replica_set is not None and replica_set.operation == event.operation_id:
        # The first failure is why; one that follows while it is undone does not take its place.
        put_replica_set(state, replace(replica_set, failure=replica_set.failure or failure))


FOLDS: Folds = {
    ImageResolved: _image_resolved,
    ContainerCreated: _created,
    ContainerStarted: _started,
    ContainerStopped: _stopped,
    ContainerRemoved: _removed,
    SnapshotTaken: _snapshot_taken,
    SnapshotRemoved: _snapshot_removed,
    SystemDiskFilled: _filled,
    SystemDiskPutBack: _put_back,
    ImageCommitted: _image_committed,
    CommandExecuted: _executed,
    VolumeMade: _volume_made,
    VolumeRemoved: _volume_removed,
    EffectFailed: _effect_failed,
}
