"""What every implementation of the port `RefusalLog` does, run on all of them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from service.adapters.jetstream_connection import NatsConnection
from service.adapters.jetstream_refusals import STREAM, JetStreamRefusals
from service.adapters.nats_child import NatsChild
from service.adapters.system import SystemClock
from service.application.refusal_chain import RefusalChain
from service.application.refusals import ALIKE_S, RETRY_S_MAX, RefusalMetrics, Refusals
from service.application.supervisor import Supervisor
from service.audit_ports import (
    KEPT,
    Noted,
    NotedEntry,
    Refusal,
    RefusalLog,
    RefusalsLost,
    entry_of,
)
from service.errors import LedgerUnavailable
from tests.kit import refused
from tests.kit.memory_audit import MemoryBook
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
    like_it = refused.refusal(number, actor)
    return replace(like_it, id=f"{actor}-{number}", at_us=number, message=f"no. {number}")


async def keep(kept: RefusalLog, *noted: Noted) -> int:
    """Behind what is there."""
    number, _ = await kept.ends()
    return await kept.append([entry_of(one) for one in noted], number)


async def test_a_new_one_is_empty(kept: RefusalLog) -> None:
    assert await kept.before(None, 10) == []
    assert await kept.after(0, 10) == []
    assert await kept.ends() == (0, [])


async def test_the_newest_come_first_and_page_by_page(kept: RefusalLog) -> None:
    noted: list[Noted] = [*(refusal(number) for number in range(1, 25)), RefusalsLost(25, 25, 7)]
    assert await keep(kept, *noted) == 25
    first = await kept.before(None, 10)
    assert [entry.noted for entry in first] == noted[:-11:-1]
    rest = await kept.before(first[-1].number, 100)
    assert [entry.noted for entry in (*first, *rest)] == noted[::-1]
    assert await kept.before(rest[-1].number, 10) == []


async def test_they_are_read_on_from_a_number_as_they_are_stored(kept: RefusalLog) -> None:
    noted = [refusal(number) for number in range(1, 25)]
    await keep(kept, *noted)
    first = await kept.after(0, 10)
    assert [entry.seq for entry in first] == [*range(1, 11)]
    rest = await kept.after(10, 100)
    found = [(entry.subject, entry.message_id, entry.body) for entry in (*first, *rest)]
    stored = [entry_of(one) for one in noted]
    assert found == [(entry.subject, entry.message_id, entry.body) for entry in stored]
    assert await kept.after(24, 10) == []


async def test_the_newest_of_each_caller_is_told(kept: RefusalLog) -> None:
    callers = [f"caller-{number}" for number in range(600)]
    await keep(kept, *(refusal(1, caller) for caller in callers))
    number = await keep(kept, refusal(2, ""), refusal(2, "caller-7"), RefusalsLost(3, 3, 9))
    last, newest = await kept.ends()
    assert (last, number) == (603, 603)
    assert {entry.subject: entry.seq for entry in newest} == {
        **{f"refusals.known.{caller}": 1 + at for at, caller in enumerate(callers)},
        "refusals.known.caller-7": 602,
        "refusals.unknown": 603,
    }


async def test_none_is_kept_without_those_before_it(kept: RefusalLog) -> None:
    await keep(kept, refusal(1))
    for last in (0, 2):
        with pytest.raises(LedgerUnavailable):
            await kept.append([entry_of(refusal(2)), entry_of(refusal(3))], last)
    assert [entry.noted for entry in await kept.before(None, 10)] == [refusal(1)]


async def test_who_floods_pushes_out_only_what_it_was_refused_itself(kept: RefusalLog) -> None:
    await keep(kept, refusal(1, "quiet"))
    for actor in ("", "loud"):
        await keep(kept, *(refusal(number, actor) for number in range(100)))
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
        await keep(kept, refusal(1))
        for user in (nats_child.service, nats_child.subscriber):
            async with NatsConnection.open(user) as connection:
                for api in ("PURGE", "DELETE", "UPDATE"):
                    with pytest.raises(LedgerUnavailable):
                        await connection.call(f"STREAM.{api}.{STREAM}", {}, timeout_s=0.2)
        assert [entry.noted for entry in await kept.before(None, 10)] == [refusal(1)]


async def test_the_stream_forgets_and_nothing_else_takes_from_it(nats_child: NatsChild) -> None:
    async with JetStreamRefusals(nats_child.service, nats_child.admin) as kept:
        await keep(kept, refusal(1))
    async with NatsConnection.open(nats_child.admin) as connection:
        config = (await connection.call(f"STREAM.INFO.{STREAM}"))["config"]
    assert (config["storage"], config["discard"]) == ("file", "old")
    assert config["max_bytes"] == 256 << 20
    assert config["max_age"] == 400 * 24 * 3600 * 10**9
    assert config["max_msgs_per_subject"] == KEPT.per_caller == 50_000
    assert config["deny_delete"]
    assert config["deny_purge"]


async def test_who_only_reads_can_put_none_in(nats_child: NatsChild) -> None:
    async with JetStreamRefusals(nats_child.service, nats_child.admin) as kept:
        await keep(kept, refusal(1))
        async with NatsConnection.open(nats_child.subscriber) as connection:
            await connection.publish("refusals.unknown", b"{}")
            with pytest.raises(LedgerUnavailable):
                await connection.call(f"STREAM.INFO.{STREAM}", timeout_s=0.2)
        assert len(await kept.before(None, 10)) == 1


async def test_a_server_that_comes_back_is_used_again(
    nats_child: NatsChild, real: RefusalLog
) -> None:
    await keep(real, refusal(1))
    assert nats_child.pid is not None
    os.kill(nats_child.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while not await took(real):
            await SystemClock().sleep(0.02)
    assert [entry.noted for entry in await real.before(None, 10)] == [refusal(2), refusal(1)]


async def took(kept: RefusalLog) -> bool:
    try:
        await keep(kept, refusal(2))
    except LedgerUnavailable:
        return False
    return True


class TestKeeping:
    """What is noted, on its way to the log. On virtual time."""

    def refusals(self, kept: RefusalLog, clock: VirtualClock) -> Refusals:
        return Refusals(chain_on(kept), clock, lambda: 9, RefusalMetrics(CollectorRegistry()))

    @virtual
    async def test_the_first_is_kept_at_once_and_those_like_it_within_a_second(self) -> None:
        kept, clock = MemoryRefusals(), VirtualClock()
        refusals = self.refusals(kept, clock)
        async with Supervisor() as supervisor:
            supervisor.start("refusals", refusals.run())
            ids = [refusals.note(refusal(number)) for number in (1, 2, 3)]
            assert ids == ["ci-1", "ci-2", "ci-2"]
            await clock.sleep(0)
            await clock.sleep(0.001)
            first, like_it = replace(refusal(1), seq=9), replace(refusal(2), seq=9, times=2)
            assert kept.noted == [first]
            assert refusals.noted("ci-2") == like_it
            await clock.sleep(ALIKE_S)
            assert kept.noted == [first, like_it]
            assert refusals.note(refusal(4)) == "ci-4", "another second"
            await clock.sleep(0.001)
            assert kept.noted[2:] == [replace(refusal(4), seq=9)]

    @virtual
    async def test_rows_are_in_the_order_of_the_records_that_they_come_after(self) -> None:
        kept, clock, end = MemoryRefusals(), VirtualClock(), [1]
        metrics = RefusalMetrics(CollectorRegistry())
        refusals = Refusals(chain_on(kept), clock, lambda: end[0], metrics)
        for seq, name in enumerate(("a", "a", "b", "a", "a", "b"), 1):
            end[0] = seq
            refusals.note(replace(refusal(seq), name=name))
        assert await refusals.keep()
        told = [(one.seq, one.times) for one in kept.noted]
        assert told == [(1, 1), (2, 1), (3, 1), (4, 2), (6, 1)]

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
            refusals.note(refusal(2))
        assert len(kept.noted) == 2


def chain_on(kept: RefusalLog) -> RefusalChain:
    return RefusalChain(kept, MemoryBook().last)
