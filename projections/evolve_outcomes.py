"""The fold of what the engine was seen to do."""

from typing import Any

from msgspec.structs import replace

from events.outcomes import (
    CommandExecuted,
    ContainerCreated,
    ContainerRemoved,
    ContainerStarted,
    ContainerStopped,
    ContainerUpdated,
    EffectFailed,
    ImageCommitted,
    ImageResolved,
    SnapshotCompacted,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskFilled,
    SystemDiskPrecopied,
    SystemDiskPutBack,
    VolumeMade,
    VolumeRemoved,
)
from events.record import Record
from events.values import show_size, versioned
from projections.evolve_replica_sets import (
    add_step,
    put_replica_set,
    put_revision,
    running_since,
)
from projections.evolve_volumes import put_volume
from projections.lineage import base_of
from projections.state import Failure, Folds, State


def _step(state: State, record: Record, text: str) -> None:
    add_step(state, record.operation_id, record.at_us, text)


def _change(state: State, name: str, number: int, **changes: Any) -> None:
    put_revision(state, replace(state.revisions[name, number], **changes))


def _image_resolved(state: State, record: Record, event: ImageResolved) -> None:
    _change(
        state,
        event.name,
        event.revision,
        image_id=event.image_id,
        origin=event.image_id,
        origin_env=event.env,
        origin_cmd=event.cmd,
    )
    _step(state, record, f"image {event.image} is there")


def _created(state: State, record: Record, event: ContainerCreated) -> None:
    base = base_of(state, state.revisions[event.name, event.revision])
    _change(
        state,
        event.name,
        event.revision,
        container="created",
        seen_seq=state.seq,
        container_id=event.container_id,
        base_image=event.image,
        origin=base.origin,
        origin_env=base.origin_env,
        origin_cmd=base.origin_cmd,
        baked_env=base.baked_env,
        baked_cmd=base.baked_cmd,
    )
    _step(state, record, f"{versioned(event.name, event.revision)} created")


def _updated(state: State, record: Record, event: ContainerUpdated) -> None:
    revision = state.revisions[event.name, event.revision]
    before = state.revisions[event.name, revision.supersedes or 0]
    put_revision(
        state,
        replace(
            revision,
            container=before.container,
            container_id=before.container_id,
            made_as=before.made_as or before.number,
            seen_seq=state.seq,
            started_at=before.started_at,
            gpu_access_lost_us=before.gpu_access_lost_us,
            image_id=before.image_id,
            carry=before.carry,
            filled=before.filled,
            base_image=before.base_image,
            origin=before.origin,
            origin_env=before.origin_env,
            origin_cmd=before.origin_cmd,
            baked_env=before.baked_env,
            baked_cmd=before.baked_cmd,
            pinned=before.pinned,
        ),
    )
    gone_on = replace(
        before,
        container="removed",
        continued_as=event.revision,
        pinned=False,
        gpu_access_lost_us=0,
    )
    put_revision(state, gone_on)
    old, new = versioned(event.name, before.number), versioned(event.name, event.revision)
    _step(state, record, f"{old} goes on as {new} with other limits")


def _started(state: State, record: Record, event: ContainerStarted) -> None:
    _change(
        state,
        event.name,
        event.revision,
        **running_since(event.started_at),
        retrying=0,
        seen_seq=state.seq,
    )
    put_replica_set(state, replace(state.replica_sets[event.name], retry_due_us=0))
    _step(state, record, f"{versioned(event.name, event.revision)} started")


def _stopped(state: State, record: Record, event: ContainerStopped) -> None:
    revision = state.revisions[event.name, event.revision]
    if revision.gpu_access_lost_us:
        # Whoever stopped it: its next start gives it back what it was to be started again for.
        put_replica_set(state, replace(state.replica_sets[event.name], retry_due_us=0))
    _change(
        state,
        event.name,
        event.revision,
        container="exited",
        started_at=event.started_at or revision.started_at,
        exit_code=event.exit_code,
        finished_at=event.finished_at,
        oom_killed=False,
        ended_alone=revision.retrying > 0,
        ended_with_engine=False,
        refused=0,
        gpu_access_lost_us=0,
        stray=False,
        seen_seq=state.seq,
    )
    _step(state, record, f"{versioned(event.name, event.revision)} stopped")


def _removed(state: State, record: Record, event: ContainerRemoved) -> None:
    revision = state.revisions[event.name, event.revision]
    if revision.remake:
        put_revision(
            state,
            replace(
                revision,
                container="absent",
                container_id="",
                filled=False,
                remake=False,
                attempt=revision.attempt + 1,
            ),
        )
        return
    gone = replace(revision, container="removed", gpu_access_lost_us=0, seen_seq=state.seq)
    put_revision(state, gone)
    _step(state, record, f"{versioned(event.name, event.revision)} removed")


