"""The bill: the vectors of docs/billing.md, windows, groups, prices, and rounding."""

from typing import Any

import pytest

from events.observations import ContainerExited
from events.outcomes import VolumeMade, VolumeRemoved
from events.values import SIZE_UNITS
from events.volumes import VolumeDeletionRequested, VolumeVersionDeclared
from projections.price_book import Price
from service.domain.billing import (
    HOUR_US,
    Bill,
    PriceBook,
    Window,
    differences,
    is_group,
    show_money,
    show_usage,
    totals_of,
)
from service.domain.months import month_of, window_of
from tests.kit.usage_log import MONTH, NOVEMBER, UsageLog, at_us, docker, uuids

GB = SIZE_UNITS["GB"]
CORE = 10**9
MINUTE = 60.0
SINCE = at_us(0)


@pytest.fixture
def log() -> UsageLog:
    return UsageLog()


def price(meter: Any, amount: str, **more: Any) -> Price:
    """A price from the begin of the month on, for everybody."""
    given: dict[str, Any] = {"model": "*", "tenant": "", "valid_from_us": SINCE}
    return Price(meter=meter, price=amount, currency="EUR", seq=1, **(given | more))


def hours(bill: Bill, meter: str) -> str:
    """What all used of a meter, to three places."""
    (line,) = [line for line in bill.lines() if line.meter == meter]
    return show_usage(line.usage, line.meter, HOUR_US, 3)


def money(log: UsageLog, *prices: Price, window: Window = NOVEMBER) -> str:
    return show_money(log.bill((), window, *prices).money(), 2)


def ran(
    log: UsageLog, begin_min: float, end_min: float, gpus: tuple[str, ...] = (), **more: Any
) -> None:
    """A container ran from one minute to another, by Docker's clock."""
    begin, end, name = begin_min * MINUTE, end_min * MINUTE, more.get("name", "foo")
    number = log.state.replica_sets[name].newest + 1 if name in log.state.replica_sets else 1
    log.declare(begin, number, gpus, **more)
    log.start(begin, number, started=docker(begin), name=name)
    log.stop(end + 0.1, number, name=name)
    log.release(end + 1, gpus, number, name=name)


# -- the vectors ------------------------------------------------------------------------------


def test_one_gpu_for_20_minutes_and_two_for_20_are_one_card_hour(log: UsageLog) -> None:
    ran(log, 0, 20, uuids(0))
    ran(log, 30, 50, uuids(0, 1))
    assert hours(log.bill(), "gpu") == "1.000"


def test_20_gb_for_50_minutes_are_16_667_gb_hours(log: UsageLog) -> None:
    log(0, VolumeVersionDeclared("bar", 1, 20 * GB, "create"))
    log(0, VolumeMade("bar", 1))
    log(50 * MINUTE, VolumeDeletionRequested("bar"), VolumeRemoved("bar"))
    assert hours(log.bill(), "volume") == "16.667"


