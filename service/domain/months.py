"""The rules for months: one is closed once, after its end, with the totals of its usage."""

import re
from datetime import UTC, datetime

from events.codec import show_time
from events.operations import OperationSucceeded
from projections.state import State
from service.domain.billing import Window
from service.domain.billing_commands import CloseMonth
from service.domain.commands import Envelope
from service.domain.guards import Decision, accepted
from service.domain.rejections import Reason, Rejected

MONTH_PATTERN = "^(20[0-9]{2})-(0[1-9]|1[0-2])$"

_MONTH = re.compile(MONTH_PATTERN)


def window_of(month: str) -> Window | None:
    """The window of a month such as "2026-11", in UTC; None of a text that is none."""
    match = _MONTH.fullmatch(month)
    if match is None:
        return None
    year, number = int(match[1]), int(match[2])
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    return Window(_begin_us(year, number), _begin_us(*following))


def month_of(at_us: int) -> str:
    """The month that an instant lies in."""
    return show_time(at_us)[:7]


def close(state: State, envelope: Envelope, command: CloseMonth) -> Decision:
    """Once, and not before it is over. The totals were made from the rows, and came along."""
    month, totals = command.name, envelope.facts.totals
    window = window_of(month)
    if (known := state.months.get(month)) is not None:
        return Rejected(
            Reason.MONTH_CLOSED,
            f"{month} was closed at {show_time(known.at_us)} (record {known.seq}); its totals are"
            " there and stay",
        )
    if window is None or envelope.issued_at_us < window.end_us:
        return Rejected(Reason.MONTH_NOT_OVER, f"{month} is not over; it can be closed afterwards")
    if totals is None or totals.month != month:
        return Rejected(Reason.NOTHING_NEW, f"no totals were made of {month}")
    if any(price.seq > totals.until_seq for price in state.prices.values()):
        return Rejected(
            Reason.OPERATION_IN_PROGRESS, f"a price was set while {month} was summed up; try again"
        )
    result = {"month": month, "total": totals.total, "currency": totals.currency}
    return (
        accepted(envelope, "close", month, "month"),
        totals,
        OperationSucceeded(envelope.command_id, result),
    )


def _begin_us(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp()) * 1_000_000
