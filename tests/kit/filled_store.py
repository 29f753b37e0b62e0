"""A read store with the rows of the kit's history."""

from projections.evolve import evolve
from projections.state import State
from projections.store import ReadStore
from projections.tables import Row, history_row, take_batch
from projections.usage import Usage
from projections.usage_folds import meter
from tests.kit.histories import records


async def fill(store: ReadStore, count: int, names: int = 4, batch: int = 300) -> State:
    """Apply the first records of the kit's history, and give back their fold."""
    state, usage, history, after = State(), Usage(), list[Row](), 0
    for seq, record in enumerate(records(count, names), 1):
        evolve(state, seq, record)
        meter(usage, state, seq, record)
        history.append(history_row(seq, record))
        if seq % batch == 0 or seq == count:
            await store.apply(take_batch(state, usage, after, history))
            history, after = [], seq
    return state
