"""reconcile: what is to be (the ledger says) less what was observed (the ledger says) = effects.

For each name at most one effect on its container or disk is due at a time; commands executed in
a container go beside it. When nothing else is due the operation settles. Nothing here depends
on what the executor is doing: after a crash the same effects are due again, with the same ids.
"""

from events.values import split_versioned
from projections.lineage import base_of, disk_holder
from projections.state import Execution, ReplicaSet, Revision, State
from service.domain import reconcile_steps as steps
from service.domain.container_config import container_config
from service.domain.effects import (
    CommitImage,
    CreateContainer,
    Effect,
    EnsureImage,
    Execute,
    FillDisk,
    PreCopyDisk,
    PutBackDisk,
    TakeSnapshot,
    UpdateContainer,
)
from service.domain.patching import resources
from service.domain.reconcile_debug import directory_to_clone, image_to_make, waits_for_source
from service.domain.reconcile_idle import begun_before, halt, housekeeping
from service.domain.reconcile_orphans import due_for_orphan
from service.domain.reconcile_volumes import (
    data_disk_made,
    due_for_volume,
    lost_volume,
    volumes_busy,
)

COPY_AHEAD_BYTES_MIN = 1 << 30
"""To copy a smaller system disk ahead makes the whole patch twice as long, for some tenths of a
second that the container stands still (docs/benchmarks-disk.md)."""

DECLARING = ("run", "patch", "rollback", "restart", "debug")
"""The verbs that put a new revision in place."""

SNAPSHOT_REPOSITORY = "gpuledger/snapshot"


def reconcile(state: State, kind: str, name: str) -> tuple[Effect, ...]:
    """The effects that are due for a name, in a fixed order."""
    if kind == "volume":
        effect = due_for_volume(state, name)
        return () if effect is None else (effect,)
    if kind == "orphan":
        drop = due_for_orphan(state, name)
        return () if drop is None else (drop,)
    replica_set = state.replica_sets.get(name)
    if replica_set is None:
        return ()
    executions: tuple[Effect, ...] = tuple(
        Execute(
            effect_id=f"{e.operation_id}/execute",
            operation_id=e.operation_id,
            name=name,
            number=e.number,
            container=steps.container(disk_holder(state, state.revisions[name, e.number])),
            cmd=e.cmd,
            work_dir=e.work_dir,
        )
        for e in replica_set.executions
        if not _waits_for_commit(state, replica_set, e)
    )
    beside = (*executions, *housekeeping(state, replica_set))
    due = _replica_set(state, replica_set)
    return beside if due is None else (*beside, due)


def kept_of(kept: str) -> tuple[str, int]:
    """The replica set and version that a kept disk's name tells of; "" and 0 when it tells none.

    As `_retire` names them: foo-2-OPERATION, an image with its repository before it.
    """
    base, _, _ = kept.removeprefix(f"{SNAPSHOT_REPOSITORY}:").rpartition("-")
    return split_versioned(base) or ("", 0)


def _replica_set(state: State, replica_set: ReplicaSet) -> Effect | None:
    if (begun := begun_before(state, replica_set)) is not None:
        return begun
    if replica_set.operation is None:
        return halt(state, replica_set)
    current = state.revisions.get((replica_set.name, replica_set.current))
    if current is None:
        return None
    if replica_set.phase == "deleted":
        return _take_down(state, replica_set, current)
    if replica_set.failure is not None:
        return _undo(state, replica_set, current)
    if not data_disk_made(state, replica_set, current):
        return None
    if replica_set.phase == "running" and not replica_set.retry_due_us:
        due = _bring_up(state, replica_set, current)
        if due is not None or current.container != "running":
            return due
    elif replica_set.phase != "running" and current.container == "running":
        return steps.stop(replica_set, current)
    elif replica_set.phase != "running" and _is_recovered(state, replica_set):
        due = _bring_up(state, replica_set, current)
        if due is not None or current.container == "absent":
            return due
    if replica_set.image_commit is not None and replica_set.committed is None:
        return CommitImage(
            *steps.ids(replica_set, "commit", current),
            container=steps.container(current),
            image=replica_set.image_commit,
            pause=current.container == "running" and not _executes(state, replica_set),
        )
    return steps.settle(replica_set)


