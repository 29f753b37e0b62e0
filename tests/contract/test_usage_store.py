"""Usage in the read store: the bill of its pages is the bill of the fold."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.billing import ClosedLine, MonthClosed, PriceSet
from events.outcomes import VolumeMade, VolumeRemoved
from events.volumes import VolumeDeletionRequested, VolumeVersionDeclared
from projections.evolve import evolve
from projections.projector import Projector
from projections.state import State
from projections.store import ReadStore
from projections.usage import Interval, Usage
from projections.usage_folds import meter
from service.application import usage_reader
from service.domain.billing import Bill, PriceBook, Window
from tests.kit.histories import BEGIN_US, records
from tests.kit.logs import entries, finite
from tests.kit.usage_log import MONTH, NOVEMBER, UsageLog

COUNT = 3_000
NAMES = 6
BY = ("name", "interval")
MILLISECOND_US = 1_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ReadStore]:
    async with ReadStore(tmp_path / "read.db") as store:
        yield store


def folded(count: int) -> list[Interval]:
    """Every interval of the first records of the kit's history."""
    state, usage, rows = State(), Usage(), dict[int, tuple[Interval, ...]]()
    for seq, record in enumerate(records(count, NAMES), 1):
        evolve(state, seq, record)
        meter(usage, state, seq, record)
        rows |= {row.seq: row.intervals for row in usage.take()[0]}
    return [interval for row in rows.values() for interval in row]


@pytest.mark.parametrize(
    "window",
    [
        Window(0, BEGIN_US + 60_000_000),
        Window(BEGIN_US + 700 * MILLISECOND_US, BEGIN_US + 1_500 * MILLISECOND_US),
        Window(BEGIN_US, BEGIN_US),
    ],
    ids=["all", "some", "none"],
)
async def test_the_bill_of_the_rows_is_the_bill_of_the_fold(
    store: ReadStore, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_reader, "PAGE_ROWS", 7)
    await Projector(finite(entries(records(COUNT, NAMES))), store).run()
    expected = Bill(window, PriceBook(()), BY)
    intervals = folded(COUNT)
    for interval in intervals:
        expected.add(interval)
    assert {one.ended_us is None for one in intervals} == {True, False}
    made, seq = await usage_reader.bill_of(store, window, BY)
    assert seq == COUNT
    assert made.lines() == expected.lines()
    assert bool(made.lines()) == (window.end_us > window.begin_us)


async def test_prices_and_months_come_back_from_the_rows(store: ReadStore) -> None:
    log = UsageLog()
    log(10, PriceSet("gpu", "2.40", "EUR", 7, "H100", "lab"))
    log(11, PriceSet("gpu", "2.60", "EUR", 8), PriceSet("cpu", "0.1", "EUR", 0))
    line = ClosedLine("lab", "gpu", "H100", "12", 1, "0.000000")
    log(12, MonthClosed(MONTH, 3, "EUR", "0.000000", (line,)))
    projector = Projector(finite(entries(log.records)), store)
    await projector.run()
    assert projector.state.prices == log.state.prices
    prices = await store.prices()
    assert [(one.scope, one.price) for one in prices] == [
        ("cpu/*/", "0.1"),
        ("gpu/*/", "2.60"),
        ("gpu/H100/lab", "2.40"),
    ]
    assert (await store.usage_basis(0)).prices == prices
    assert await store.months() == [await store.month(MONTH)] == [log.state.months[MONTH]]
    assert await store.month("2026-10") is None
    loaded = await store.load_state()
    assert (loaded.prices, loaded.months) == (log.state.prices, log.state.months)


async def test_what_ended_at_the_same_instant_is_all_in_the_pages(
    store: ReadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_reader, "PAGE_ROWS", 2)
    log = UsageLog()
    names = [f"bar{number}" for number in range(5)]
    for name in names:
        log(10, VolumeVersionDeclared(name, 1, 1, "create"), VolumeMade(name, 1))
    for name in names:
        log(20, VolumeDeletionRequested(name), VolumeRemoved(name))
    await Projector(finite(entries(log.records)), store).run()
    made, _ = await usage_reader.bill_of(store, NOVEMBER, ("name",))
    assert [line.keys[0] for line in made.lines()] == names
