"""The fold of what was decided about operations, replica sets and their revisions."""

from typing import Any

from msgspec.structs import replace

from events.operations import (
    OperationAccepted,
    OperationFailed,
    OperationProgressed,
    OperationSucceeded,
)
from events.record import Record
from events.replica_sets import (
    BindMoved,
    ExecutionRequested,
    ImageCommitRequested,
    PhaseRequested,
    ReplicaSetDeleted,
    RevisionAbandoned,
    RevisionDeclared,
    RevisionPinned,
    RevisionRetired,
    RevisionUnpinned,
    SnapshotExpired,
)
from events.values import ContainerSpec, split_versioned
from projections.lineage import kept_before
from projections.state import (
    FINISHED_OPERATIONS_MAX,
    Execution,
    Folds,
    Operation,
    ReplicaSet,
    Revision,
    State,
    Step,
)


def put_replica_set(state: State, replica_set: ReplicaSet) -> None:
    """Store a changed replica set."""
    state.replica_sets[replica_set.name] = replica_set
    state.touched.add(("replica_sets", replica_set.name, 0))


def running_since(started_at: str) -> dict[str, Any]:
    """What is so of a container that runs: nothing of an end before is left."""
    return {
        "container": "running",
        "started_at": started_at,
        "exit_code": None,
        "oom_killed": False,
        "finished_at": "",
        "ended_alone": False,
        "ended_with_engine": False,
        "refused": 0,
        "gpu_access_lost_us": 0,
    }


def put_revision(state: State, revision: Revision) -> None:
    """Store a changed revision."""
    state.revisions[revision.name, revision.number] = revision
    state.touched.add(("revisions", revision.name, revision.number))


def put_operation(state: State, operation: Operation) -> None:
    """Store a changed operation."""
    state.operations[operation.id] = operation
    state.touched.add(("operations", operation.id, 0))


def add_step(state: State, operation_id: str, at_us: int, text: str) -> None:
    """Note one thing done in an operation, if it is still known."""
    operation = state.operations.get(operation_id)
    if operation is not None:
        steps = (*operation.steps, Step(at_us, text))
        put_operation(state, replace(operation, steps=steps))


def volumes_of(spec: ContainerSpec) -> set[str]:
    """The names of the volumes that a container of this spec mounts."""
    versions = (split_versioned(bind.source) for bind in spec.binds if bind.source[:1] != "/")
    return {version[0] for version in versions if version is not None}


def index_users(state: State, name: str) -> None:
    """Note which volumes a replica set uses, through its current and previous revision."""
    replica_set = state.replica_sets[name]
    used: set[str] = set()
    for number in (replica_set.current, replica_set.previous):
        if number and (revision := state.revisions.get((name, number))) is not None:
            used |= volumes_of(revision.spec)
    before = state.volumes_used.get(name, frozenset())
    for volume in before - used:
        users = state.volume_users[volume]
        users.discard(name)
        if not users:
            del state.volume_users[volume]
    for volume in used - before:
        state.volume_users.setdefault(volume, set()).add(name)
    if used:
        state.volumes_used[name] = frozenset(used)
    else:
        state.volumes_used.pop(name, None)


def _accepted(state: State, record: Record, event: OperationAccepted) -> None:
    put_operation(
        state,
        Operation(
            id=event.operation_id,
            seq=state.seq,
            verb=event.verb,
            kind=event.kind,
            name=event.name,
            accepted_us=record.at_us,
            request=event.request,
            fingerprint=event.fingerprint,
            actor=record.actor,
            tenant=record.tenant,
            remote=record.remote,
        ),
    )
    if event.verb == "execute":  # any number at a time, beside whatever else goes on
        return
    if event.kind == "replica_set":
        known = state.replica_sets.get(event.name) or ReplicaSet(name=event.name)
        put_replica_set(
            state,
            replace(
                known,
                operation=event.operation_id,
                failure=None,
                phase_before=known.phase,
                updated_us=record.at_us,
            ),
        )


def _progressed(state: State, record: Record, event: OperationProgressed) -> None:
    operation = state.operations.get(event.operation_id)
    if operation is not None:
        put_operation(
            state,
            replace(
                operation,
                progress_step=event.step,
                progress_done_bytes=event.done_bytes,
                progress_total_bytes=event.total_bytes,
                message=event.message,
            ),
        )


def _ended(state: State, record: Record, operation_id: str, how: dict[str, Any]) -> None:
    operation = state.operations.get(operation_id)
    if operation is None or operation.finished_seq is not None:  # an operation ends once
        return
    ended = replace(operation, finished_us=record.at_us, finished_seq=state.seq, **how)
    put_operation(state, ended)
    _note_finished(state, ended)
    replica_set = state.replica_sets.get(operation.name)
    if replica_set is not None and replica_set.operation == operation_id:
        put_replica_set(
            state,
            replace(
                replica_set,
                operation=None,
                failure=None,
                image_commit=None,
                committed=None,
                updated_us=record.at_us,
            ),
        )
    # A data disk has the name of its replica set, so this finds it for either kind.
    volume = state.volumes.get(operation.name)
    if volume is not None and volume.operation == operation_id:
        state.volumes[volume.name] = replace(volume, operation=None, failure=None)
        state.touched.add(("volumes", volume.name, 0))


