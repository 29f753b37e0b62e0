"""The projector: rows and state are the fold of the log, whatever happens in between."""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from events.record import Record
from events.replica_sets import RevisionRetired
from projections.projector import Projector, ProjectorStopped, Read, rebuild
from projections.state import State
from projections.store import ReadStore
from projections.tables import Row
from service.ports import StoredEntry
from tests.kit.histories import records
from tests.kit.logs import GrowingLog, content, entries, finite, fold

COUNT = 3_000
NAMES = 6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "read.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[ReadStore]:
    async with ReadStore(path) as store:
        yield store


@pytest.fixture(scope="module")
def stored() -> list[StoredEntry]:
    return entries(records(COUNT, NAMES))


async def project(read: Read, store: ReadStore) -> State:
    """Run a projector until the log ends."""
    projector = Projector(read, store)
    await projector.run()
    assert projector.stored_seq == projector.folded_seq == projector.state.seq
    return projector.state


async def fresh_rows(stored: list[StoredEntry], path: Path) -> dict[str, list[Row]]:
    """The rows of a log projected in one go into a file of its own."""
    async with ReadStore(path) as store:
        await project(finite(stored), store)
        return await store.dump()


async def stop(running: asyncio.Task[None]) -> None:
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("batch", [1, 7, 1_000])
async def test_state_and_rows_are_the_fold(
    stored: list[StoredEntry], path: Path, tmp_path: Path, batch: int
) -> None:
    async with ReadStore(path) as store:
        state = await project(finite(stored, batch), store)
        assert content(state) == content(fold(records(COUNT, NAMES)))
        assert content(await store.load_state()) == content(state)
        assert await store.dump() == await fresh_rows(stored, tmp_path / "fresh.db")


async def test_after_any_prefix_the_rows_are_those_of_a_fresh_fold(
    stored: list[StoredEntry], store: ReadStore, tmp_path: Path
) -> None:
    for seq in (1, 2, 7, 8, 40, 41, 42, 500, 501, 777, 1_234, 2_000, COUNT):
        state = await project(finite(stored[:seq]), store)
        assert content(state) == content(fold(records(seq, NAMES)))
        fresh = await fresh_rows(stored[:seq], tmp_path / f"{seq}.db")
        assert await store.dump() == fresh


async def test_a_start_in_the_middle_goes_on_as_if_nothing_had_been(
    stored: list[StoredEntry], path: Path, tmp_path: Path
) -> None:
    state, rows = State(), dict[str, list[Row]]()
    for seq in (1_100, 1_101, 2_500, COUNT):
        async with ReadStore(path) as store:
            projector = Projector(finite(stored[:seq]), store)
            await projector.load()
            assert content(projector.state) == content(state)
            await projector.run()
            state, rows = projector.state, await store.dump()
    assert content(state) == content(fold(records(COUNT, NAMES)))
    assert rows == await fresh_rows(stored, tmp_path / "fresh.db")


async def test_a_projector_cancelled_anywhere_loses_nothing(
    stored: list[StoredEntry], path: Path, tmp_path: Path
) -> None:
    for seq in (3, 400, 1_900):
        async with ReadStore(path) as store:
            projector = Projector(finite(stored, batch=50), store)
            running = asyncio.create_task(projector.run())
            await projector.wait_folded(seq)
            await stop(running)
            assert projector.failure == "it was cancelled"
    async with ReadStore(path) as store:
        assert await store.position() < COUNT
        await project(finite(stored), store)
        assert await store.dump() == await fresh_rows(stored, tmp_path / "fresh.db")


def spoil_file(path: Path) -> None:
    path.write_bytes(b"\x00" * 9_999)


async def test_a_lost_file_is_projected_again(stored: list[StoredEntry], path: Path) -> None:
    async with ReadStore(path) as store:
        await project(finite(stored), store)
        rows = await store.dump()
    spoil_file(path)
    async with ReadStore(path) as store:
        await project(finite(stored), store)
        assert await store.dump() == rows