def _waits_for_commit(state: State, replica_set: ReplicaSet, execution: Execution) -> bool:
    """Does it begin only after the image was saved?

    To freeze a container while a command is being started in it can hang the engine for good
    (seen with 20.10: the runtime's own process in there is frozen too). So what was asked for
    after a commit waits for it, and a commit does not pause what executes something already.
    """
    saving = next((loan.operation for loan in replica_set.loans if loan.live), "")
    if replica_set.image_commit is not None and replica_set.committed is None:
        saving = replica_set.operation or ""
    if not saving:
        return False
    commit = state.operations.get(saving)
    asked = state.operations.get(execution.operation_id)
    return commit is not None and asked is not None and asked.seq > commit.seq


def _executes(state: State, replica_set: ReplicaSet) -> bool:
    executions = replica_set.executions
    return any(not _waits_for_commit(state, replica_set, e) for e in executions)


def _bring_up(state: State, replica_set: ReplicaSet, current: Revision) -> Effect | None:
    """Towards a running current revision, and none beside it. None also while it must wait."""
    previous = _previous(state, replica_set)
    if current.container == "absent" and current.in_place and previous is not None:
        return UpdateContainer(
            *steps.ids(replica_set, "update", current),
            was=steps.container(previous),
            container=steps.container(current),
            resources=resources(previous.spec, current.spec),
        )
    if current.container == "absent":
        if lost_volume(state, current) is not None:
            return steps.give_up(replica_set)
        if not _volumes_made(state, current):
            return None
        if _is_recovered(state, replica_set) and volumes_busy(state, current):
            return None
        if (copied := current.copied) is not None:
            if waits_for_source(state, copied):
                return None
            may_freeze = not _executes(state, state.replica_sets[copied.of])
            ids = steps.ids(replica_set, "image", current)
            if making := image_to_make(state, ids, copied, may_freeze=may_freeze):
                return making
        elif current.disk_from is None and current.image_id is None:
            return EnsureImage(*steps.ids(replica_set, "image", current), image=current.spec.image)
        if current.carry == "commit" and (due := _retire(replica_set, current, previous)):
            return due
        return _create(state, replica_set, current)
    if current.remake:
        return steps.remove(replica_set, current)
    if current.container == "created":
        # An upper directory is carried while the new container waits: its name is the lock, and
        # the old one stands still for the shortest time.
        if previous is not None and (copying := _copy_ahead(replica_set, current, previous)):
            return copying
        if due := _retire(replica_set, current, previous):
            return due
        if (kept := _to_fill(state, current)) is not None:
            ids = steps.ids(replica_set, "fill", current)
            return FillDisk(*ids, container=steps.container(current), image=kept)
    if current.container in ("created", "exited"):
        # One that is made again, paused or stopped as it was, is not started.
        return steps.start(replica_set, current) if replica_set.phase == "running" else None
    if previous is not None and previous.container != "removed":
        return steps.remove(replica_set, previous)
    return None


def _copy_ahead(
    replica_set: ReplicaSet, current: Revision, previous: Revision
) -> Effect | None:
    """While the old container still runs, copy what cannot be shared; the rest is a small delta."""
    if not current.copies or current.precopied or current.disk_from != previous.number:
        return None
    if previous.container != "running":
        return None
    return PreCopyDisk(
        *steps.ids(replica_set, "precopy", current),
        container=steps.container(current),
        source=steps.container(previous),
        least_bytes=COPY_AHEAD_BYTES_MIN,
    )


def _retire(
    replica_set: ReplicaSet, current: Revision, previous: Revision | None
) -> Effect | None:
    """Stop the revision that is superseded, and keep its system disk."""
    if previous is None:
        return None
    if previous.container == "running":
        return steps.stop(replica_set, previous)
    if previous.snapshot is not None or previous.container == "removed":
        return None
    operation = (replica_set.operation or "")[-12:]
    kept = f"{steps.container(previous)}-{operation}"
    return TakeSnapshot(
        *steps.ids(replica_set, "snapshot", previous),
        container=steps.container(previous),
        image=kept if current.carry == "upper" else f"{SNAPSHOT_REPOSITORY}:{kept}",
        carry=current.carry,
        squash_onto=previous.origin,
    )


