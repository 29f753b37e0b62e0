"""The answers of the API about money, as far as they are shown."""

from msgspec import Struct


class UsageLine(Struct, frozen=True, rename="camel"):
    """What was used of a meter by one group."""

    meter: str
    unit: str
    group: dict[str, str]
    exact: str
    seconds: str
    hours: str
    kept_hours: str
    unpriced_hours: str
    amount: str | None
    notes: dict[str, int]
    records: tuple[tuple[int, int | None], ...]


class Usage(Struct, frozen=True, rename="camel"):
    """GET /usage."""

    begin: str
    end: str
    group_by: tuple[str, ...]
    currency: str | None
    total: str | None
    lines: tuple[UsageLine, ...]


class Price(Struct, frozen=True, rename="camel"):
    """A price."""

    meter: str
    model: str
    tenant: str
    price: str
    currency: str
    valid_from: str


class Prices(Struct, frozen=True):
    """GET /prices."""

    prices: tuple[Price, ...]


class MonthLine(Struct, frozen=True):
    """What a tenant used of a meter in a month."""

    tenant: str
    meter: str
    model: str
    unit: str
    hours: str
    amount: str | None


class Difference(Struct, frozen=True):
    """A line that would be another one by now."""

    closed: MonthLine
    now: MonthLine


class MonthSummary(Struct, frozen=True, rename="camel"):
    """A month that was closed."""

    month: str
    total: str
    currency: str | None
    closed_time: str
    closed_by: str
    seq: int
    until_seq: int


class Months(Struct, frozen=True):
    """GET /months."""

    months: tuple[MonthSummary, ...]


class Month(Struct, frozen=True):
    """GET /months/{month}."""

    month: MonthSummary
    lines: tuple[MonthLine, ...]
    differences: tuple[Difference, ...]
