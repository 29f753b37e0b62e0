"""The read model of usage, prices and months: plain rows that a test puts in."""

from collections.abc import Sequence

from projections.price_book import Month, Price
from projections.usage import Interval, Opened
from projections.usage_queries import Place, UsageBasis, place_of


class MemoryUsage:
    """The port `UsageReads` on lists."""

    def __init__(self) -> None:
        self.seq = 0
        self.intervals: list[Interval] = []
        self.price_rows: list[Price] = []
        self.month_rows: dict[str, Month] = {}

    async def usage_basis(self, before_us: int) -> UsageBasis:
        open_ones = [one for one in self._rows() if one.ended_us is None]
        begun = [one for one in open_ones if one.begun_us < before_us]
        return UsageBasis(self.seq, self.price_rows, begun)

    async def usage_ended(self, after: Place, before_us: int, limit: int) -> Sequence[Opened]:
        ended = sorted((one for one in self._rows() if one.ended_us is not None), key=place_of)
        found = [one for one in ended if place_of(one) > after and one.begun_us < before_us]
        return found[:limit]

    def _rows(self) -> list[Opened]:
        by_record: dict[int, list[Interval]] = {}
        for one in self.intervals:
            by_record.setdefault(one.opened_seq, []).append(one)
        return [Opened(seq, tuple(some)) for seq, some in by_record.items()]

    async def prices(self) -> Sequence[Price]:
        return sorted(self.price_rows, key=lambda price: (price.scope, price.valid_from_us))

    async def months(self) -> Sequence[Month]:
        return [self.month_rows[name] for name in sorted(self.month_rows)]

    async def month(self, month: str) -> Month | None:
        return self.month_rows.get(month)