def _create(state: State, replica_set: ReplicaSet, current: Revision) -> Effect:
    ids = steps.ids(replica_set, "create", current)
    return CreateContainer(
        *ids,
        container=steps.container(current),
        config=container_config(current, base_of(state, current), state.node, ids[0]),
    )


def _to_fill(state: State, revision: Revision) -> str | None:
    """The kept directory that is still to be cloned into a revision's container."""
    if revision.filled:
        return None
    if revision.copied is not None:
        return directory_to_clone(state, revision.copied)
    if revision.disk_from is None:
        return None
    source = state.revisions[revision.name, revision.disk_from]
    return source.snapshot if source.snapshot_carry == "upper" else None


def _undo(state: State, replica_set: ReplicaSet, current: Revision) -> Effect | None:
    """Back to where the failed operation began: the old revision as it was, the new one gone."""
    operation = state.operations.get(replica_set.operation or "")
    if operation is not None and operation.verb in ("recover", "continue"):
        # One that only did not start is whole, and stays. To continue one that was recovered, and
        # never started, can have made it anew for its host ports.
        unfilled = current.container == "created" and _to_fill(state, current) is not None
        done = current.container != "absent" and not unfilled
        return steps.settle(replica_set) if done else steps.remove(replica_set, current)
    if operation is None or operation.verb not in DECLARING:
        return steps.settle(replica_set)
    if current.in_place:
        # Refused, the container is as it was, with its old name: nothing was done.
        return steps.settle(replica_set)
    if current.container != "removed":
        return steps.remove(replica_set, current)
    if current.data_volume is not None and not state.volumes[current.data_volume].removed:
        return None
    previous = _previous(state, replica_set)
    if previous is None and replica_set.debug_image:
        return steps.drop_image(replica_set, current)
    # One that somebody else removed cannot be had back, but its disk where that is kept.
    if previous is not None and previous.container != "removed":
        if previous.snapshot is not None and previous.snapshot_carry == "upper":
            return PutBackDisk(
                *steps.ids(replica_set, "put-back", previous),
                container=steps.container(previous),
                image=previous.snapshot,
            )
        if previous.snapshot is not None:
            return steps.drop_snapshot(replica_set, previous, previous.snapshot)
        was_running = replica_set.phase_before == "running" and replica_set.phase == "running"
        if was_running and previous.container == "exited":
            return steps.start(replica_set, previous)
    return steps.settle(replica_set)


def _take_down(state: State, replica_set: ReplicaSet, current: Revision) -> Effect | None:
    if current.container == "running":
        return steps.stop(replica_set, current)
    if current.container in ("created", "exited"):
        return steps.remove(replica_set, current)
    for number in replica_set.snapshots:
        kept = state.revisions[replica_set.name, number]
        if kept.snapshot is not None and not kept.expiring:
            return steps.drop_snapshot(replica_set, kept, kept.snapshot)
    if replica_set.expiring:
        return None
    if replica_set.debug_image:
        return steps.drop_image(replica_set, current)
    return steps.settle(replica_set)


def _volumes_made(state: State, revision: Revision) -> bool:
    sources = (split_versioned(bind.source) for bind in revision.spec.binds)
    return all(version_made(state, *source) for source in sources if source is not None)


def _is_recovered(state: State, replica_set: ReplicaSet) -> bool:
    """Is its container being made again, after its host was lost?"""
    operation = state.operations.get(replica_set.operation or "")
    return operation is not None and operation.verb == "recover"


def version_made(state: State, name: str, number: int) -> bool:
    """Can this version of a volume be mounted?"""
    volume = state.volumes.get(name)
    return volume is not None and any(v.made for v in volume.versions if v.number == number)


def _previous(state: State, replica_set: ReplicaSet) -> Revision | None:
    if replica_set.previous is None:
        return None
    return state.revisions[replica_set.name, replica_set.previous]
