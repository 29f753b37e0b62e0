"""The queries that find records by what they are about. Only SQL here, as in `queries`.

They go by the rows of `history`: the records themselves are in the ledger.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from heapq import merge
from itertools import islice
from typing import Any

from projections.tables import Value

_NEWEST = "seq < ? ORDER BY seq DESC LIMIT ?"

_SETTLING = "verb NOT IN ('progress', 'execute') AND type <> 'command.executed.v1'"
"""How far a step is, and commands in a container, change nothing that is so."""


class RecordQueries(ABC):
    """Questions about where records are; the answers are sequences, the newest first."""

    @abstractmethod
    async def _rows(self, sql: str, *values: Value) -> list[Any]: ...

    async def records_about(
        self,
        addresses: Sequence[tuple[str, str]],
        before_seq: int,
        limit: int,
        *,
        settling: bool = False,
    ) -> list[int]:
        """The newest records of some kinds and names, those before a sequence; with `settling`
        without those that change nothing."""
        rest = f"{_SETTLING} AND {_NEWEST}" if settling else _NEWEST
        sql = f"SELECT seq FROM history WHERE kind = ? AND name = ? AND {rest}"
        # One at a time: of an OR, SQLite would walk the whole table by its key.
        found = [await self._rows(sql, *one, before_seq, limit) for one in addresses]
        seqs = ((int(row[0]) for row in rows) for rows in found)
        return list(islice(merge(*seqs, reverse=True), limit))

    async def records_at(
        self, address: tuple[str, str], at_us: int, until_seq: int, limit: int
    ) -> list[int]:
        """The records of a kind and name whose commands were issued at an instant."""
        sql = (
            "SELECT seq FROM history WHERE kind = ? AND name = ? AND at_us = ?"
            " AND seq <= ? ORDER BY seq DESC LIMIT ?"
        )
        return [int(row[0]) for row in await self._rows(sql, *address, at_us, until_seq, limit)]

    async def records_between_at(self, after_seq: int, until_seq: int, at_us: int) -> list[int]:
        """The records of a range whose commands were issued at an instant; it is walked through."""
        sql = (
            "SELECT seq FROM history WHERE seq > ? AND seq <= ? AND at_us = ? ORDER BY seq DESC"
        )
        return [int(row[0]) for row in await self._rows(sql, after_seq, until_seq, at_us)]

    async def records_of(
        self, operation_id: str, first_seq: int, until_seq: int, limit: int
    ) -> list[int]:
        """The newest records of an operation in the range in which it went on; that is walked
        through, since an index on operations would cost every record."""
        sql = (
            "SELECT seq FROM history WHERE seq >= ? AND seq <= ? AND operation_id = ?"
            " ORDER BY seq DESC LIMIT ?"
        )
        found = await self._rows(sql, first_seq, until_seq, operation_id, limit)
        return [int(row[0]) for row in found]
