"""The fold of what is done about orphans: only those that are being removed are known here."""

from msgspec.structs import replace

from events.orphans import OrphanExpired, OrphanRemoved, OrphanSpared
from events.record import Record
from projections.evolve_replica_sets import add_step
from projections.state import ExpiredOrphan, Folds, State


def _put(state: State, expiring: tuple[ExpiredOrphan, ...]) -> None:
    if state.node is not None:
        state.node = replace(state.node, expiring=expiring)
        state.touched.add(("node", state.node.node, 0))


def _without(state: State, orphan_id: str) -> tuple[ExpiredOrphan, ...]:
    expiring = state.node.expiring if state.node is not None else ()
    return tuple(one for one in expiring if one.id != orphan_id)


def _expired(state: State, record: Record, event: OrphanExpired) -> None:
    orphan = ExpiredOrphan(
        id=event.orphan,
        kind=event.kind,
        name=event.name,
        object_id=event.object_id,
        of=event.of,
        seq=state.seq,
        operation_id=record.operation_id,
    )
    _put(state, (*_without(state, event.orphan), orphan))
    add_step(state, record.operation_id, record.at_us, event.message)


def _removed(state: State, record: Record, event: OrphanRemoved) -> None:
    _put(state, _without(state, event.orphan))
    add_step(state, record.operation_id, record.at_us, f"{event.name} is gone")


def _spared(state: State, record: Record, event: OrphanSpared) -> None:
    _put(state, _without(state, event.orphan))
    add_step(state, record.operation_id, record.at_us, f"{event.name} stays: {event.message}")


FOLDS: Folds = {
    OrphanExpired: _expired,
    OrphanRemoved: _removed,
    OrphanSpared: _spared,
}
