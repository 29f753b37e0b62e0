"""What is due for orphans: the removal of those that are to go."""

from projections.state import ExpiredOrphan, State
from service.domain.effects import DropOrphan


def due_for_orphan(state: State, orphan_id: str) -> DropOrphan | None:
    """Its removal, until that is over in one way or the other."""
    found = expiring(state, orphan_id)
    if found is None:
        return None
    return DropOrphan(
        f"orphan/{found.id}-{found.seq}",
        found.operation_id,
        found.id,
        0,
        kind=found.kind,
        thing=found.name,
        object_id=found.object_id,
    )


def expiring(state: State, orphan_id: str) -> ExpiredOrphan | None:
    """The orphan that is being removed under this id, if there is one."""
    going = state.node.expiring if state.node is not None else ()
    return next((one for one in going if one.id == orphan_id), None)
