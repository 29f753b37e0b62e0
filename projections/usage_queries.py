"""The queries on usage, prices and closed months. Only SQL here, as in `queries`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from msgspec import Struct

from projections import tables
from projections.price_book import Month, Price
from projections.tables import Value
from projections.usage import Opened

_T = TypeVar("_T")

_SEQ_MAX = (1 << 63) - 1

_BASIS = """
    SELECT 'seq', seq FROM position
    UNION ALL SELECT 'price', body FROM (SELECT body FROM prices ORDER BY scope, valid_from_us)
    UNION ALL SELECT 'open', body FROM usage WHERE ended_us IS NULL AND begun_us < ?
"""
_ENDED = """
    SELECT body FROM usage
    WHERE (ended_us, seq) > (?, ?) AND begun_us < ?
    ORDER BY ended_us, seq LIMIT ?
"""

Place = tuple[int, int]
"""Of a row among those that ended: its last end, and the record that opened it."""


class UsageBasis(Struct, frozen=True):
    """What a bill begins with, all as of one record."""

    seq: int
    prices: list[Price]
    open: list[Opened]
    """The rows that had not ended by then. Those that had are told by `closed_seq`."""


def place_of(row: Opened) -> Place:
    """The place of a row that has ended."""
    return row.ended_us or 0, row.seq


def place_after(instant_us: int) -> Place:
    """Behind all rows that ended until then."""
    return instant_us, _SEQ_MAX


class UsageQueries(ABC):
    """Questions about what was used, and what it costs."""

    @abstractmethod
    async def _rows(self, sql: str, *values: Value) -> list[Any]: ...

    @abstractmethod
    def _decoded(self, read: Callable[[Any], _T], bodies: Iterable[Any]) -> list[_T]:
        """What the bodies of rows say."""

    async def usage_basis(self, before_us: int) -> UsageBasis:
        """The prices, and the open rows that began before an instant, of one snapshot."""
        found: dict[str, list[Any]] = {"seq": [], "price": [], "open": []}
        for kind, value in await self._rows(_BASIS, before_us):
            found[kind].append(value)
        prices = self._decoded(tables.read_price, found["price"])
        return UsageBasis(found["seq"][0], prices, self._decoded(tables.read_opened, found["open"]))

    async def usage_ended(self, after: Place, before_us: int, limit: int) -> list[Opened]:
        """The next rows that ended, by their end; only those begun before an instant."""
        rows = await self._rows(_ENDED, *after, before_us, limit)
        return self._decoded(tables.read_opened, (row[0] for row in rows))

    async def prices(self) -> list[Price]:
        """Every price there ever was, by what it is for and its begin."""
        rows = await self._rows("SELECT body FROM prices ORDER BY scope, valid_from_us")
        return self._decoded(tables.read_price, (row[0] for row in rows))

    async def months(self) -> list[Month]:
        """The months that were closed, in their order."""
        rows = await self._rows("SELECT body FROM months ORDER BY month")
        return self._decoded(tables.read_month, (row[0] for row in rows))

    async def month(self, month: str) -> Month | None:
        """A month, if it was closed."""
        rows = await self._rows("SELECT body FROM months WHERE month = ?", month)
        return next(iter(self._decoded(tables.read_month, (row[0] for row in rows))), None)