def test_10_cores_and_half_a_core_and_20_cores_are_10_083_core_hours(log: UsageLog) -> None:
    for begin, end, nano_cpus in ((0, 20, 10 * CORE), (30, 40, CORE // 2), (50, 70, 20 * CORE)):
        ran(log, begin, end, nano_cpus=nano_cpus)
    assert hours(log.bill(), "cpu") == "10.083"


def test_who_died_unseen_in_a_crash_is_charged_to_dockers_finish(log: UsageLog) -> None:
    log.declare(0, 1, uuids(0))
    log.start(0, started=docker(0))
    restart = 600 * MINUTE
    log(restart, ContainerExited("foo", 1, 137, docker(30 * MINUTE)))
    assert hours(log.bill(), "gpu") == "0.500"


# -- windows ----------------------------------------------------------------------------------


def test_a_window_cuts_what_lies_across_its_ends(log: UsageLog) -> None:
    ran(log, 0, 60, uuids(0))
    log.declare(90 * MINUTE, 2, uuids(0))
    log.start(90 * MINUTE, 2, started=docker(90 * MINUTE))
    window = Window(at_us(30 * MINUTE), at_us(120 * MINUTE))
    assert hours(log.bill((), window), "gpu") == "1.000"
    assert log.bill((), Window(at_us(60 * MINUTE), at_us(90 * MINUTE))).lines() == []


def test_months_begin_and_end_in_utc() -> None:
    assert window_of("2026-12") == Window(NOVEMBER.end_us, at_us(61 * 86_400))
    assert window_of("2026-11") == NOVEMBER
    assert [window_of(text) for text in ("2026-13", "2026-1", "26-11", "")] == [None] * 4
    assert (month_of(NOVEMBER.begin_us - 1), month_of(NOVEMBER.begin_us)) == ("2026-10", MONTH)


# -- groups, and what is cited ----------------------------------------------------------------


def test_lines_are_made_for_each_group_and_meter(log: UsageLog) -> None:
    ran(log, 0, 60, uuids(0, 2), tenant="lab", labels={"team": "a"}, memory_bytes=GB)
    ran(log, 0, 30, uuids(1), tenant="ops", name="bar")
    lines = log.bill(("tenant", "model")).lines()
    assert [(line.keys, line.meter) for line in lines] == [
        (("lab", ""), "cpu"),
        (("lab", ""), "memory"),
        (("lab", "A100"), "gpu"),
        (("lab", "H100"), "gpu"),
        (("ops", ""), "cpu"),
        (("ops", ""), "memory"),
        (("ops", "A100"), "gpu"),
    ]
    used = [line.usage // 60_000_000 for line in lines if line.meter == "gpu"]
    assert used == [60, 60, 30]
    by_team = {line.keys for line in log.bill(("label:team", "name")).lines()}
    assert by_team == {("a", "foo"), ("", "bar")}
    revisions = {line.keys[0] for line in log.bill(("revision",)).lines()}
    assert revisions == {"foo-1", "bar-1"}
    cards = [line.keys[0] for line in log.bill(("gpu",)).lines() if line.meter == "gpu"]
    assert cards == ["GPU-0", "GPU-1", "GPU-2"]


def test_versions_and_intervals_stand_in_the_order_of_their_numbers(log: UsageLog) -> None:
    for turn in range(11):
        ran(log, turn * 10, turn * 10 + 5, uuids(0))
    by_revision = log.bill(("revision",)).lines()
    cards = [line.keys[0] for line in by_revision if line.meter == "gpu"]
    assert cards == [f"foo-{number}" for number in range(1, 12)]
    seqs = [int(line.keys[0].partition(".")[0]) for line in log.bill(("interval",)).lines()]
    assert seqs == sorted(seqs)
    assert max(seqs) > 10


def test_a_line_cites_the_records_of_all_its_intervals(log: UsageLog) -> None:
    log.declare(0, 1, uuids(0, 1))
    opened = log.start(0, started=docker(0))
    closed = log.stop(10)
    again = log.start(20)
    (gpus,) = [line for line in log.bill().lines() if line.meter == "gpu"]
    assert gpus.records == [(opened, closed)] * 2 + [(again, None)] * 2
    each = [line for line in log.bill(("interval",)).lines() if line.meter == "gpu"]
    assert [line.records for line in each] == [[pair] for pair in gpus.records]


def test_a_line_says_what_is_to_be_known(log: UsageLog) -> None:
    log.declare(0, 1, uuids(0, 1))
    log.start(0, started=docker(0))
    log.pause(60)
    log.start(3_660, started=docker(3_659.9))
    by_meter = {line.meter: line for line in log.bill().lines()}
    gpus, cpus = by_meter["gpu"], by_meter["cpu"]
    assert gpus.notes == {"paused": 2}
    assert show_usage(gpus.kept, "gpu", HOUR_US, 3) == "2.000"
    assert (cpus.notes, cpus.usage) == ({"no_limit": 2}, 0)


def test_what_can_be_grouped_by() -> None:
    assert all(map(is_group, ("tenant", "model", "name", "revision", "gpu", "label:team")))
    assert not any(map(is_group, ("label:", "labels", "", "Tenant")))


# -- prices -----------------------------------------------------------------------------------


def test_without_a_price_there_is_usage_and_no_amount(log: UsageLog) -> None:
    ran(log, 0, 60, uuids(0))
    (line,) = [line for line in log.bill().lines() if line.meter == "gpu"]
    assert (line.usage, line.priced, line.money) == (HOUR_US, 0, 0)


def test_each_meter_has_its_price_an_hour(log: UsageLog) -> None:
    ran(log, 0, 60, uuids(0), nano_cpus=2 * CORE, memory_bytes=3 * GB)
    assert money(log, price("gpu", "2.40")) == "2.40"
    assert money(log, price("cpu", "0.5"), price("memory", "0.1")) == "1.30"
    assert money(log, price("volume", "9"), price("snapshot", "9")) == "0.00"


def test_a_price_that_changes_splits_what_lies_across(log: UsageLog) -> None:
    ran(log, 0, 60, uuids(0))
    later = price("gpu", "4", valid_from_us=at_us(45 * MINUTE))
    assert money(log, price("gpu", "2"), later) == "2.50"
    (line,) = [o for o in log.bill((), NOVEMBER, later).lines() if o.meter == "gpu"]
    assert (line.priced, line.usage) == (HOUR_US // 4, HOUR_US)
    assert money(log, price("gpu", "2", valid_from_us=at_us(-9)), later) == "2.50"


def test_a_tenants_own_price_goes_before_a_models(log: UsageLog) -> None:
    ran(log, 0, 60, uuids(2), tenant="lab")
    every, model = price("gpu", "1"), price("gpu", "2", model="H100")
    own, own_model = price("gpu", "3", tenant="lab"), price("gpu", "4", model="H100", tenant="lab")
    other = price("gpu", "5", model="A100"), price("gpu", "6", tenant="ops")
    assert money(log, every, *other) == "1.00"
    assert money(log, every, model, *other) == "2.00"
    assert money(log, every, model, own, *other) == "3.00"
    assert money(log, every, model, own, own_model, *other) == "4.00"
    late = price("gpu", "8", tenant="lab", valid_from_us=at_us(30 * MINUTE))
    assert money(log, every, late) == "4.50"


def test_amounts_are_exact_until_they_are_shown(log: UsageLog) -> None:
    for number in range(3):
        ran(log, number * 30, number * 30 + 20, uuids(0))
    prices = (price("gpu", "0.000000001"), price("memory", "1"))
    bill = log.bill(("interval",), NOVEMBER, *prices)
    assert show_money(bill.money(), 9) == "0.000000001"
    thirds = [show_money(line.money, 9) for line in bill.lines() if line.meter == "gpu"]
    assert thirds == ["0.000000000"] * 3


@pytest.mark.parametrize(
    ("usage", "shown"),
    [(5, "0.000001"), (HOUR_US // 3, "0.333333"), (2 * HOUR_US // 3, "0.666667"), (0, "0.000000")],
)
def test_what_is_shown_is_rounded_to_the_nearest(usage: int, shown: str) -> None:
    assert show_usage(usage * (720 if usage == 5 else 1), "gpu", HOUR_US, 6) == shown


def test_the_middle_is_rounded_to_the_even() -> None:
    shown = [show_usage(usage, "gpu", 10, 0) for usage in (4, 5, 6, 15, 25, 35)]
    assert shown == ["0", "0", "1", "2", "2", "4"]


# -- the totals of a month --------------------------------------------------------------------


def test_totals_of_a_month_and_where_today_says_otherwise(log: UsageLog) -> None:
    ran(log, 0, 60, uuids(0), tenant="lab")
    by = ("tenant", "model")
    closed = totals_of(MONTH, log.bill(by, NOVEMBER, price("gpu", "2")), 7)
    assert (closed.total, closed.currency, closed.until_seq) == ("2.000000", "EUR", 7)
    gpus = [line for line in closed.lines if line.meter == "gpu"]
    assert [(o.tenant, o.model, o.usage, o.intervals, o.amount) for o in gpus] == [
        ("lab", "A100", str(HOUR_US), 1, "2.000000")
    ]
    assert [line.amount for line in closed.lines if line.meter != "gpu"] == ["", ""]
    assert differences(closed, closed) == []
    ran(log, 70, 100, uuids(0, 2), tenant="lab")
    now = totals_of(MONTH, log.bill(by, NOVEMBER, price("gpu", "2")), 9)
    found = [(old.model, old.usage, new.usage, new.amount) for old, new in differences(closed, now)]
    assert found == [
        ("A100", str(HOUR_US), str(3 * HOUR_US // 2), "3.000000"),
        ("H100", "0", str(HOUR_US // 2), "1.000000"),
    ]
    assert [new.usage for _, new in differences(now, closed)][-1] == "0"


def test_a_book_without_prices_has_no_currency() -> None:
    assert PriceBook(()).currency == ""
