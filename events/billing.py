"""Facts about money: what usage costs from when on, and the totals of months that were closed."""

from typing import Literal

from msgspec import Struct

Meter = Literal["gpu", "cpu", "memory", "volume", "snapshot"]
"""What is metered: GPUs, CPU cores, memory, volumes, and kept system disks."""

ANY_MODEL = "*"
"""The model in a price that is for every GPU without a price of its own."""


class PriceSet(Struct, frozen=True, tag_field="type", tag="price.set.v1", omit_defaults=True):
    """From `valid_from_us` on this is the price of a meter, until one that begins later."""

    meter: Meter
    price: str
    """Decimal text: of one GPU, core or GB for an hour."""
    currency: str
    valid_from_us: int
    model: str = ANY_MODEL
    tenant: str = ""
    """The only one that it is for; empty is everybody."""


class ClosedLine(Struct, frozen=True, omit_defaults=True):
    """What a tenant used of a meter, and of a model of GPU, in a month."""

    tenant: str
    meter: Meter
    model: str
    usage: str
    """Exact: microseconds times GPUs, billionths of a core, or bytes. Too large for many
    readers of JSON to be a number."""
    intervals: int
    amount: str = ""
    """In the currency, rounded to six places; empty where nothing had a price."""


class MonthClosed(Struct, frozen=True, tag_field="type", tag="month.closed.v1", omit_defaults=True):
    """These are the totals of a month, for good, as the records up to `until_seq` gave them."""

    month: str
    """As "2026-11", in UTC."""
    until_seq: int
    currency: str
    total: str
    lines: tuple[ClosedLine, ...]
