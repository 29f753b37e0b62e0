"""The rules for prices and for months that are closed."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.billing import MonthClosed, PriceSet
from events.operations import OperationAccepted, OperationSucceeded
from projections.price_book import Price
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.rejections import Reason, Rejected
from tests.kit.usage_log import MONTH, NOVEMBER
from tests.kit.world import World

TOTALS = MonthClosed(MONTH, 2, "EUR", "7.000000", ())
OVER_US = NOVEMBER.end_us


@pytest.fixture
def world() -> World:
    world = World()
    world.now_us = OVER_US
    world.facts = replace(world.facts, totals=TOTALS)
    return world


def price(amount: str = "2.40", valid_from_us: int = OVER_US, **more: Any) -> SetPrice:
    return SetPrice("gpu", amount, more.pop("currency", "EUR"), valid_from_us, **more)


def reason(decision: object) -> Reason:
    assert isinstance(decision, Rejected), decision
    return decision.reason


def test_a_price_holds_from_an_instant_on(world: World) -> None:
    decided = world.send(price(model="H100", tenant="lab"))
    assert not isinstance(decided, Rejected)
    accepted, fact, ended = decided
    assert isinstance(accepted, OperationAccepted)
    assert (accepted.kind, accepted.verb, accepted.name) == ("price", "set", "gpu")
    assert fact == PriceSet("gpu", "2.40", "EUR", OVER_US, "H100", "lab")
    assert isinstance(ended, OperationSucceeded)
    assert world.state.prices == {
        ("gpu/H100/lab", OVER_US): Price(
            "gpu", "H100", "lab", OVER_US, "2.40", "EUR", world.state.seq
        )
    }


def test_the_same_price_again_is_success_and_another_takes_its_place(world: World) -> None:
    world.send(price())
    again = world.send(price())
    assert not isinstance(again, Rejected)
    assert [type(event) for event in again] == [OperationAccepted, OperationSucceeded]
    world.send(price("3"))
    world.send(price("4", OVER_US + 1))
    told = sorted((at, one.price) for (_, at), one in world.state.prices.items())
    assert told == [(OVER_US, "3"), (OVER_US + 1, "4")]


def test_a_ledger_has_one_currency(world: World) -> None:
    world.send(price())
    assert reason(world.send(price(currency="USD"))) == Reason.CURRENCY_DIFFERS


def test_a_month_is_closed_with_its_totals(world: World) -> None:
    decided = world.send(CloseMonth(MONTH))
    assert not isinstance(decided, Rejected)
    accepted, fact, ended = decided
    assert isinstance(accepted, OperationAccepted)
    assert (accepted.kind, accepted.verb, accepted.name) == ("month", "close", MONTH)
    assert fact == TOTALS
    assert ended == OperationSucceeded(
        accepted.operation_id, {"month": MONTH, "total": "7.000000", "currency": "EUR"}
    )
    closed = world.state.months[MONTH]
    assert (closed.totals, closed.seq, closed.at_us) == (TOTALS, world.state.seq, OVER_US)


def test_a_month_is_not_closed_twice(world: World) -> None:
    world.send(CloseMonth(MONTH))
    assert reason(world.send(CloseMonth(MONTH))) == Reason.MONTH_CLOSED


def test_a_month_that_is_not_over_is_not_closed(world: World) -> None:
    world.now_us = OVER_US - 1
    assert reason(world.send(CloseMonth(MONTH))) == Reason.MONTH_NOT_OVER


def test_totals_of_another_month_are_none(world: World) -> None:
    assert reason(world.send(CloseMonth("2026-10"))) == Reason.NOTHING_NEW


def test_totals_from_before_a_price_was_set_are_old(world: World) -> None:
    world.send(price(valid_from_us=0))
    assert reason(world.send(CloseMonth(MONTH))) == Reason.OPERATION_IN_PROGRESS
    world.facts = replace(world.facts, totals=replace(TOTALS, until_seq=world.state.seq))
    assert not isinstance(world.send(CloseMonth(MONTH)), Rejected)


def test_no_price_begins_in_a_closed_month_or_before(world: World) -> None:
    world.send(CloseMonth(MONTH))
    assert reason(world.send(price(valid_from_us=OVER_US - 1))) == Reason.MONTH_CLOSED
    assert reason(world.send(price(valid_from_us=0))) == Reason.MONTH_CLOSED
    assert not isinstance(world.send(price(valid_from_us=OVER_US)), Rejected)
