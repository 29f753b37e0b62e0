"""What every implementation of the port `RefusalLog` does, run on all of them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from service.adapters.jetstream_connection import NatsConnection
from service.adapters.jetstream_refusals import (
    AGE_DAYS_MAX,
    BYTES_MAX,
    STREAM,
    JetStreamRefusals,
)
from service.adapters.jetstream_refusals import PER_CALLER_MAX as PER_CALLER_LIMIT
from service.adapters.nats_child import NatsChild
from service.adapters.system import SystemClock
from service.application.refusals import RETRY_S_MAX, RefusalMetrics, Refusals
from service.application.supervisor import Supervisor
from service.audit_ports import Noted, NotedEntry, Refusal, RefusalLog, RefusalsLost
from service.errors import LedgerUnavailable
from tests.kit.memory_refusals import MemoryRefusals
from tests.kit.virtual_time import VirtualClock, virtual

PER_CALLER_MAX = 40


@pytest.fixture
async def real(nats_child: NatsChild) -> AsyncIterator[RefusalLog]:
    async with JetStreamRefusals(
        nats_child.service, nats_child.admin, per_caller_max=PER_CALLER_MAX
    ) as kept:
        yield kept


@pytest.fixture(params=["memory", "jetstream"])
def kept(request: pytest.FixtureRequest) -> RefusalLog:
    if request.param == "memory":
        return MemoryRefusals(PER_CALLER_MAX)
    found: RefusalLog = request.getfixturevalue("real")
    return found


def refusal(number: int, actor: str = "ci") -> Refusal:
    return Refusal(
        id=f"{actor}-{number}",
        at_us=number,
        seq=number,
        code=1013,
        status=409,
        reason="gpus_exhausted",
        message=f"no. {number}",
        method="POST",
        route="/api/v1/replicaSet",
        actor=actor,
    )


async def test_a_new_one_is_empty(kept: RefusalLog) -> None:
    assert await kept.before(None, 10) == []


async def test_the_newest_come_first_and_page_by_page(kept: RefusalLog) -> None:
    noted: list[Noted] = [*(refusal(number) for number in range(1, 25)), RefusalsLost(25, 25, 7)]
    await kept.append(noted)
    first = await kept.before(None, 10)
    assert [entry.noted for entry in first] == noted[:-11:-1]
    rest = await kept.before(first[-1].number, 100)
    assert [entry.noted for entry in (*first, *rest)] == noted[::-1]
    assert await kept.before(rest[-1].number, 10) == []


async def test_one_that_is_sent_again_is_kept_once(kept: RefusalLog) -> None:
    await kept.append([refusal(1)])
    await kept.append([refusal(1), refusal(2)])
    assert [entry.noted for entry in await kept.before(None, 10)] == [refusal(2), refusal(1)]


async def test_who_floods_pushes_out_only_what_it_was_refused_itself(kept: RefusalLog) -> None:
    await kept.append([refusal(1, "quiet")])
    for actor in ("", "loud"):
        await kept.append([refusal(number, actor) for number in range(100)])
    found = [entry.noted for entry in await kept.before(None, 1000)]
    assert len(found) == 1 + 2 * PER_CALLER_MAX
    assert found[-1] == refusal(1, "quiet")
    assert found[0] == refusal(99, "loud")
    paged = await pages(kept, 7)
    assert [entry.noted for entry in paged] == found, "also where numbers are far apart"


async def pages(kept: RefusalLog, size: int) -> list[NotedEntry]:
    found: list[NotedEntry] = []
    while page := await kept.before(found[-1].number if found else None, size):
        found.extend(page)
    return found


async def test_only_the_administrator_of_the_server_can_take_any_away(
    nats_child: NatsChild,
) -> None:
    async with JetStreamRefusals(nats_child.service, nats_child.admin) as kept:
        await kept.append([refusal(1)])
        for user in (nats_child.service, nats_child.subscriber):
            async with NatsConnection.open(user) as connection:
                for api in ("PURGE", "DELETE", "UPDATE"):
                    with pytest.raises(LedgerUnavailable):
                        await connection.call(f"STREAM.{api}.{STREAM}", {}, timeout_s=0.2)
        assert [entry.noted for entry in await kept.before(None, 10)] == [refusal(1)]


async def test_the_stream_forgets_and_nothing_else_takes_from_it(nats_child: NatsChild) -> None:
    async with JetStreamRefusals(nats_child.service, nats_child.admin) as kept:
        await kept.append([refusal(1)])
    async with NatsConnection.open(nats_child.admin) as connection:
        config = (await connection.call(f"STREAM.INFO.{STREAM}"))["config"]
    assert (config["storage"], config["discard"]) == ("file", "old")
    assert config["max_bytes"] == BYTES_MAX
    assert config["max_age"] == AGE_DAYS_MAX * 24 * 3600 * 10**9
    assert config["max_msgs_per_subject"] == PER_CALLER_LIMIT
    assert config["deny_delete"]
    assert config["deny_purge"]


async def test_who_only_reads_can_put_none_in(nats_child: NatsChild) -> None:
    async with JetStreamRefusals(nats_child.service, nats_child.admin) as kept:
        await kept.append([refusal(1)])
        async with NatsConnection.open(nats_child.subscriber) as connection:
            await connection.publish("refusals.unknown", b"{}")
            with pytest.raises(LedgerUnavailable):
                await connection.call(f"STREAM.INFO.{STREAM}", timeout_s=0.2)
        assert len(await kept.before(None, 10)) == 1


async def test_a_server_that_comes_back_is_used_again(
    nats_child: NatsChild, real: RefusalLog
) -> None:
    await real.append([refusal(1)])
    assert nats_child.pid is not None
    os.kill(nats_child.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while not await took(real):
            await SystemClock().sleep(0.02)
    assert [entry.noted for entry in await real.before(None, 10)] == [refusal(2), refusal(1)]


async def took(kept: RefusalLog) -> bool:
    try:
        await kept.append([refusal(2)])
    except LedgerUnavailable:
        return False
    return True


class TestKeeping:
    """What is noted, on its way to the log. On virtual time."""

    def refusals(self, kept: RefusalLog, clock: VirtualClock) -> Refusals:
        return Refusals(kept, clock, lambda: 9, RefusalMetrics(CollectorRegistry()))

    @virtual
    async def test_it_is_kept_within_a_second(self) -> None:
        kept, clock = MemoryRefusals(), VirtualClock()
        refusals = self.refusals(kept, clock)
        async with Supervisor() as supervisor:
            supervisor.start("refusals", refusals.run())
            assert refusals.note(refusal(1)) == refusals.note(refusal(2)) == "ci-1"
            await clock.sleep(1.5)
            assert kept.noted == [replace(refusal(1), seq=9, times=2)]
            refusals.note(refusal(3))
            await clock.sleep(1)
            assert kept.noted[1:] == [replace(refusal(3), seq=9)]

    @virtual
    async def test_a_log_that_is_away_is_asked_again_and_told_of(self) -> None:
        kept, clock = MemoryRefusals(), VirtualClock()
        refusals = self.refusals(kept, clock)
        async with Supervisor() as supervisor:
            supervisor.start("refusals", refusals.run())
            kept.away = "no server"
            refusals.note(refusal(1))
            await clock.sleep(60)
            told = refusals.trouble
            assert told == "refusals wait in memory, 1 of them: no server"
            assert 5 < kept.asked < 15, "ever more seldom"
            kept.away = ""
            await clock.sleep(RETRY_S_MAX)
            assert refusals.trouble is None
            assert len(kept.noted) == 1

    @virtual
    async def test_what_was_noted_last_is_kept_at_the_end(self) -> None:
        kept, clock = MemoryRefusals(), VirtualClock()
        refusals = self.refusals(kept, clock)
        async with Supervisor() as supervisor:
            supervisor.start("refusals", refusals.run())
            await clock.sleep(0.5)
            refusals.note(refusal(1))
        assert len(kept.noted) == 1
