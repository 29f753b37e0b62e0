"""The bill: intervals, prices and a window in; lines with totals and the records behind them out.

Pure, and in whole numbers: microseconds times an amount, times billionths of the currency. It is
rounded only when it is shown, so parts of a window, or of a bill, add up to the whole exactly.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from msgspec import Struct, field

from events.billing import ANY_MODEL, ClosedLine, Meter, MonthClosed
from projections.price_book import Price
from projections.usage import Interval

HOUR_US = 3_600_000_000

SCALES: Mapping[Meter, int] = {
    "gpu": 1,
    "cpu": 1_000_000_000,
    "memory": 1 << 30,
    "volume": 1 << 30,
    "snapshot": 1 << 30,
}
"""So much of an interval's amount is one unit: a GPU, a core, a GB (of 1024, as the API's)."""

UNITS: Mapping[Meter, str] = {
    "gpu": "GPU",
    "cpu": "core",
    "memory": "GB",
    "volume": "GB",
    "snapshot": "GB",
}
"""What one of a meter is called; usage is this times seconds or hours."""

GROUPS = ("tenant", "model", "name", "revision", "gpu", "interval")
"""What lines can be made for; beside these `label:<key>`. A meter always has lines of its own."""

LABEL = "label:"

PRICE_PLACES = 9
"""A price is a whole number of billionths."""

_NANO: int = 10**PRICE_PLACES
_COMMON = (1 << 30) * 5**9
"""The least common multiple of the scales."""

_MONEY = _NANO * _COMMON * HOUR_US
"""So much of `Line.money` is one of the currency."""

_EVER = 1 << 62


class Window(Struct, frozen=True):
    """From one instant up to another, which is outside (microseconds, UTC)."""

    begin_us: int
    end_us: int


class Line(Struct):
    """What was used of a meter by one group."""

    meter: Meter
    keys: tuple[str, ...]
    """Its values of what was grouped by, in that order."""
    usage: int = 0
    """Microseconds times GPUs, billionths of a core, or bytes."""
    kept: int = 0
    """What of it is GPUs that were kept while their container did not run."""
    priced: int = 0
    """What of it has a price."""
    money: int = 0
    """See `show_money`."""
    notes: dict[str, int] = field(default_factory=dict)
    """Of how many intervals something is to be known."""
    records: list[tuple[int, int | None]] = field(default_factory=list)
    """The records that opened and closed each interval; None for one that was still open."""


class PriceBook:
    """The prices, and which of them holds when.

    A tenant's own price goes before one for everybody, then that of a model before that of any;
    of those, the one that began last.
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self.currency = ""
        self._prices: dict[tuple[str, str, str], dict[int, int]] = {}
        self._pieces: dict[tuple[str, str, str], list[tuple[int, int, int | None]]] = {}
        for price in prices:
            self.currency = price.currency
            scope = self._prices.setdefault((price.meter, price.model, price.tenant), {})
            scope[price.valid_from_us] = nanos(price.price)

    def pieces(
        self, interval: Interval, begin_us: int, end_us: int
    ) -> Iterator[tuple[int, int | None]]:
        """How long which price holds, in billionths an hour; None where there is none."""
        scope = interval.meter, interval.model, interval.tenant
        known = self._pieces.get(scope)
        if known is None:
            known = self._pieces[scope] = self._made_pieces(*scope)
        for begin, end, price in known:
            if begin < end_us and end > begin_us:
                yield min(end, end_us) - max(begin, begin_us), price

    def _made_pieces(
        self, meter: str, model: str, tenant: str
    ) -> list[tuple[int, int, int | None]]:
        """All of time, cut where the price changes."""
        owners = dict.fromkeys((tenant, ""))
        models = dict.fromkeys((model, ANY_MODEL))
        scopes = [self._prices.get((meter, m, owner), {}) for owner in owners for m in models]
        cuts = sorted({-_EVER, _EVER, *(begin for scope in scopes for begin in scope)})
        return [(begin, end, _price_at(scopes, begin)) for begin, end in pairwise(cuts)]


def _price_at(scopes: list[dict[int, int]], at_us: int) -> int | None:
    for scope in scopes:
        if begun := [begin for begin in scope if begin <= at_us]:
            return scope[max(begun)]
    return None


