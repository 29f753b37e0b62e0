"""The effects that end or undo something for a revision, each with the id that it has for ever."""

from events.values import versioned
from projections.state import ReplicaSet, Revision
from service.domain.effects import (
    Effect,
    RemoveContainer,
    RemoveDebugImage,
    RemoveSnapshot,
    Settle,
    StartContainer,
    StopContainer,
)


def container(revision: Revision) -> str:
    """Its name."""
    return versioned(revision.name, revision.number)


def ids(replica_set: ReplicaSet, step: str, revision: Revision) -> tuple[str, str, str, int]:
    """The first four fields of every effect."""
    operation = replica_set.operation or ""
    attempt = f"-{revision.attempt}" if revision.attempt else ""
    effect_id = f"{operation}/{step}-{container(revision)}{attempt}"
    return effect_id, operation, replica_set.name, revision.number


def start(replica_set: ReplicaSet, revision: Revision) -> Effect:
    """The container runs."""
    first = ids(replica_set, "start", revision)
    return StartContainer(*first, container(revision), revision.started_at)


def stop(replica_set: ReplicaSet, revision: Revision) -> Effect:
    """The container stands still."""
    first = ids(replica_set, "stop", revision)
    return StopContainer(*first, container(revision), revision.container_id)


def drop_snapshot(replica_set: ReplicaSet, revision: Revision, kept: str) -> Effect:
    """A kept system disk goes."""
    first = ids(replica_set, "drop-snapshot", revision)
    return RemoveSnapshot(*first, image=kept, carry=revision.snapshot_carry)


def drop_image(replica_set: ReplicaSet, revision: Revision) -> Effect:
    """The own image of a debug copy goes, also one that nobody has seen: the reply to its
    making may have been lost."""
    first = ids(replica_set, "drop-image", revision)
    return RemoveDebugImage(*first, image=replica_set.debug_image)


def remove(replica_set: ReplicaSet, revision: Revision) -> Effect:
    """The container goes, also one that nobody has seen: the reply to its creation may have been
    lost."""
    first = ids(replica_set, "remove", revision)
    made_by = ids(replica_set, "create", revision)[0] if revision.container == "absent" else ""
    return RemoveContainer(*first, container(revision), revision.container_id, made_by)


def settle(replica_set: ReplicaSet, step: str = "settle") -> Effect:
    """The operation ends."""
    operation = replica_set.operation or ""
    return Settle(
        f"{operation}/{step}", operation, replica_set.name, replica_set.current, "replica_set"
    )


def give_up(replica_set: ReplicaSet) -> Effect:
    """It waits for what will not come: the outcome of this is a failure."""
    return settle(replica_set, "give-up")
