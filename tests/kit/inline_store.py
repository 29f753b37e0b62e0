"""InlineStore: the read store for simulations, in memory and without a thread.

Everything that the rows are made by is the read store's own: its schema, its statements, its
transactions, its fence. What differs is where they run: in the loop's own thread, so that they
work on virtual time, with a turn for the others before and after, where the real store hops
between threads. A batch can so be cut off before it is written, or after, as by a crash.

It outlives the service as the file does: a service that starts again is given the same store.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from projections import schema
from projections.store import ReadStore
from projections.tables import Row, Value

T = TypeVar("T")

_made: list[sqlite3.Connection] = []
"""An empty one, as soon as there is one."""


class InlineStore(ReadStore):
    """A ReadStore whose file is memory. It cannot be damaged, and knows no `fast_rebuild`."""

    def __init__(self) -> None:
        super().__init__(Path("in-memory"), readers=0)

    async def open(self) -> None:
        """As the store's; opened again it holds what it held."""
        if self._writer is None:
            await super().open()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        done = work()
        await asyncio.sleep(0)
        return done

    def _open_writer(self) -> None:
        """As the store's. Only the first one in a process is made statement by statement: a copy
        costs a twentieth of that."""
        if _made:
            self._writer = self._connect()
            _made[0].backup(self._writer)
            self._file.remember()
            return
        super()._open_writer()
        made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._open_connection().backup(made)
        _made.append(made)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(":memory:", isolation_level=None)

    def _fault(self) -> None:
        return None

    async def lost(self) -> str | None:
        """As the store's; memory is not lost."""
        return None

    async def _rows(self, sql: str, *values: Value) -> list[Any]:
        return await self._in_thread(
            lambda: self._open_connection().execute(sql, values).fetchall()
        )

    async def rows(self) -> AsyncIterator[tuple[str, list[Row]]]:
        """As the store's: every row of every table, in the order of the keys."""
        for table in schema.COLUMNS:
            yield table, await self._rows(schema.select_all(table))
