"""The rules for prices: one currency in a ledger, and none that reaches into a closed month."""

from events.billing import PriceSet
from events.operations import OperationSucceeded
from events.record import Event
from projections.state import State
from service.domain.billing_commands import SetPrice
from service.domain.commands import Envelope
from service.domain.guards import Decision, accepted
from service.domain.months import window_of
from service.domain.rejections import Reason, Rejected


def set_price(state: State, envelope: Envelope, command: SetPrice) -> Decision:
    """It holds from an instant on, past or to come; the same again is success."""
    others = {price.currency for price in state.prices.values()} - {command.currency}
    if others:
        return Rejected(
            Reason.CURRENCY_DIFFERS,
            f"the prices here are in {', '.join(others)}, and a bill has one currency",
        )
    closed = [
        month
        for month in sorted(state.months)
        if (window := window_of(month)) is not None and window.end_us > command.valid_from_us
    ]
    if closed:
        return Rejected(
            Reason.MONTH_CLOSED,
            f"{closed[-1]} is closed, and this price would hold in it; let it begin afterwards",
        )
    event = PriceSet(
        meter=command.name,
        price=command.price,
        currency=command.currency,
        valid_from_us=command.valid_from_us,
        model=command.model,
        tenant=command.tenant,
    )
    scope = f"{event.meter}/{event.model}/{event.tenant}"
    known = state.prices.get((scope, event.valid_from_us))
    new: tuple[Event, ...] = () if known is not None and known.price == event.price else (event,)
    return (
        accepted(envelope, "set", command.name, "price"),
        *new,
        OperationSucceeded(envelope.command_id),
    )
