"""A past to ask, on a ledger in memory."""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from events.record import Record
from projections.checkpoints import Checkpoints
from projections.queries import Queries
from projections.state import State
from projections.tables import history_row, take_batch
from projections.timeline import Timeline
from projections.usage import Usage
from service.application.explainer import Explainer
from service.application.past import Past
from service.ports import StoredEntry
from tests.kit.builders import PORT_FIRST
from tests.kit.inline_store import InlineStore
from tests.kit.logs import content, entries, fold


class ListedLedger:
    """A ledger that is a list, and counts what is read from it."""

    def __init__(self, history: Sequence[Record] = ()) -> None:
        self.stored = entries(history)
        self.read_records = 0

    async def read(
        self, after_seq: int, until_seq: int
    ) -> AsyncGenerator[Sequence[StoredEntry], None]:
        """Batches of what it has between two sequences."""
        assert after_seq < until_seq <= len(self.stored)
        for begin in range(after_seq, until_seq, 1_000):
            batch = self.stored[begin : min(until_seq, begin + 1_000)]
            self.read_records += len(batch)
            yield batch


class Standing:
    """A clock that stands, and how far the rows are."""

    def __init__(self, now_us: int, stored_seq: int) -> None:
        self._now_us = now_us
        self.stored_seq = stored_seq

    def now_us(self) -> int:
        """As the port says."""
        return self._now_us

    def monotonic_s(self) -> float:
        """As the port says."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """As the port says: at once."""


async def stored(history: Sequence[Record], store: InlineStore) -> State:
    """Write the rows of a history into an open store; its fold."""
    state = fold(history)
    lines = [history_row(seq, record) for seq, record in enumerate(history, 1)]
    await store.apply(take_batch(state, Usage(), 0, lines))
    return state


def past_of(history: Sequence[Record], rows: Queries) -> Past:
    """The past of a history whose rows are stored, without any checkpoint."""
    timeline = Timeline(ListedLedger(history).read, Checkpoints(Path("/nonexistent")))
    last_us = max((record.at_us for record in history), default=0)
    standing = Standing(last_us + 1, len(history))
    return Past(timeline, rows, standing, standing)


def explainer_of(history: Sequence[Record], rows: Queries, past: Past) -> Explainer:
    """Who explains a history whose rows are stored; some host ports are lent."""
    return Explainer(past, rows, ListedLedger(history).read, PORT_FIRST, PORT_FIRST + 9)


def whole(state: State) -> dict[str, Any]:
    """All that a state says, but for operations that have ended."""
    said = {key: dict(v.items()) if isinstance(v, dict) else v for key, v in content(state).items()}
    going_on = (one for one in state.operations.values() if one.finished_seq is None)
    return {**said, "operations": {one.id: one for one in going_on}, "finished": None}
