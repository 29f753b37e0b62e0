"""The past: every question at every record is answered as it was answered then."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from events.record import Record
from projections.checkpoints import Checkpoints
from projections.evolve import evolve
from projections.historic import HistoricReads
from projections.queries import Queries
from projections.state import Operation, State
from projections.tables import history_row, take_batch
from projections.timeline import Timeline
from projections.usage import Usage
from tests.kit.histories import records
from tests.kit.inline_store import InlineStore
from tests.kit.logs import fold
from tests.kit.past import ListedLedger, whole
from tests.property.test_random_histories import HOSTS, STEPS, play

EVERY = 16


async def answers(reads: Queries | HistoricReads, state: State) -> list[bytes]:
    """The answers to every question that there is about what is in a state, or will be."""
    asked: list[Any] = [await reads.replica_sets(), await reads.volumes(), await reads.gpus()]
    asked += [await reads.prices(), await reads.months(), await reads.month("2025-12")]
    asked += [await reads.webhooks()]
    asked += [await reads.webhook(name) for name in sorted({*state.webhooks, "nobody"})]
    asked += [await reads.ports(), await reads.replica_set("nobody"), await reads.volume("nobody")]
    for name in sorted({*state.replica_sets, *state.volumes}):
        asked += [await reads.replica_set(name), await reads.volume(name)]
        asked += [await reads.revisions(name), await reads.revision(name, 1)]
        asked += [await reads.operations(2, name=name), await reads.operations(9, 40, name)]
    asked += [await reads.operation(id) for id in sorted(state.operations)]
    asked += [await reads.operations(5), await reads.operations(3, state.seq // 3)]
    return [msgspec.json.encode(one) for one in asked]


async def answers_of_then(
    history: Sequence[Record], now: State, store: InlineStore, step: int
) -> dict[int, list[bytes]]:
    """Fill a read store record by record, and ask it everything at every so many."""
    state, asked = State(), dict[int, list[bytes]]()
    for seq, record in enumerate(history, 1):
        evolve(state, seq, record)
        await store.apply(take_batch(state, Usage(), seq - 1, [history_row(seq, record)]))
        if seq % step == 0:
            asked[seq] = await answers(store, now)
    return asked


async def check_every_point(history: Sequence[Record], folder: Path, step: int = 1) -> None:
    """From the newest back, so that no state kept in memory is of any help."""
    now = fold(history)
    async with InlineStore() as store:
        then = await answers_of_then(history, now, store, step)
        timeline = Timeline(ListedLedger(history).read, Checkpoints(folder), EVERY)
        async with made(timeline, len(history)):
            for seq in sorted(then, reverse=True):
                state = await timeline.state_at(seq)
                reads = HistoricReads(state, store)
                assert await answers(reads, now) == then[seq], f"at record {seq}"
                if seq % 7 == 0:
                    assert whole(state) == whole(fold(history[:seq]))


@asynccontextmanager
async def made(timeline: Timeline, end: int) -> AsyncIterator[None]:
    """With all checkpoints there, and the timeline at work."""
    at_work = asyncio.create_task(timeline.run(lambda: end))
    try:
        async with asyncio.timeout(60):
            await timeline.whole()
        yield
    finally:
        at_work.cancel()
        await asyncio.gather(at_work, return_exceptions=True)


async def test_every_point_of_a_long_history(tmp_path: Path) -> None:
    await check_every_point(list(records(260, names=2)), tmp_path / "checkpoints")


@settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(STEPS, HOSTS)
def test_every_point_of_any_history(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[Any], host: Any
) -> None:
    world, _ = play(steps, (host, host), 0)
    folder = tmp_path_factory.mktemp("any") / "checkpoints"
    asyncio.run(check_every_point(world.records, folder, 7))


@settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(STEPS, HOSTS)
def test_an_operation_that_has_ended_changes_no_more(steps: Sequence[Any], host: Any) -> None:
    """Its row is read for any point after its end."""
    world, _ = play(steps, (host, host), 0)
    state, ended = State(), dict[str, Operation]()
    for seq, record in enumerate(world.records, 1):
        evolve(state, seq, record)
        assert all(state.operations[id] is one for id, one in ended.items()), record
        ended = {id: one for id, one in state.operations.items() if one.finished_seq}
