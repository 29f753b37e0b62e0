"""What is due for a replica set beside its operations, before them, and while it has none.

Kept system disks are given up and compacted; one that somebody else started is stopped; one that
ended is started again when it is time; containers stand still for a volume that changes size.
"""

from collections.abc import Iterator

from events.values import split_versioned, versioned
from projections.lineage import kept_before
from projections.state import ReplicaSet, Revision, State, Volume
from service.domain.effects import (
    CompactSnapshot,
    Effect,
    RemoveSnapshot,
    StartContainer,
    StopContainer,
)


def housekeeping(state: State, replica_set: ReplicaSet) -> Iterator[Effect]:
    """What is done with kept system disks beside whatever else goes on."""
    name = replica_set.name
    for number in replica_set.expiring:
        kept = state.revisions[name, number]
        if kept.snapshot is not None:
            effect_id = f"expire/{kept.snapshot}"
            yield RemoveSnapshot(effect_id, "", name, number, kept.snapshot, kept.snapshot_carry)
    for number in replica_set.to_compact:
        kept, other = state.revisions[name, number], kept_before(state, name, number)
        if kept.snapshot is not None and not kept.expiring and other is not None:
            effect_id = f"compact/{kept.snapshot}"
            yield CompactSnapshot(
                effect_id, "", name, number, image=kept.snapshot, other=other.snapshot or ""
            )


def begun_before(state: State, replica_set: ReplicaSet) -> Effect | None:
    """What was begun while it had no operation. Whatever is asked since then waits for its end."""
    for number in (replica_set.previous, replica_set.current):
        revision = state.revisions.get((replica_set.name, number or 0))
        if revision is None:
            continue
        container = versioned(revision.name, revision.number)
        ids = ("", revision.name, revision.number)
        if revision.stray:
            effect_id = f"stray/{container}-{revision.seen_seq}"
            return StopContainer(effect_id, *ids, container, revision.container_id)
        if revision.retrying and revision.container == "running":
            effect_id = f"retry-stop/{container}-{revision.retrying}"
            return StopContainer(effect_id, *ids, container, revision.container_id)
        if revision.retrying:
            effect_id = f"retry/{container}-{revision.retrying}"
            return StartContainer(effect_id, *ids, container, revision.started_at)
    return None


def halt(state: State, replica_set: ReplicaSet) -> Effect | None:
    """Stand still while a volume in use changes size, and go on afterwards."""
    current = state.revisions.get((replica_set.name, replica_set.current))
    if current is None:
        return None
    container = versioned(current.name, current.number)
    for volume in bound_volumes(state, current):
        if volume.operation is None or replica_set.phase != "running":
            continue
        ids = (volume.operation, replica_set.name, current.number)
        if volume.halts_users and current.container == "running":
            effect_id = f"{volume.operation}/stop-{container}"
            return StopContainer(effect_id, *ids, container, current.container_id)
        if not volume.halts_users and stands_still(replica_set, current):
            effect_id = f"{volume.operation}/start-{container}"
            return StartContainer(effect_id, *ids, container, current.started_at)
    return None


def is_under_way(revision: Revision) -> bool:
    """Is its container being started or stopped, though no operation asks for it?"""
    return revision.stray or revision.retrying > 0


def stands_still(replica_set: ReplicaSet, current: Revision) -> bool:
    """Is it halted for a volume? One that ended by itself waits for its own time."""
    wanted = replica_set.phase == "running" and replica_set.operation is None
    return wanted and current.container == "exited" and not current.ended_alone


def bound_volumes(state: State, revision: Revision) -> list[Volume]:
    """The volumes that a revision binds, by name."""
    sources = (split_versioned(bind.source) for bind in revision.spec.binds)
    names = sorted({source[0] for source in sources if source is not None})
    return [state.volumes[name] for name in names if name in state.volumes]
