"""The rules for kept system disks: which are given up when, and which are pinned.

A revision that was superseded keeps its system disk, so that it can be had back. Of those that
nobody pinned a replica set keeps the newest `keep_revisions`, none that is older than `keep_us`,
and when their disk is nearly full the oldest go first, up to the last one of each replica set.
"""

from events.operations import OperationSucceeded
from events.replica_sets import RevisionPinned, RevisionUnpinned, SnapshotExpired
from events.values import Expiry, versioned
from projections.lineage import disk_holder
from projections.state import ReplicaSet, Revision, State
from service.domain.commands import Envelope, ExpireSnapshots, Facts, PinRevision, UnpinRevision
from service.domain.guards import Decision, accepted, idle
from service.domain.rejections import Reason, Rejected
from service.domain.revisions import kept_list

DAY_US = 86_400_000_000


def pin(state: State, envelope: Envelope, command: PinRevision) -> Decision:
    """Only what is kept can be kept on; pinned already is success.

    It is the disk that is pinned: that of a version whose container went on as another one is
    pinned there.
    """
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    revision = state.revisions.get((command.name, command.version))
    if revision is None:
        return _no_version(state, command.name, command.version)
    holder = disk_holder(state, revision)
    has_own = holder.number == found.current and holder.container != "removed"
    if not has_own and (holder.snapshot is None or holder.expiring):
        return Rejected(
            Reason.SYSTEM_DISK_GONE,
            f"the system disk of {versioned(command.name, revision.number)} is not kept any more;"
            f" versions that are: {kept_list(state, command.name)}",
        )
    return (
        accepted(envelope, "pin", command.name),
        RevisionPinned(command.name, holder.number),
        OperationSucceeded(envelope.command_id),
    )


def unpin(state: State, envelope: Envelope, command: UnpinRevision) -> Decision:
    """From now on it is kept as long as any other."""
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    revision = state.revisions.get((command.name, command.version))
    if revision is None:
        return _no_version(state, command.name, command.version)
    return (
        accepted(envelope, "unpin", command.name),
        RevisionUnpinned(command.name, disk_holder(state, revision).number),
        OperationSucceeded(envelope.command_id),
    )


def expire(state: State, envelope: Envelope, command: ExpireSnapshots) -> Decision:
    """Give up what is due; the disks themselves are removed afterwards."""
    due = due_to_expire(state, envelope.facts, envelope.issued_at_us, command)
    if not due:
        return Rejected(Reason.NOTHING_NEW, f"no system disk of {command.name} is to be given up")
    return due


def due_to_expire(
    state: State, facts: Facts, now_us: int, command: ExpireSnapshots
) -> tuple[SnapshotExpired, ...]:
    """What is due, oldest first. Nothing while something goes on with the replica set."""
    replica_set = state.live(command.name)
    if replica_set is None or replica_set.operation is not None:
        return ()
    candidates = removable(state, replica_set)
    due: list[SnapshotExpired] = []
    surplus = len(_unpinned(state, replica_set)) - facts.keep_revisions
    for revision in candidates:
        age_us = now_us - revision.kept_us
        if len(due) < surplus:
            message = f"{facts.keep_revisions} newer ones are kept"
            due.append(_expired(revision, "count", message))
        elif facts.keep_us and age_us > facts.keep_us:
            message = f"kept for {age_us // DAY_US} days, longer than {facts.keep_us // DAY_US}"
            due.append(_expired(revision, "age", message))
    if not due and command.short_of_space and len(candidates) > 1:
        due.append(_expired(candidates[0], "space", command.short_of_space))
    return tuple(due)


def oldest_removable(state: State) -> Revision | None:
    """The kept system disk that goes first when their disk is nearly full.

    Never the newest of a replica set: whatever fills the disk, one step back can be had.
    """
    firsts = (
        candidates[0]
        for replica_set in state.replica_sets.values()
        if replica_set.current
        and replica_set.operation is None
        and len(candidates := removable(state, replica_set)) > 1
    )
    return min(firsts, key=lambda kept: (kept.kept_us, kept.name), default=None)


def removable(state: State, replica_set: ReplicaSet) -> list[Revision]:
    """The kept system disks that may be given up, oldest first."""
    # An image that something is still made of: the container, or a directory on top of it.
    bases = {state.revisions[replica_set.name, replica_set.current].base_image}
    bases |= {r.base_image for r in _kept(state, replica_set) if r.snapshot_carry == "upper"}
    lent = {loan.version for loan in replica_set.loans}
    unpinned = _unpinned(state, replica_set)
    return [r for r in unpinned if r.snapshot not in bases and r.number not in lent]


def _unpinned(state: State, replica_set: ReplicaSet) -> list[Revision]:
    return [r for r in _kept(state, replica_set) if not r.pinned and not r.expiring]


def _kept(state: State, replica_set: ReplicaSet) -> list[Revision]:
    return [state.revisions[replica_set.name, number] for number in replica_set.snapshots]


def _expired(revision: Revision, why: Expiry, message: str) -> SnapshotExpired:
    return SnapshotExpired(revision.name, revision.number, why, message)


def _no_version(state: State, name: str, version: int) -> Rejected:
    return Rejected(
        Reason.REVISION_NOT_FOUND,
        f"{name} has no version {version}; versions whose system disk is kept:"
        f" {kept_list(state, name)}",
    )
