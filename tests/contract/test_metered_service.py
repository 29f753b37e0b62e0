"""The whole service on virtual time: what it bills, over crashes, and how it closes a month."""

import asyncio

from service.application.intake import Accepted
from service.application.usage_reader import bill_of
from service.domain.billing import HOUR_US, Bill, Window, show_money, show_usage
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.commands import (
    CreateVolume,
    DeleteVolume,
    PauseReplicaSet,
    Request,
    StopReplicaSet,
)
from service.domain.months import window_of
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import GIB, patch, run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import EPOCH_US, VirtualClock, virtual

MINUTE_S = 60.0
JANUARY = "2026-01"


class LateClock(VirtualClock):
    """A clock that begins two hours before the end of January."""

    def now_us(self) -> int:
        window = window_of(JANUARY)
        assert window is not None
        return super().now_us() - EPOCH_US + window.end_us - 2 * HOUR_US


def late_host() -> SimulatedHost:
    host = SimulatedHost()
    host.clock = LateClock()
    host.world.now_us = host.clock.now_us
    return host


async def everything(host: SimulatedHost) -> Bill:
    """The bill of all there ever was, from the rows."""
    return (await bill_of(host.store, Window(0, host.clock.now_us()), ()))[0]


async def hours(host: SimulatedHost, meter: str) -> str:
    """What was used of a meter, to three places."""
    (line,) = [line for line in (await everything(host)).lines() if line.meter == meter]
    return show_usage(line.usage, line.meter, HOUR_US, 3)


async def minutes(service: SimulatedService, count: float, *commands: Request) -> None:
    """Time goes by, then something is done."""
    await asyncio.sleep(count * MINUTE_S)
    await service.succeed(*commands)


@virtual
async def test_one_gpu_for_20_minutes_and_two_for_20_are_one_card_hour() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("foo", 1))
        await minutes(service, 20, patch("foo", gpu_count=2))
        await minutes(service, 20, StopReplicaSet("foo"))
        await asyncio.sleep(3_600)
        assert await hours(host, "gpu") == "1.000"


@virtual
async def test_20_gb_for_50_minutes() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(CreateVolume("bar", 20 * GIB))
        await minutes(service, 50, DeleteVolume("bar"))
        await asyncio.sleep(3_600)
        assert await hours(host, "volume") == "16.667"


@virtual
async def test_who_died_while_the_service_was_down_is_charged_to_its_end() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("foo", 1))
        await asyncio.sleep(20 * MINUTE_S)
    await asyncio.sleep(10 * MINUTE_S)
    host.world.end("foo-1", 1)
    await asyncio.sleep(60 * MINUTE_S)
    async with SimulatedService(host):
        await asyncio.sleep(10 * MINUTE_S)
        assert await hours(host, "gpu") == "0.500"


@virtual
async def test_paused_time_counts_over_a_restart_of_the_service() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("foo", 1))
        await minutes(service, 20, PauseReplicaSet("foo"))
    await asyncio.sleep(10 * MINUTE_S)
    async with SimulatedService(host) as service:
        await service.succeed(StopReplicaSet("foo"))
        await asyncio.sleep(60 * MINUTE_S)
        (line,) = [one for one in (await everything(host)).lines() if one.meter == "gpu"]
        assert show_usage(line.usage, "gpu", HOUR_US, 3) == "0.500"
        assert show_usage(line.kept, "gpu", HOUR_US, 3) == "0.167"


@virtual
async def test_a_month_is_closed_with_what_the_rows_say() -> None:
    host = late_host()
    async with SimulatedService(host) as service:
        await service.succeed(SetPrice("gpu", "2", "EUR", 0), run("foo", 1))
        early = await service.submit(CloseMonth(JANUARY))
        assert isinstance(early, Rejected)
        assert early.reason == Reason.MONTH_NOT_OVER
        await asyncio.sleep(3 * 3_600)
        closed = await service.do(CloseMonth(JANUARY), key="k")
        month = await host.store.month(JANUARY)
        assert month is not None
        assert closed.result == {"month": JANUARY, "total": month.totals.total, "currency": "EUR"}
        window = window_of(JANUARY)
        assert window is not None
        bill, _ = await bill_of(host.store, window, ())
        assert month.totals.total == show_money(bill.money())
        assert month.totals.total == "4.000000"
        # Later, with the same key, its record; without, a refusal: whatever was used since.
        await minutes(service, 20, run("bar", 1))
        again = await service.submit(CloseMonth(JANUARY), key="k")
        assert isinstance(again, Accepted)
        assert again.operation_id == closed.id
        refused = await service.submit(CloseMonth(JANUARY))
        assert isinstance(refused, Rejected)
        assert refused.reason == Reason.MONTH_CLOSED
        assert await host.store.months() == [month]


@virtual
async def test_money_needs_no_docker() -> None:
    host = SimulatedHost()
    host.engine.down = True
    async with SimulatedService(host) as service:
        await service.succeed(SetPrice("cpu", "0.1", "EUR", 0))
        assert [price.price for price in await host.store.prices()] == ["0.1"]
