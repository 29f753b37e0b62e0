"""evolve: one record folded into the state. Total: it cannot fail and cannot refuse.

The rules were applied when the record was decided; here it only becomes so. The cost is that
of what the record touches.
"""

from events.record import Record
from projections import (
    evolve_billing,
    evolve_debug_copies,
    evolve_observations,
    evolve_orphans,
    evolve_outcomes,
    evolve_recovery,
    evolve_replica_sets,
    evolve_resources,
    evolve_volumes,
    evolve_webhooks,
)
from projections.state import Folds, State

FOLDS: Folds = {
    **evolve_replica_sets.FOLDS,
    **evolve_volumes.FOLDS,
    **evolve_resources.FOLDS,
    **evolve_outcomes.FOLDS,
    **evolve_observations.FOLDS,
    **evolve_orphans.FOLDS,
    **evolve_billing.FOLDS,
    **evolve_webhooks.FOLDS,
    **evolve_debug_copies.FOLDS,
    **evolve_recovery.FOLDS,
}
"""One function per event; a test compares this with the union `Event`."""


def evolve(state: State, seq: int, record: Record) -> None:
    """Fold one record; afterwards `state.seq` is `seq` and `state.touched` names what changed."""
    state.seq = seq
    for event in record.events:
        FOLDS[type(event)](state, record, event)
