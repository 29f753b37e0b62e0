"""The read store's file lost or out of room while it is in use: noticed, and made whole again."""

import asyncio
import logging
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from projections.projector import Projector, ProjectorStopped, RowsBehind
from projections.state import State
from projections.store import ReadStore, StoreAway
from service.errors import LedgerDamaged
from service.ports import StoredEntry
from tests.kit.full_disk import FullDisk
from tests.kit.histories import records
from tests.kit.logs import GrowingLog, content, entries, finite

COUNT = 600
BEFORE = 400


@pytest.fixture(scope="module")
def stored() -> list[StoredEntry]:
    return entries(records(COUNT, 6))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "read.db"


class Following:
    """A projector that follows a log which grows."""

    def __init__(self, stored: list[StoredEntry], store: ReadStore) -> None:
        self.stored, self.store = stored, store
        self.log = GrowingLog(stored[:BEFORE])
        self.projector = Projector(self.log.read, store)

    async def grow(self) -> None:
        self.log.append(self.stored[self.projector.folded_seq :])

    async def rows_are_those_of(self, seq: int, tmp_path: Path) -> None:
        """The open store holds what the fold of so many records holds, and so does its file."""
        async with ReadStore(tmp_path / f"fresh-{seq}.db") as fresh:
            await Projector(finite(self.stored[:seq]), fresh).run()
            expected = await fresh.dump()
        assert await self.store.dump() == expected
        async with ReadStore(self.store._path) as again:
            assert await again.dump() == expected


@pytest.fixture
async def following(stored: list[StoredEntry], path: Path) -> AsyncIterator[Following]:
    async with ReadStore(path) as store:
        one = Following(stored, store)
        running = asyncio.create_task(one.projector.run())
        await one.projector.wait_stored(BEFORE)
        empty_the_wal(path)
        await one.projector.look_at_rows()
        yield one
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def empty_the_wal(path: Path) -> None:
    """So that the database itself has all rows."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


def all_files(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def only_the_database(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def cut_off(path: Path) -> None:
    """Its last page, which hardly anybody reads."""
    os.truncate(path, path.stat().st_size - 4096)


def noted_damaged(path: Path) -> None:
    path.with_name(path.name + ".damaged").touch()


def inode_of(path: Path) -> int:
    return path.stat().st_ino


LOSSES: list[Callable[[Path], None]] = [
    *(all_files, only_the_database, replaced, emptied, cut_off, noted_damaged)
]


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_look_finds_it_and_the_rows_come_back(
    following: Following, path: Path, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    lose(path)
    await following.projector.look_at_rows()
    await until_well(following.projector)
    await following.rows_are_those_of(BEFORE, tmp_path)
    await following.grow()
    await following.projector.wait_stored(COUNT)
    await following.rows_are_those_of(COUNT, tmp_path)


async def until_well(projector: Projector) -> None:
    """Let the projector write its rows anew."""
    async with asyncio.timeout(60):
        await asyncio.sleep(0)
        while projector.trouble is not None or projector._lost is not None:
            assert projector.failure is None, projector.failure
            await asyncio.sleep(0.01)


async def test_what_is_written_meanwhile_is_not_lost(
    following: Following, path: Path, tmp_path: Path
) -> None:
    all_files(path)
    await following.grow()
    await following.projector.look_at_rows()
    await following.projector.wait_stored(COUNT)
    await until_well(following.projector)
    await following.rows_are_those_of(COUNT, tmp_path)


async def test_a_store_that_is_well_is_left_alone(
    following: Following, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    inode = inode_of(path)
    for _ in range(3):
        await following.projector.look_at_rows()
    await following.grow()
    await following.projector.wait_stored(COUNT)
    await following.projector.look_at_rows()
    await until_well(following.projector)
    assert inode_of(path) == inode
    assert caplog.records == []


async def test_the_look_tells_why(following: Following, path: Path) -> None:
    assert await following.store.lost() is None
    noted_damaged(path)
    assert await following.store.lost() == "it was found damaged"
    only_the_database(path)
    assert await following.store.lost() == "it is gone"


async def test_a_store_that_is_being_made_anew_says_so(
    stored: list[StoredEntry], path: Path
) -> None:
    async with ReadStore(path) as store, store.fast_rebuild():
        await Projector(finite(stored), store).run()
        with pytest.raises(StoreAway, match="not open"):
            await store.replica_sets()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[FullDisk]:
    with FullDisk(tmp_path / "disk", 8) as disk:
        yield disk


async def test_rows_that_find_no_room_are_written_when_there_is(
    stored: list[StoredEntry], full_disk: FullDisk, tmp_path: Path
) -> None:
    async with ReadStore(full_disk.path / "read.db") as store:
        following = Following(stored, store)
        projector = following.projector
        running = asyncio.create_task(projector.run())
        await projector.wait_stored(BEFORE)
        full_disk.fill()
        await following.grow()
        with pytest.raises(RowsBehind, match="full"):
            await projector.wait_stored(COUNT)
        with pytest.raises(RowsBehind, match="full"):  # nobody begins to wait
            await projector.wait_stored(COUNT)
        assert projector.trouble is not None
        assert projector.folded_seq == COUNT
        assert await store.position() == BEFORE
        full_disk.make_room()
        await until_well(projector)
        assert (await store.position(), projector.stored_seq) == (COUNT, COUNT)
        await following.rows_are_those_of(COUNT, tmp_path)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_rows_that_are_lost_on_a_full_disk_come_back_when_there_is_room(
    stored: list[StoredEntry], full_disk: FullDisk, tmp_path: Path
) -> None:
    async with ReadStore(full_disk.path / "read.db") as store:
        following = Following(stored, store)
        projector = following.projector
        running = asyncio.create_task(projector.run())
        await projector.wait_stored(BEFORE)
        full_disk.hold("read.db*")
        all_files(full_disk.path / "read.db")
        full_disk.fill()
        await projector.look_at_rows()
        await following.grow()
        with pytest.raises(RowsBehind, match="anew"):
            await projector.wait_stored(COUNT)
        full_disk.make_room()
        await until_well(projector)
        await projector.wait_stored(COUNT)
        await following.rows_are_those_of(COUNT, tmp_path)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_ledger_that_cannot_give_the_records_again_stops_it(
    stored: list[StoredEntry], path: Path
) -> None:
    log, broken = GrowingLog(stored[:BEFORE]), False

    async def read(after_seq: int) -> AsyncIterator[list[StoredEntry]]:
        if broken:
            raise LedgerDamaged("record 7 is missing")
        async for batch in log.read(after_seq):
            yield list(batch)

    async with ReadStore(path) as store:
        projector = Projector(read, store)
        running = asyncio.create_task(projector.run())
        await projector.wait_stored(BEFORE)
        all_files(path)
        broken = True
        await projector.look_at_rows()
        with pytest.raises(ProjectorStopped, match="record 7 is missing"):
            await running
        assert content(projector.state) != content(State())