def _note_finished(state: State, ended: Operation) -> None:
    """Queue an ended operation behind those that ended before, and let go of the oldest."""
    place = len(state.finished)
    # Those that one record ended are queued by age: an order that the rows can give back.
    while place and _ends_after(state.operations[state.finished[place - 1]], ended):
        place -= 1
    state.finished.insert(place, ended.id)
    if len(state.finished) > FINISHED_OPERATIONS_MAX:
        oldest = state.operations.pop(state.finished.popleft())
        if ("operations", oldest.id, 0) in state.touched:
            state.evicted[oldest.id] = oldest


def _ends_after(one: Operation, other: Operation) -> bool:
    return one.finished_seq == other.finished_seq and one.seq > other.seq


def _succeeded(state: State, record: Record, event: OperationSucceeded) -> None:
    how = {"state": "succeeded", "result": event.result, "message": ""}
    _ended(state, record, event.operation_id, how)


def _failed(state: State, record: Record, event: OperationFailed) -> None:
    how = {"state": "failed", "reason": event.reason, "message": event.message}
    _ended(state, record, event.operation_id, how)


def _declared(state: State, record: Record, event: RevisionDeclared) -> None:
    put_revision(
        state,
        Revision(
            name=event.name,
            number=event.number,
            cause=event.cause,
            spec=event.spec,
            gpus=event.gpus,
            ports=event.ports,
            gpu_runtime=event.gpu_runtime,
            created_us=record.at_us,
            supersedes=event.supersedes,
            disk_from=event.disk_from,
            rolled_back_to=event.rolled_back_to,
            data_volume=event.data_volume,
            carry=event.carry,
            in_place=event.in_place,
            copies=event.copies,
            debug_of=event.debug_of,
        ),
    )
    replica_set = state.replica_sets[event.name]
    put_replica_set(
        state,
        replace(
            replica_set,
            phase="running",
            current=event.number,
            previous=event.supersedes,
            newest=event.number,
            retry=0,
            retry_due_us=0,
            tenant=replica_set.tenant if event.supersedes else record.tenant,
            debug_of=event.debug_of,
        ),
    )
    index_users(state, event.name)


def _phase_requested(state: State, record: Record, event: PhaseRequested) -> None:
    known = state.replica_sets[event.name]
    retry = 0 if event.phase == "running" else known.retry
    put_replica_set(state, replace(known, phase=event.phase, retry=retry, retry_due_us=0))


def _image_commit_requested(state: State, record: Record, event: ImageCommitRequested) -> None:
    put_replica_set(state, replace(state.replica_sets[event.name], image_commit=event.image))


def _execution_requested(state: State, record: Record, event: ExecutionRequested) -> None:
    replica_set = state.replica_sets[event.name]
    execution = Execution(event.operation_id, event.number, event.cmd, event.work_dir)
    put_replica_set(state, replace(replica_set, executions=(*replica_set.executions, execution)))


def _retired(state: State, record: Record, event: RevisionRetired) -> None:
    known = state.replica_sets[event.name]
    to_compact = known.to_compact
    copies = state.revisions[event.name, known.current].copies
    is_kept = state.revisions[event.name, event.number].snapshot is not None
    if copies and is_kept and kept_before(state, event.name, event.number) is not None:
        to_compact = (*to_compact, event.number)
    put_replica_set(state, replace(known, previous=None, to_compact=to_compact))
    index_users(state, event.name)


def _abandoned(state: State, record: Record, event: RevisionAbandoned) -> None:
    del state.revisions[event.name, event.number]
    state.touched.add(("revisions", event.name, event.number))
    put_replica_set(
        state,
        replace(
            state.replica_sets[event.name],
            current=event.back_to,
            previous=None,
            newest=event.number - 1,
            phase=event.phase,
        ),
    )
    index_users(state, event.name)


def _bind_moved(state: State, record: Record, event: BindMoved) -> None:
    revision = state.revisions[event.name, event.number]
    binds = tuple(
        replace(bind, source=event.new) if bind.source == event.old else bind
        for bind in revision.spec.binds
    )
    put_revision(state, replace(revision, spec=replace(revision.spec, binds=binds)))


def _pinned(state: State, record: Record, event: RevisionPinned) -> None:
    put_revision(state, replace(state.revisions[event.name, event.number], pinned=True))


def _unpinned(state: State, record: Record, event: RevisionUnpinned) -> None:
    put_revision(state, replace(state.revisions[event.name, event.number], pinned=False))


def _expired(state: State, record: Record, event: SnapshotExpired) -> None:
    revision = state.revisions[event.name, event.revision]
    put_revision(state, replace(revision, expiring=event.message))
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, expiring=(*known.expiring, event.revision)))


def _deleted(state: State, record: Record, event: ReplicaSetDeleted) -> None:
    put_replica_set(
        state,
        replace(
            state.replica_sets[event.name],
            phase="deleted",
            current=0,
            previous=None,
            snapshots=(),
            expiring=(),
            to_compact=(),
        ),
    )
    index_users(state, event.name)


FOLDS: Folds = {
    OperationAccepted: _accepted,
    OperationProgressed: _progressed,
    OperationSucceeded: _succeeded,
    OperationFailed: _failed,
    RevisionDeclared: _declared,
    PhaseRequested: _phase_requested,
    ImageCommitRequested: _image_commit_requested,
    ExecutionRequested: _execution_requested,
    RevisionRetired: _retired,
    RevisionAbandoned: _abandoned,
    BindMoved: _bind_moved,
    RevisionPinned: _pinned,
    RevisionUnpinned: _unpinned,
    SnapshotExpired: _expired,
    ReplicaSetDeleted: _deleted,
}
