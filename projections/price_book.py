"""Prices and closed months in the state."""

from msgspec import Struct

from events.billing import Meter, MonthClosed


class Price(Struct, frozen=True, gc=False):
    """What a meter costs from an instant on; set again for the same, the newer one holds."""

    meter: Meter
    model: str
    tenant: str
    valid_from_us: int
    price: str
    currency: str
    seq: int
    """The record that set it."""

    @property
    def scope(self) -> str:
        """What it is for, as one text: with the instant it is the key."""
        return f"{self.meter}/{self.model}/{self.tenant}"


class Month(Struct, frozen=True, gc=False):
    """A month that was closed, with the record that did it."""

    totals: MonthClosed
    seq: int
    at_us: int
    actor: str

    @property
    def name(self) -> str:
        """As "2026-11"."""
        return self.totals.month