class Bill:
    """The lines of a window; intervals are added in any order."""

    def __init__(self, window: Window, prices: PriceBook, group_by: tuple[str, ...]) -> None:
        self.window = window
        self.prices = prices
        self.group_by = group_by
        self._lines: dict[tuple[Meter, tuple[str, ...]], Line] = {}

    def add(self, interval: Interval) -> None:
        """What of an interval lies in the window; one that is open goes on until its end."""
        begin_us = max(interval.begun_us, self.window.begin_us)
        end_us = self.window.end_us
        if interval.ended_us is not None and interval.ended_us < end_us:
            end_us = interval.ended_us
        if end_us <= begin_us:
            return
        line = self._line_of(interval)
        for length_us, price in self.prices.pieces(interval, begin_us, end_us):
            used = length_us * interval.amount
            line.usage += used
            if interval.kept:
                line.kept += used
            if price is not None:
                line.priced += used
                line.money += used * price * (_COMMON // SCALES[interval.meter])
        line.records.append((interval.opened_seq, interval.closed_seq))
        for note in (*interval.notes, interval.kept):
            if note:
                line.notes[note] = line.notes.get(note, 0) + 1

    def lines(self) -> list[Line]:
        """Every line, in the order of their groups: foo-9 before foo-10."""

        def order(line: Line) -> tuple[list[tuple[str, int, int]], str]:
            keys = zip(self.group_by, line.keys, strict=True)
            return [_order_of(group, key) for group, key in keys], line.meter

        return sorted(self._lines.values(), key=order)

    def money(self) -> int:
        """The total; see `show_money`."""
        return sum(line.money for line in self._lines.values())

    def _line_of(self, interval: Interval) -> Line:
        keys = tuple(value_of(interval, group) for group in self.group_by)
        line = self._lines.get((interval.meter, keys))
        if line is None:
            line = self._lines[interval.meter, keys] = Line(interval.meter, keys)
        return line


def value_of(interval: Interval, group: str) -> str:
    """The value of an interval by which it is put to a line; empty where it has none."""
    if group.startswith(LABEL):
        return interval.labels.get(group.removeprefix(LABEL), "")
    match group:
        case "tenant":
            return interval.tenant
        case "model":
            return interval.model
        case "name":
            return interval.name
        case "revision":
            return f"{interval.name}-{interval.number}"
        case "gpu":
            return interval.gpu
        case _:
            return f"{interval.opened_seq}.{interval.place}"


def _order_of(group: str, key: str) -> tuple[str, int, int]:
    """Where a value of a group stands among others: text, then numbers."""
    if group == "revision":
        name, _dash, number = key.rpartition("-")
        return name, int(number), 0
    if group == "interval":
        seq, _dot, place = key.partition(".")
        return "", int(seq), int(place)
    return key, 0, 0


def is_group(text: str) -> bool:
    """Can lines be made for this?"""
    return text in GROUPS or (text.startswith(LABEL) and len(text) > len(LABEL))


def nanos(price: str) -> int:
    """A price in billionths; the text is a well-formed one."""
    whole, _, part = price.partition(".")
    return int(whole) * _NANO + int(part.ljust(PRICE_PLACES, "0"))


def show_money(money: int, places: int = 6) -> str:
    """An amount as decimal text, rounded to the nearest, and from the middle to the even."""
    return _rounded(money, _MONEY, places)


def show_usage(usage: int, meter: Meter, per_us: int, places: int) -> str:
    """A usage in units times seconds (1,000,000 µs) or hours (`HOUR_US`), rounded so."""
    return _rounded(usage, SCALES[meter] * per_us, places)


def _rounded(value: int, of: int, places: int) -> str:
    power: int = 10**places
    scaled, rest = divmod(value * power, of)
    if 2 * rest > of or (2 * rest == of and scaled % 2):
        scaled += 1
    digits = str(scaled).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


CLOSED_BY = ("tenant", "model")
"""What the totals of a month are made for."""


def totals_of(month: str, bill: Bill, until_seq: int) -> MonthClosed:
    """A month's totals, from its bill grouped by `CLOSED_BY`."""
    lines = tuple(
        ClosedLine(
            tenant=line.keys[0],
            meter=line.meter,
            model=line.keys[1],
            usage=str(line.usage),
            intervals=len(line.records),
            amount=show_money(line.money) if line.priced else "",
        )
        for line in bill.lines()
    )
    return MonthClosed(month, until_seq, bill.prices.currency, show_money(bill.money()), lines)


def differences(closed: MonthClosed, now: MonthClosed) -> list[tuple[ClosedLine, ClosedLine]]:
    """Where today's fold says otherwise: the line as closed, and as it would be now."""
    before = {_who(line): line for line in closed.lines}
    after = {_who(line): line for line in now.lines}
    found = []
    for who in sorted(before.keys() | after.keys()):
        old = before.get(who) or _nothing(after[who])
        new = after.get(who) or _nothing(before[who])
        if (old.usage, old.amount) != (new.usage, new.amount):
            found.append((old, new))
    return found


def _who(line: ClosedLine) -> tuple[str, str, str]:
    return line.tenant, line.meter, line.model


def _nothing(like: ClosedLine) -> ClosedLine:
    return ClosedLine(like.tenant, like.meter, like.model, "0", 0)
