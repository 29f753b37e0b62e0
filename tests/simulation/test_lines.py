"""The line to a world that hangs: who gives up, and what is done all the same."""

import asyncio
from random import Random

import pytest

from service.errors import EngineUnavailable, LedgerUnavailable
from service.ports import Entry
from tests.kit.builders import IMAGE
from tests.kit.simulated_service import SimulatedHost
from tests.kit.virtual_time import virtual
from tests.simulation.engine_line import PATIENCE, LineEngine
from tests.simulation.ledger_line import APPEND_PATIENCE, LineLedger
from tests.simulation.line import DELAY_S_MAX, Line, Seen, Weather

BODY = {"Image": IMAGE, "Labels": {"gpuledger.owner": "owner-1", "gpuledger.effect": "e-1"}}


def now_s() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_a_call_that_hangs_is_given_up_and_done_later_before_the_next_one() -> None:
    host, weather, seen = SimulatedHost(), Weather(engine_hangs_until_s=70.0), Seen()
    engine = LineEngine(Line(1, Random(1), weather, seen.met), host, seen)
    with pytest.raises(EngineUnavailable):
        await engine.create_container("c-1", BODY)
    assert now_s() == PATIENCE.seconds
    assert host.world.containers == {}
    made = await engine.create_container("c-1", BODY)
    assert now_s() == pytest.approx(70.0, abs=2 * DELAY_S_MAX)
    assert [container.id for container in host.world.containers.values()] == [made]
    assert seen.met["answered late"] == 1


@virtual
async def test_an_append_that_is_given_up_is_stored_before_the_ledger_says_where_it_ends() -> None:
    host, weather = SimulatedHost(), Weather(ledger_hangs_until_s=6.5)
    ledger = LineLedger(Line(1, Random(1), weather, Seen().met), host.ledger)
    with pytest.raises(LedgerUnavailable):
        await ledger.append([Entry("EVT.a", "id-1", b"1")], 0)
    assert now_s() == APPEND_PATIENCE.seconds
    assert await host.ledger.last_seq() == 0
    assert await ledger.last_seq() == 1


@virtual
async def test_what_was_sent_arrives_after_the_cut_and_nothing_is_sent_any_more() -> None:
    host, weather, seen = SimulatedHost(), Weather(engine_hangs_until_s=5.0), Seen()
    line = Line(1, Random(1), weather, seen.met)
    engine = LineEngine(line, host, seen)
    sent = asyncio.create_task(engine.create_container("c-1", BODY))
    await asyncio.sleep(1.0)
    line.is_cut = True
    later = asyncio.create_task(engine.create_container("c-2", BODY))
    await asyncio.sleep(60.0)
    assert list(host.world.containers) == ["c-1"]
    assert not sent.done()
    assert not later.done()
    for task in (sent, later):
        task.cancel()
    await asyncio.gather(sent, later, return_exceptions=True)
