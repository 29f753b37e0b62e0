"""check: the same facts told three times (ledger, read store, Docker), and where they differ."""

from collections.abc import Collection, Mapping, Sequence

from events.labels import LABEL_NAME, LABEL_REVISION
from events.values import split_versioned, versioned
from projections.state import State
from service.domain.invariants import check as breaches
from service.domain.orphan_commands import Thing
from service.domain.orphans import WORDS, orphans
from service.ports import ObservedContainer

SEEN_AS = {"created": ("created",), "running": ("running",), "exited": ("exited", "dead")}
"""What Docker's status may be for a container that the ledger says is so."""

DIFFERENCES_PER_TABLE_MAX = 20

HINT = "; see: gpuledger orphans"


def compare_rows(
    table: str, stored: Sequence[tuple[object, ...]], folded: Sequence[tuple[object, ...]]
) -> list[str]:
    """Rows of the read store against those of a fresh fold."""
    if stored == folded:
        return []
    missing = [row for row in folded if row not in stored]
    extra = [row for row in stored if row not in folded]
    found = [f"read store, {table}: {_head(row)} is missing or differs" for row in missing]
    found += [
        f"read store, {table}: {_head(row)} does not follow from the ledger" for row in extra
    ]
    if len(found) > DIFFERENCES_PER_TABLE_MAX:
        more = len(found) - DIFFERENCES_PER_TABLE_MAX
        found = [*found[:DIFFERENCES_PER_TABLE_MAX], f"read store, {table}: {more} more"]
    return found


def _head(row: tuple[object, ...]) -> str:
    return " ".join(str(value) for value in row[:2])


def compare_engine(state: State, seen: Sequence[ObservedContainer]) -> list[str]:
    """Containers and leases of the ledger against the containers that Docker shows."""
    found = [f"ledger: {breach.subject}: {breach.message}" for breach in breaches(state)]
    by_name: Mapping[str, ObservedContainer] = {container.name: container for container in seen}
    expected: set[str] = set()
    busy: set[str] = set()
    for replica_set in state.replica_sets.values():
        if replica_set.operation is not None:
            busy.add(replica_set.name)  # on its way: any difference is about to go
            continue
        for number in (replica_set.current, replica_set.previous):
            revision = state.revisions.get((replica_set.name, number or 0))
            if revision is None or revision.container not in SEEN_AS:
                continue
            name = versioned(revision.name, revision.number)
            expected.add(name)
            container = by_name.get(name)
            if container is None:
                found.append(f"docker: {name} is gone; the ledger says {revision.container}")
            elif container.status not in SEEN_AS[revision.container]:
                found.append(
                    f"docker: {name} is {container.status};"
                    f" the ledger says {revision.container}"
                )
    for container in seen:
        if container.name not in expected and container.labels.get(LABEL_NAME) not in busy:
            of = f"{container.labels.get(LABEL_NAME)}-{container.labels.get(LABEL_REVISION)}"
            hint = "" if split_versioned(of) in state.revisions else HINT
            found.append(f"docker: container {container.name} ({of}) is not in the ledger{hint}")
    return found


def compare_things(state: State, seen: Sequence[Thing], told: Collection[str]) -> list[str]:
    """What is there in our name and in no record, but for containers that were told already."""
    return [
        f"orphan: {WORDS[one.thing.kind]} {one.thing.name}: {one.why}{HINT}"
        for one in orphans(state, seen, {}, now_us=0, grace_us=0)
        if one.thing.kind != "container" or one.thing.name not in told
    ]
