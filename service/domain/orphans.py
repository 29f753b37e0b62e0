"""The rules for orphans: what carries our owner's name, and no record accounts for.

A record comes before what it asks for, so an engine object that the state does not know was made
by nobody whom this ledger knows of: by a ledger that is younger than the backup it was restored
from, or by hand. It is only told at first; it goes when a caller says so, or when it was an orphan
throughout the grace period. A volume's disk is somebody's data: it goes only when a caller says so.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from events.operations import OperationFailed, OperationSucceeded
from events.orphans import OrphanExpired, OrphanRemoved, OrphanSpared
from events.record import Event
from events.values import OrphanKind, split_versioned
from projections.state import State
from service.domain.commands import Envelope, Failed, Request, Succeeded
from service.domain.effects import DropOrphan
from service.domain.guards import Decision, accepted
from service.domain.orphan_commands import ExpireOrphan, RemoveOrphan, Thing
from service.domain.reconcile_orphans import expiring
from service.domain.rejections import Reason, Rejected

WORDS: Mapping[OrphanKind, str] = {
    "container": "container",
    "volume": "volume",
    "image": "image",
    "system_disk": "kept system disk",
    "volume_disk": "volume disk",
}
"""What people call each kind; in this order they are removed, what uses before what is used."""

BY_HAND: OrphanKind = "volume_disk"
"""The kind that has no grace which could be over."""

_ORDER = {kind: place for place, kind in enumerate(WORDS)}


class Orphan(Struct, frozen=True):
    """Something of ours that no record accounts for."""

    thing: Thing
    why: str
    since_us: int
    """Since when it was seen to be one, without a break."""
    due_us: int
    """When the service removes it by itself; 0 for never."""


def orphans(
    state: State, seen: Iterable[Thing], since_us: Mapping[str, int], now_us: int, grace_us: int
) -> tuple[Orphan, ...]:
    """Which of what is seen are orphans, those that use others first.

    `since_us` has by id since when each is one; what is not in it is one since now. A grace of 0
    is for ever.
    """
    kept = _kept_disks(state)
    found = []
    for thing in seen:
        if _is_ours(state, thing) and not _is_known(state, thing, kept):
            since = since_us.get(thing.id, now_us)
            due = since + grace_us if grace_us and thing.kind != BY_HAND else 0
            found.append(Orphan(thing, _why(thing), since, due))
    return tuple(sorted(found, key=lambda one: (_ORDER[one.thing.kind], one.thing.name)))


def remove(state: State, envelope: Envelope, command: RemoveOrphan) -> Decision:
    """A caller wants it gone now; the operation ends when it is."""
    thing = envelope.facts.orphan
    if thing is None:
        return Rejected(Reason.ORPHAN_NOT_FOUND, f"there is no orphan {command.name}")
    refused = _refusal(state, thing)
    if refused is not None:
        return refused
    return (
        accepted(envelope, "remove", command.name, "orphan"),
        _expired(thing, "its removal was asked for"),
    )


def expire(state: State, envelope: Envelope, command: ExpireOrphan) -> Decision:
    """The service removes it, once the grace is over."""
    refused = _refusal(state, command.thing)
    if refused is not None:
        return refused
    age_us = envelope.issued_at_us - command.since_us
    if command.thing.kind == BY_HAND or not 0 < command.grace_us <= age_us:
        return Rejected(Reason.NOTHING_NEW, f"the grace of {command.name} is not over")
    age_s, grace_s = age_us // 1_000_000, command.grace_us // 1_000_000
    return (_expired(command.thing, f"it was one for {age_s} s, and {grace_s} s are its grace"),)


def ended(effect: DropOrphan, outcome: Succeeded | Failed) -> tuple[Event, ...]:
    """What became of the removal, and with it of the operation that asked for it."""
    operation_id, about = effect.operation_id, (effect.name, effect.kind, effect.thing)
    if isinstance(outcome, Failed):
        spared = OrphanSpared(*about, outcome.reason, outcome.message)
        failed = OperationFailed(operation_id, outcome.reason, outcome.message)
        return (spared, failed) if operation_id else (spared,)
    removed = OrphanRemoved(*about)
    done = OperationSucceeded(operation_id, {"kind": effect.kind, "name": effect.thing})
    return (removed, done) if operation_id else (removed,)


def in_the_way(state: State, command: Request) -> Rejected | None:
    """Why a command has to wait: an orphan is going that may have the name of what it makes."""
    for orphan in state.node.expiring if state.node is not None else ():
        if orphan.of == command.name and not isinstance(command, RemoveOrphan):
            return Rejected(
                Reason.OPERATION_IN_PROGRESS,
                f"{WORDS[orphan.kind]} {orphan.name}, which is in no record, is being removed:"
                " wait a moment",
            )
    return None


def _refusal(state: State, thing: Thing) -> Rejected | None:
    if not _is_ours(state, thing) or _is_known(state, thing, _kept_disks(state)):
        return Rejected(
            Reason.ORPHAN_NOT_FOUND, f"{WORDS[thing.kind]} {thing.name} is no orphan (any more)"
        )
    if expiring(state, thing.id) is not None:
        return Rejected(
            Reason.OPERATION_IN_PROGRESS,
            f"{WORDS[thing.kind]} {thing.name} is being removed already",
        )
    return None


def _expired(thing: Thing, reason: str) -> OrphanExpired:
    return OrphanExpired(
        orphan=thing.id,
        kind=thing.kind,
        name=thing.name,
        message=f"{_why(thing)}; {reason}",
        object_id=thing.object_id,
        of=thing.of,
    )


def _is_ours(state: State, thing: Thing) -> bool:
    return state.node is not None and thing.owner == state.node.owner


def _is_known(state: State, thing: Thing, kept: frozenset[str]) -> bool:
    """Does a record account for it, or is an operation about to?

    Of a container or volume it is enough that its name or its labels were ever given to one: what
    is to be is created, adopted, renamed and removed by the executor, and by nobody else.
    """
    versions = [(thing.of, thing.number)]
    if (named := split_versioned(thing.name)) is not None:
        versions.append(named)
    if thing.kind == "container":
        return any(version in state.revisions for version in versions)
    if thing.kind == "volume":
        return any(_is_volume(state, *version) for version in versions)
    if thing.kind == "volume_disk":
        return thing.name in state.volumes
    replica_set = state.replica_sets.get(thing.of)
    busy = replica_set is not None and replica_set.operation is not None
    return busy or thing.name in kept


def _is_volume(state: State, name: str, number: int) -> bool:
    volume = state.volumes.get(name)
    if volume is None:
        return False
    return volume.operation is not None or any(v.number == number for v in volume.versions)


def _kept_disks(state: State) -> frozenset[str]:
    """The names of kept directories and images, and of the images that containers lie on."""
    revisions = state.revisions.values()
    names = {name for r in revisions for name in (r.snapshot, r.base_image) if name}
    return frozenset(names)


def _why(thing: Thing) -> str:
    if thing.kind == "volume_disk":
        return f"the ledger knows no volume {thing.name}"
    if thing.kind in ("container", "volume"):
        what = "version" if thing.kind == "container" else "volume"
        return f"the ledger knows no {what} {thing.of}-{thing.number}" if thing.of else (
            "the ledger knows nothing of this name"
        )
    return "no version in the ledger keeps its system disk in it"
