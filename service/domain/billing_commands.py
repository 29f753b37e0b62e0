"""Commands about money."""

from msgspec import Struct

from events.billing import ANY_MODEL, Meter


class SetPrice(Struct, frozen=True, tag=True):
    """From an instant on this is the price of a meter. `name` is the meter."""

    name: Meter
    price: str
    """Decimal text: of one GPU, core or GB for an hour."""
    currency: str
    valid_from_us: int
    model: str = ANY_MODEL
    tenant: str = ""


class CloseMonth(Struct, frozen=True, tag=True):
    """Record the totals of a month for good. `name` is the month, "2026-11"."""

    name: str