async def test_a_second_projector_on_the_same_file_is_fenced(
    stored: list[StoredEntry], path: Path
) -> None:
    async with ReadStore(path) as one, ReadStore(path) as other:
        first, second = Projector(finite(stored), one), Projector(finite(stored), other)
        await second.load()
        await first.run()
        with pytest.raises(ProjectorStopped, match="another projector"):
            await second.run()
        assert second.failure is not None
        assert await one.position() == COUNT


# -- records that cannot be used --------------------------------------------------------------


def spoil(entry: StoredEntry) -> StoredEntry:
    body = entry.body.replace(b'"type":"', b'"type":"un')
    return msgspec.structs.replace(entry, body=body)


async def test_an_unreadable_record_stops_it_and_nothing_after_it_is_folded(
    stored: list[StoredEntry], store: ReadStore, tmp_path: Path
) -> None:
    bad = [*stored[:600], spoil(stored[600]), *stored[601:]]
    projector = Projector(finite(bad), store)
    seen: list[int] = []
    projector.subscribe(lambda seq, _: seen.append(seq))
    with pytest.raises(ProjectorStopped, match=r"record 601 cannot be read: un[a-z_]+\.") as error:
        await projector.run()
    assert projector.failure == str(error.value)
    assert seen == list(range(1, 601))
    assert projector.folded_seq == projector.stored_seq == 600
    assert content(projector.state) == content(fold(records(600, NAMES)))
    assert await store.dump() == await fresh_rows(stored[:600], tmp_path / "fresh.db")


async def test_a_record_that_does_not_fit_leaves_no_half_of_itself(
    stored: list[StoredEntry], store: ReadStore
) -> None:
    record = next(records(1))
    unknown = msgspec.structs.replace(
        record, events=(*record.events, RevisionRetired("never_declared", 1))
    )
    (misfit,) = entries([unknown])
    log = [*stored[:100], msgspec.structs.replace(misfit, seq=101)]
    projector = Projector(finite(log, batch=50), store)
    with pytest.raises(ProjectorStopped, match=r"record 101 \(node\.registered\.v1\).*never_decl"):
        await projector.run()
    assert projector.folded_seq == 100
    assert content(await store.load_state()) == content(fold(records(projector.stored_seq, NAMES)))


async def test_a_gap_stops_it(stored: list[StoredEntry], store: ReadStore) -> None:
    projector = Projector(finite([*stored[:10], *stored[11:]]), store)
    with pytest.raises(ProjectorStopped, match="record 12 came after record 10"):
        await projector.run()
    assert projector.stored_seq == 10


async def test_a_log_may_begin_at_any_sequence(store: ReadStore) -> None:
    rolled = [msgspec.structs.replace(e, seq=e.seq + 7_000) for e in entries(records(20))]
    state = await project(finite(rolled), store)
    assert state.seq == await store.position() == 7_020


async def test_what_the_ledger_raises_is_the_reason(store: ReadStore) -> None:
    async def read(after_seq: int) -> AsyncIterator[list[StoredEntry]]:
        yield entries(records(3))
        raise OSError("the ledger is gone")

    projector = Projector(read, store)
    with pytest.raises(ProjectorStopped, match="the ledger is gone"):
        await projector.run()
    assert await store.position() == 3


async def test_a_subscriber_that_fails_stops_it(
    stored: list[StoredEntry], store: ReadStore
) -> None:
    def callback(seq: int, _: Record) -> None:
        if seq == 9:
            raise ValueError("nine")

    projector = Projector(finite(stored), store)
    projector.subscribe(callback)
    with pytest.raises(ProjectorStopped, match="nine"):
        await projector.run()
    assert projector.stored_seq == 9


# -- waiting ----------------------------------------------------------------------------------


async def test_what_was_waited_for_can_be_read(stored: list[StoredEntry], store: ReadStore) -> None:
    log = GrowingLog()
    projector = Projector(log.read, store)
    running = asyncio.create_task(projector.run())
    for entry in stored[:300]:
        log.append([entry])
        await projector.wait_stored(entry.seq)
        assert await store.position() == projector.stored_seq == entry.seq
    await stop(running)


