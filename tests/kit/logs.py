"""A ledger that is a list in memory, as far as a projector sees one; and a fold of it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from events.codec import encode
from events.record import Record
from projections.evolve import evolve
from projections.projector import Read
from projections.state import State
from service.ports import StoredEntry


def entries(records: Iterable[Record]) -> list[StoredEntry]:
    """Records as a ledger holds them, from sequence 1."""
    return [
        StoredEntry(seq, "subject", record.command_id, encode(record))
        for seq, record in enumerate(records, 1)
    ]


def finite(stored: Sequence[StoredEntry], batch: int = 1_000) -> Read:
    """Reads the list to its end."""

    async def read(after_seq: int) -> AsyncIterator[Sequence[StoredEntry]]:
        for begin in range(after_seq, len(stored), batch):
            yield stored[begin : begin + batch]

    return read


class GrowingLog:
    """Reads what it has and waits for more."""

    def __init__(self, stored: Iterable[StoredEntry] = ()) -> None:
        self._stored = list(stored)
        self._grown = asyncio.Event()

    def append(self, more: Iterable[StoredEntry]) -> None:
        self._stored += more
        self._grown.set()

    async def read(self, after_seq: int) -> AsyncIterator[Sequence[StoredEntry]]:
        while True:
            if some := self._stored[after_seq : after_seq + 1_000]:
                after_seq = some[-1].seq
                yield some
            else:
                self._grown.clear()
                await self._grown.wait()


def fold(records: Iterable[Record]) -> State:
    """The state that these records make, from sequence 1."""
    state = State()
    for seq, record in enumerate(records, 1):
        evolve(state, seq, record)
    return state


_CONTENT: tuple[tuple[str, Callable[[State], Any]], ...] = (
    ("seq", lambda state: state.seq),
    ("node", lambda state: state.node),
    ("replica_sets", lambda state: state.replica_sets),
    ("revisions", lambda state: state.revisions),
    ("volumes", lambda state: state.volumes),
    ("gpus", lambda state: state.gpus),
    ("ports", lambda state: state.ports),
    ("operations", lambda state: state.operations),
    ("prices", lambda state: state.prices),
    ("months", lambda state: state.months),
    ("webhooks", lambda state: state.webhooks),
    ("finished", lambda state: list(state.finished)),
    ("volume_users", lambda state: state.volume_users),
    ("volumes_used", lambda state: state.volumes_used),
)


def content(state: State) -> dict[str, Any]:
    """All that a state says, to compare two."""
    return {name: get(state) for name, get in _CONTENT}
