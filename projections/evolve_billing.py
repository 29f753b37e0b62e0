"""The fold of prices, and of months that were closed."""

from events.billing import MonthClosed, PriceSet
from events.record import Record
from projections.price_book import Month, Price
from projections.state import Folds, State


def _price_set(state: State, record: Record, event: PriceSet) -> None:
    price = Price(
        meter=event.meter,
        model=event.model,
        tenant=event.tenant,
        valid_from_us=event.valid_from_us,
        price=event.price,
        currency=event.currency,
        seq=state.seq,
    )
    state.prices[price.scope, price.valid_from_us] = price
    state.touched.add(("prices", price.scope, price.valid_from_us))


def _month_closed(state: State, record: Record, event: MonthClosed) -> None:
    state.months[event.month] = Month(event, state.seq, record.at_us, record.actor)
    state.touched.add(("months", event.month, 0))


FOLDS: Folds = {
    PriceSet: _price_set,
    MonthClosed: _month_closed,
}
