"""Debug copies that were being made when the host was lost: what they begin with is not here.

None of them is made from what was made anew: it would be no copy.
"""

from collections.abc import Iterator

from events.outcomes import EffectFailed
from events.record import Event
from events.recovery import ContainerLost
from projections.state import ReplicaSet, Revision, State
from service.domain.debug_copies import copy_ended
from service.domain.invariants import IN_USE
from service.domain.recovery_commands import RecoverReplicaSet

HOST_LOST = "the host that its container was on was lost while it was going on"


def is_lost(revision: Revision, command: RecoverReplicaSet) -> bool:
    """Was its container there, and is it not here?"""
    return revision.container in IN_USE and revision.number not in command.containers


def is_copy_lost(replica_set: ReplicaSet, events: tuple[Event, ...]) -> bool:
    """Is it a debug copy that will not be finished, because of these events or others before?"""
    failure = replica_set.failure
    before = failure is not None and failure.reason == "host_lost"
    now = any(isinstance(event, ContainerLost) for event in events)
    return bool(replica_set.debug_of) and (before or now)


def copies_in_vain(
    state: State, replica_set: ReplicaSet, command: RecoverReplicaSet
) -> Iterator[Event]:
    """Debug copies that were being made of a system disk of this one which is not here."""
    for loan in replica_set.loans:
        source = state.revisions[replica_set.name, loan.version]
        lost = is_lost(source, command) if loan.live else source.snapshot not in command.kept
        if lost:
            copy = state.replica_sets[loan.to]
            yield from copy_ended(state, copy.name, copy.current)
            if copy.failure is None:
                yield _host_lost(copy)


def debug_lost(
    state: State, command: RecoverReplicaSet, replica_set: ReplicaSet
) -> tuple[Event, ...]:
    """A copy whose container is lost is none any more: it is undone, and can be asked for anew."""
    current = state.revisions[replica_set.name, replica_set.current]
    if not is_lost(current, command):
        return ()
    return (
        ContainerLost(current.name, current.number, "running"),
        *copy_ended(state, current.name, current.number),
        _host_lost(replica_set),
    )


def _host_lost(replica_set: ReplicaSet) -> EffectFailed:
    """Its operation fails, and is undone like any other."""
    operation_id = replica_set.operation or ""
    return EffectFailed(
        operation_id=operation_id,
        effect_id=f"{operation_id}/settle",
        effect="Settle",
        kind="replica_set",
        name=replica_set.name,
        number=replica_set.current,
        reason="host_lost",
        message=HOST_LOST,
    )