def _snapshot_taken(state: State, record: Record, event: SnapshotTaken) -> None:
    _change(
        state,
        event.name,
        event.revision,
        snapshot=event.image,
        snapshot_carry=event.carry,
        snapshot_bytes=event.size_bytes,
        kept_us=record.at_us,
        expiring="",
        gone="",
    )
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, snapshots=(*known.snapshots, event.revision)))
    size = show_size(event.size_bytes) + (" with its image" if event.carry == "commit" else "")
    container = versioned(event.name, event.revision)
    _step(state, record, f"system disk of {container} kept ({size})")


def _snapshot_removed(state: State, record: Record, event: SnapshotRemoved) -> None:
    _forget_snapshot(state, event.name, event.revision, event.why)


def _compacted(state: State, record: Record, event: SnapshotCompacted) -> None:
    revision = state.revisions[event.name, event.revision]
    left = max(0, revision.snapshot_bytes - event.saved_bytes)
    put_revision(state, replace(revision, snapshot_bytes=left))
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, to_compact=_without(known.to_compact, event.revision)))


def _put_back(state: State, record: Record, event: SystemDiskPutBack) -> None:
    _forget_snapshot(state, event.name, event.revision)
    if event.started_at:
        _change(state, event.name, event.revision, started_at=event.started_at)
    _step(state, record, f"{versioned(event.name, event.revision)} has its system disk again")


def _forget_snapshot(state: State, name: str, number: int, why: str = "") -> None:
    _change(state, name, number, snapshot=None, snapshot_bytes=0, expiring="", gone=why)
    known = state.replica_sets[name]
    put_replica_set(
        state,
        replace(
            known,
            snapshots=_without(known.snapshots, number),
            expiring=_without(known.expiring, number),
            to_compact=_without(known.to_compact, number),
        ),
    )


def _without(numbers: tuple[int, ...], number: int) -> tuple[int, ...]:
    return tuple(other for other in numbers if other != number)


def _precopied(state: State, record: Record, event: SystemDiskPrecopied) -> None:
    _change(state, event.name, event.revision, precopied=True)
    if event.message:
        _step(state, record, f"system disk not copied ahead: {event.message}")
    elif event.size_bytes:
        _step(state, record, f"system disk copied ahead ({show_size(event.size_bytes)})")


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
    put_volume(
        state,
        replace(known, versions=versions, previous=None, halts_users=False, lost=False),
    )
    _step(state, record, f"volume {versioned(event.name, event.number)} made")


def _volume_removed(state: State, record: Record, event: VolumeRemoved) -> None:
    put_volume(state, replace(state.volumes[event.name], removed=True))
    _step(state, record, f"volume {event.name} removed")


def _effect_failed(state: State, record: Record, event: EffectFailed) -> None:
    failure = Failure(event.reason, event.message)
    # Of the operation that it ends, which may be another's than that of a recovered host's record.
    text = f"{event.effect} failed: {event.message}"
    add_step(state, event.operation_id, record.at_us, text)
    if event.effect == "Execute":
        _end_execution(state, event.name, event.operation_id)
        return
    if event.kind == "volume":
        known = state.volumes[event.name]
        put_volume(state, replace(known, failure=failure, halts_users=False))
    if event.effect == "StartContainer" and not event.operation_id:
        refused = state.revisions[event.name, event.number].refused + 1
        _change(state, event.name, event.number, retrying=0, refused=refused)
    replica_set = state.replica_sets.get(event.name)
    if replica_set is not None and replica_set.operation == event.operation_id:
        # The first failure is why; one that follows while it is undone does not take its place.
        put_replica_set(state, replace(replica_set, failure=replica_set.failure or failure))


FOLDS: Folds = {
    ImageResolved: _image_resolved,
    ContainerCreated: _created,
    ContainerUpdated: _updated,
    ContainerStarted: _started,
    ContainerStopped: _stopped,
    ContainerRemoved: _removed,
    SnapshotTaken: _snapshot_taken,
    SnapshotRemoved: _snapshot_removed,
    SnapshotCompacted: _compacted,
    SystemDiskPrecopied: _precopied,
    SystemDiskFilled: _filled,
    SystemDiskPutBack: _put_back,
    ImageCommitted: _image_committed,
    CommandExecuted: _executed,
    VolumeMade: _volume_made,
    VolumeRemoved: _volume_removed,
    EffectFailed: _effect_failed,
}
