"""What is sent and answered about usage, prices and months."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Struct

from events.billing import Meter
from service.web.schemas_fields import about

PRICE_LENGTH_MAX = 22
MODEL_LENGTH_MAX = 128
TENANT_LENGTH_MAX = 128


class PriceBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a meter costs from an instant on."""

    meter: Annotated[Meter, about("What it is the price of.", "gpu")]
    price: Annotated[
        str,
        about(
            "Of one GPU, core or GB (1024 MB) for an hour: decimal, with nine places at most.",
            "2.40",
            maxLength=PRICE_LENGTH_MAX,
        ),
    ]
    currency: Annotated[str, about("Three letters; all prices have the same.", "EUR")]
    valid_from: Annotated[
        str, about("An instant, or a date in UTC.", "2026-11-01", "2026-11-01T00:00:00Z")
    ]
    model: Annotated[
        str | None,
        about("Of the meter gpu: only GPUs of this name.", "H100", maxLength=MODEL_LENGTH_MAX),
    ] = None
    tenant: Annotated[
        str | None, about("Only for this tenant.", "lab", maxLength=TENANT_LENGTH_MAX)
    ] = None


class UsageLine(Struct, frozen=True, rename="camel"):
    """What was used of a meter by one group."""

    meter: Meter
    unit: str
    """What the amounts are of, times seconds or hours: GPU, core or GB (1024 MB)."""
    group: dict[str, str]
    """By what was grouped by: the value. Empty where there is none."""
    exact: str
    """The usage as a whole number: microseconds times GPUs, billionths of a core, or bytes."""
    seconds: str
    hours: str
    kept_hours: str
    """What of it is GPUs that were kept while their container did not run."""
    unpriced_hours: str
    """What of it has no price."""
    amount: str | None
    """In the currency, rounded to six places; null where nothing has a price."""
    notes: dict[str, int]
    """Of how many of the intervals something is to be known: `paused`, `waiting` (a GPU kept),
    `no_limit`, `no_size` (nothing to meter by), `record_time` (Docker had none), `clock` (a time
    was before what came before it, or after its record)."""
    records: Sequence[Sequence[int | None]]
    """Of each interval the records of the ledger that opened and closed it; null: it is open."""


class UsageData(Struct, frozen=True, rename="camel"):
    """Usage in a window, and what it costs."""

    begin: str
    end: str
    """Outside the window. Never later than now: what goes on is counted up to here."""
    until_seq: int
    """The last record that it was made from."""
    group_by: list[str]
    currency: str | None
    """Null while there is no price."""
    total: str | None
    """Of all lines, rounded once; null while there is no price."""
    lines: list[UsageLine]


class PriceData(Struct, frozen=True, rename="camel"):
    """A price, and the record that set it."""

    meter: Meter
    model: str
    """`*` for every one that has no price of its own."""
    tenant: str
    """Empty for everybody that has no price of its own."""
    price: str
    currency: str
    valid_from: str
    seq: int


class PricesData(Struct, frozen=True):
    """Every price there ever was, by what it is for and its begin."""

    prices: list[PriceData]


class MonthLine(Struct, frozen=True, rename="camel"):
    """What a tenant used of a meter in a month."""

    tenant: str
    meter: Meter
    model: str
    unit: str
    exact: str
    hours: str
    amount: str | None


class MonthDifference(Struct, frozen=True, rename="camel"):
    """A line that would be another one if the month was closed now."""

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
    """The record that closed it."""
    until_seq: int
    """The last record that its totals were made from."""


class MonthsData(Struct, frozen=True):
    """The months that were closed, in their order."""

    months: list[MonthSummary]


class MonthData(Struct, frozen=True, rename="camel"):
    """A closed month: its totals as recorded, and where today's fold says otherwise."""

    month: MonthSummary
    lines: list[MonthLine]
    differences: list[MonthDifference]
    """Empty as it should be; else a record that came late tells of that month."""


class MonthClosedData(Struct, frozen=True):
    """The month was closed with this total."""

    month: str
    total: str
    currency: str