async def test_hundreds_wait_each_for_its_own_record(
    stored: list[StoredEntry], store: ReadStore
) -> None:
    log = GrowingLog()
    projector = Projector(log.read, store)
    done: list[int] = []

    async def wait(seq: int) -> None:
        await projector.wait_stored(seq)
        assert await store.position() >= seq
        done.append(seq)

    seqs = [1 + n * 7 % 500 for n in range(500)]
    async with asyncio.TaskGroup() as group:
        for seq in seqs:
            group.create_task(wait(seq))
        given_up = group.create_task(wait(250))
        running = asyncio.create_task(projector.run())
        log.append(stored[:200])
        await projector.wait_stored(200)
        given_up.cancel()
        log.append(stored[200:500])
    assert sorted(done) == sorted(seqs)
    await stop(running)


async def test_subscribers_see_each_record_when_it_is_folded(store: ReadStore) -> None:
    seen: list[tuple[int, Record]] = []

    def callback(seq: int, record: Record) -> None:
        assert projector.state.seq == projector.folded_seq == seq
        seen.append((seq, record))

    projector = Projector(finite(entries(records(700, NAMES))), store)
    projector.subscribe(callback)
    await projector.run()
    assert seen == list(enumerate(records(700, NAMES), 1))


async def test_whoever_waits_is_told_why_it_stopped(
    stored: list[StoredEntry], store: ReadStore
) -> None:
    log = GrowingLog(stored[:10])
    projector = Projector(log.read, store)
    running = asyncio.create_task(projector.run())
    await projector.wait_folded(10)
    waits = [projector.wait_folded(20), projector.wait_stored(11), projector.wait_stored(12)]
    waiting = [asyncio.create_task(wait) for wait in waits]
    await asyncio.sleep(0)  # so that they wait already
    log.append([spoil(stored[10])])
    for task in waiting:
        with pytest.raises(ProjectorStopped, match="record 11 cannot be read"):
            await task
    with pytest.raises(ProjectorStopped, match="record 11 cannot be read"):
        await running
    with pytest.raises(ProjectorStopped, match="record 11 cannot be read"):
        await projector.wait_folded(11)
    await projector.wait_stored(10)


async def test_whoever_waits_is_told_that_it_was_cancelled(store: ReadStore) -> None:
    projector = Projector(GrowingLog().read, store)
    running = asyncio.create_task(projector.run())
    waiting = asyncio.create_task(projector.wait_stored(1))
    await asyncio.sleep(0)
    await stop(running)
    with pytest.raises(ProjectorStopped, match="cancelled"):
        await waiting


# -- rebuild ----------------------------------------------------------------------------------


async def test_a_rebuild_gives_the_same_rows_and_says_what_it_read(
    stored: list[StoredEntry], path: Path, tmp_path: Path
) -> None:
    async with ReadStore(path) as store:
        await project(finite(stored[:50]), store)
        report = await rebuild(finite(stored), store)
        assert await store.dump() == await fresh_rows(stored, tmp_path / "fresh.db")
        assert content(await store.load_state()) == content(fold(records(COUNT, NAMES)))
    assert (report.records, report.last_seq) == (COUNT, COUNT)
    assert report.events == sum(len(record.events) for record in records(COUNT, NAMES))


async def test_records_are_folded_ahead_of_the_rows_only_so_far(
    store: ReadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.projector.BATCH_RECORDS_MAX", 500)
    ahead: list[int] = []
    projector = Projector(finite(entries(islice(records(8_000), 8_000))), store)
    projector.subscribe(lambda seq, _: ahead.append(seq - projector.stored_seq))
    await projector.run()
    assert max(ahead) <= 500 * 2 + 250 * 2  # one batch being written, one being filled
    assert content(projector.state) == content(fold(records(8_000)))
