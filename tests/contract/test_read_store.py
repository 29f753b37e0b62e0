"""The read store: batches in, aggregates out, and a file that can be lost at any time."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from projections.evolve import evolve
from projections.schema import COLUMNS
from projections.state import FINISHED_OPERATIONS_MAX, State
from projections.store import (
    DUMP_ROWS,
    ReadStore,
    ReadStoreError,
    StoreAway,
    StoreFenced,
)
from projections.tables import history_row, take_batch
from projections.usage import Usage
from tests.kit.filled_store import fill
from tests.kit.histories import gpu_uuid, records
from tests.kit.logs import content, fold


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "read 100%?.db"  # the name is no URI


@pytest.fixture
async def store(path: Path) -> AsyncIterator[ReadStore]:
    async with ReadStore(path) as store:
        yield store


async def test_a_new_store_is_empty(store: ReadStore) -> None:
    assert await store.position() == 0
    assert content(await store.load_state()) == content(State())
    dump = await store.dump()
    assert dump.pop("position") == [(0,)]
    assert not any(dump.values())
    assert await store.replica_set("foo") is None
    assert await store.operation("?") is None


async def test_the_state_comes_back_from_the_rows(store: ReadStore, path: Path) -> None:
    state = await fill(store, 9_000)
    assert len(state.finished) < FINISHED_OPERATIONS_MAX
    assert content(await store.load_state()) == content(state)
    await store.close()
    async with ReadStore(path) as again:
        assert await again.position() == 9_000
        assert content(await again.load_state()) == content(state)


async def test_operations_that_left_memory_stay_in_the_rows(store: ReadStore) -> None:
    state = await fill(store, 14_000, names=40, batch=13_000)
    loaded = await store.load_state()
    assert len(state.finished) == FINISHED_OPERATIONS_MAX
    assert content(loaded) == content(state)
    rows = (await store.dump())["operations"]
    assert len(rows) > len(state.operations) + 1_000
    assert not [row for row in rows if row[5] == "running" and row[1] not in state.operations]


async def test_queries_give_the_aggregates_of_the_fold(store: ReadStore) -> None:
    state = await fill(store, 3_000)
    live = [one for _, one in sorted(state.replica_sets.items()) if one.current]
    assert await store.replica_sets() == live
    for name, one in state.replica_sets.items():
        assert await store.replica_set(name) == one
        numbers = [number for known, number in state.revisions if known == name]
        newest_first = [state.revisions[name, number] for number in sorted(numbers, reverse=True)]
        assert await store.revisions(name) == newest_first
        assert await store.revision(name, numbers[0]) == state.revisions[name, numbers[0]]
    assert await store.revision("set0", 9_999) is None
    assert state.volumes
    assert await store.volumes() == [one for _, one in sorted(state.volumes.items())]
    for name, volume in state.volumes.items():
        assert await store.volume(name) == volume
    assert await store.gpus() == [state.gpus[gpu_uuid(index)] for index in range(4)]
    assert await store.ports() == [one for _, one in sorted(state.ports.items())]
    for operation in state.operations.values():
        assert await store.operation(operation.id) == operation


async def test_operations_are_paged_newest_first(store: ReadStore) -> None:
    state = await fill(store, 2_000)
    known = sorted(state.operations.values(), key=lambda one: -one.seq)
    assert await store.operations(limit=7) == known[:7]
    assert await store.operations(limit=7, before_seq=known[6].seq) == known[7:14]
    mine = [one for one in known if one.name == "set1"]
    assert await store.operations(limit=5, name="set1") == mine[:5]
    assert await store.operations(limit=5, before_seq=mine[4].seq, name="set1") == mine[5:10]
    assert await store.operations(limit=5, name="nobody") == []


async def test_history_has_every_record_of_a_name(store: ReadStore) -> None:
    await fill(store, 2_000)
    mine = [
        (seq, record)
        for seq, record in enumerate(records(2_000, names=4), 1)
        if (record.kind, record.name) == ("replica_set", "set2")
    ]
    lines = await store.history("replica_set", "set2", limit=10_000)
    assert [line.seq for line in reversed(lines)] == [seq for seq, _ in mine]
    first, (seq, record) = lines[-1], mine[0]
    assert (first.seq, first.at_us, first.verb) == (seq, record.at_us, "run")
    assert (first.type, first.actor) == ("operation.accepted.v1", "ann")
    assert first.operation_id == record.operation_id
    page = await store.history("replica_set", "set2", limit=3, before_seq=lines[4].seq)
    assert page == lines[5:8]
    assert await store.history("volume", "set2", limit=5) == []


async def test_a_dump_has_every_row_in_the_order_of_its_key(store: ReadStore) -> None:
    state = await fill(store, DUMP_ROWS * 2 + 1)
    dump = await store.dump()
    assert list(dump) == list(COLUMNS)
    assert [row[0] for row in dump["history"]] == list(range(1, state.seq + 1))
    assert [row[:2] for row in dump["revisions"]] == sorted(state.revisions)
    assert [row[0] for row in dump["ports"]] == sorted(state.ports)


async def test_a_dump_is_of_one_instant(store: ReadStore) -> None:
    state = await fill(store, 2_000)
    seen: dict[str, int] = {}
    async for table, rows in store.rows():
        if not seen:
            assert rows == [(2_000,)]
            record = next(records(1))
            evolve(state, 2_001, record)
            await store.apply(take_batch(state, Usage(), 2_000, [history_row(2_001, record)]))
        seen[table] = seen.get(table, 0) + len(rows)
    assert seen["history"] == 2_000
    assert await store.position() == 2_001


async def test_a_batch_from_another_position_is_fenced_and_writes_nothing(path: Path) -> None:
    async with ReadStore(path) as one, ReadStore(path) as other:
        await fill(one, 50)
        before = await other.dump()
        with pytest.raises(StoreFenced, match="no longer at record 0"):
            await fill(other, 60)
        assert await one.dump() == before


async def test_a_batch_that_fails_in_the_middle_writes_nothing(store: ReadStore) -> None:
    state = await fill(store, 50)
    before = await store.dump()
    evolve(state, 51, next(records(1)))
    with pytest.raises(sqlite3.IntegrityError):
        await store.apply(take_batch(state, Usage(), 50, [(51, None, None, 0, "", "", "", "")]))
    assert await store.dump() == before
    assert await store.position() == 50


async def test_readers_cannot_write(store: ReadStore) -> None:
    with pytest.raises(StoreAway, match="readonly"):
        await store._rows("DELETE FROM history")


async def test_a_store_that_is_not_open_says_so(path: Path) -> None:
    store = ReadStore(path)
    with pytest.raises(ReadStoreError, match="not open"):
        await store.load_state()
    with pytest.raises(ReadStoreError, match="not open"):
        await store.position()


async def test_more_queries_than_readers_wait_their_turn(store: ReadStore) -> None:
    state = await fill(store, 200)
    answers = await asyncio.gather(*(store.replica_set("set1") for _ in range(50)))
    assert answers == [state.replica_sets["set1"]] * 50


async def test_a_rebuild_begins_from_empty_and_leaves_an_ordinary_file(path: Path) -> None:
    async with ReadStore(path) as store:
        await fill(store, 40)
        async with store.fast_rebuild():
            state = await fill(store, 4_000, names=8)
        rebuilt = await store.dump()
        assert content(await store.load_state()) == content(state)
    other_path = path.with_name("other.db")
    async with ReadStore(other_path) as other:
        await fill(other, 4_000, names=8)
        assert await other.dump() == rebuilt
    objects = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    with closing(sqlite3.connect(path)) as raw, closing(sqlite3.connect(other_path)) as ordinary:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert raw.execute(objects).fetchall() == ordinary.execute(objects).fetchall()


async def test_a_rebuild_cut_off_is_thrown_away(path: Path) -> None:
    async def rebuild(store: ReadStore) -> None:
        async with store.fast_rebuild():
            await fill(store, 4_000)
            raise ZeroDivisionError

    async with ReadStore(path) as store:
        with pytest.raises(ZeroDivisionError):
            await rebuild(store)
        with pytest.raises(ReadStoreError, match="not open"):
            await store.position()
    async with ReadStore(path) as store:
        assert await store.position() == 0
        assert (await store.dump())["history"] == []


async def test_who_asks_while_it_is_closed_is_told_to_come_again(store: ReadStore) -> None:
    await fill(store, 100)
    asked: list[asyncio.Task[int]] = []

    async def ask_on_and_on() -> None:
        while True:
            asked.append(asyncio.create_task(store.position()))
            await asyncio.sleep(0)

    asking = asyncio.create_task(ask_on_and_on())
    await asyncio.sleep(0)
    await store.close()
    asking.cancel()
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(one) for one in told} <= {int, StoreAway}
    assert any(isinstance(one, StoreAway) for one in told)


def test_the_kits_history_is_worth_testing_with() -> None:
    state = fold(records(12_000, names=8))
    assert {one.current > 1 for one in state.replica_sets.values()} == {True}
    assert any(one.state == "failed" for one in state.operations.values())
    assert any(volume.newest > 1 for volume in state.volumes.values())
    assert state.volume_users
