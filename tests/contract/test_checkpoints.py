"""Checkpoints are a cache: what is lost is made again, what is wrong is not believed."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from events.record import Record
from projections import checkpoints, timeline
from projections.checkpoints import Checkpoints, CheckpointUnusable
from projections.projector import Projector, rebuild
from projections.store import ReadStore
from projections.timeline import PASSED_MAX, Timeline, TimelineBehind
from tests.kit.histories import records
from tests.kit.inline_store import InlineStore
from tests.kit.logs import GrowingLog, entries, finite, fold
from tests.kit.past import ListedLedger, whole

EVERY = 50
HISTORY = list(records(1_020, names=4))
END = len(HISTORY)
ALL = list(range(EVERY, END + 1, EVERY))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


@pytest.fixture(scope="module")
def first_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first") / "checkpoints"
    asyncio.run(make(folder))
    return folder


@pytest.fixture
def made(folder: Path, first_made: Path) -> Path:
    """The folder with all checkpoints."""
    shutil.copytree(first_made, folder)
    return folder


@asynccontextmanager
async def at_work(folder: Path, history: Sequence[Record] = HISTORY) -> AsyncIterator[Timeline]:
    """A timeline that has made all that was missing."""
    found = Timeline(ListedLedger(history).read, Checkpoints(folder), EVERY)
    running = asyncio.create_task(found.run(lambda: len(history)))
    try:
        async with asyncio.timeout(60):
            await found.whole()
        yield found
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def make(folder: Path) -> None:
    """Make all checkpoints that are missing."""
    async with at_work(folder):
        assert Checkpoints(folder).seqs() == ALL


def file_at(folder: Path, seq: int) -> Path:
    return folder / f"{seq:012}.checkpoint"


async def test_a_point_costs_no_more_than_the_way_from_the_checkpoint_before(made: Path) -> None:
    for seq in (1, EVERY, EVERY + 1, 777, END):
        ledger = ListedLedger(HISTORY)
        cold = Timeline(ledger.read, Checkpoints(made), EVERY)
        assert whole(await cold.state_at(seq)) == whole(fold(HISTORY[:seq]))
        assert ledger.read_records <= EVERY + 1, seq


async def test_who_asks_again_is_answered_from_memory(folder: Path) -> None:
    ledger = ListedLedger(HISTORY)
    there = Timeline(ledger.read, Checkpoints(folder), EVERY)
    first, again = await asyncio.gather(there.state_at(500), there.state_at(500))
    assert first is again
    assert ledger.read_records == 500
    await there.state_at(501)
    assert ledger.read_records == 501


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-10] ^= 1
    path.write_bytes(bytes(body))


def other_header(path: Path, old: bytes, new: bytes) -> None:
    body = path.read_bytes()
    assert body.count(old) == 1
    path.write_bytes(body.replace(old, new))


def with_body_of(path: Path, other: Path) -> None:
    """Sound in itself, and not what was written."""
    header, body = path.read_bytes().partition(b"\n")[0], other.read_bytes().partition(b"\n")[2]
    path.write_bytes(header + b"\n" + body)


SPOILT: dict[str, Callable[[Path], object]] = {
    "a bit": flip,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "no header": lambda path: path.write_bytes(b"\xff\n"),
    "another schema": lambda path: other_header(path, b'"schema":', b'"schema":9'),
    "another format": lambda path: other_header(path, b'"format":1', b'"format":2'),
    "another place": lambda path: other_header(path, b'"seq":', b'"seq":1'),
    "another's body": lambda path: with_body_of(path, file_at(path.parent, 450)),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("seq", [500, EVERY], ids=["one", "what others are based on"])
async def test_what_is_damaged_is_thrown_away_and_made_again(
    made: Path, how: str, seq: int
) -> None:
    sound = Timeline(ListedLedger(HISTORY).read, Checkpoints(made), EVERY)
    await sound.state_at(60)  # it has seen which there are
    SPOILT[how](file_at(made, seq))
    for there in (sound, Timeline(ListedLedger(HISTORY).read, Checkpoints(made), EVERY)):
        assert whole(await there.state_at(520)) == whole(fold(HISTORY[:520]))
    await make(made)
    ledger = ListedLedger(HISTORY)
    again = Timeline(ledger.read, Checkpoints(made), EVERY)
    assert whole(await again.state_at(520)) == whole(fold(HISTORY[:520]))
    assert ledger.read_records <= EVERY + 1


def test_what_is_based_on_another_one_is_not_believed(made: Path) -> None:
    there = Checkpoints(made)
    assert there.load(500).state.seq == 500
    other = fold(records(EVERY, names=9))
    there.write(other, HISTORY[EVERY - 1].command_id, None)
    with pytest.raises(CheckpointUnusable, match="based on another one"):
        Checkpoints(made).load(500)


async def test_those_of_another_ledger_are_thrown_away(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = [replace(one, command_id=f"other-{one.command_id}") for one in HISTORY]
    strange = Timeline(ListedLedger(other).read, Checkpoints(made), EVERY)
    with caplog.at_level(logging.WARNING):
        state = await strange.state_at(510)
    assert "of another ledger" in caplog.text
    assert state.seq == 510
    assert Checkpoints(made).seqs() == [seq for seq in ALL if seq > 510]


async def test_those_behind_the_end_of_the_ledger_are_thrown_away(made: Path) -> None:
    async with at_work(made, HISTORY[:320]) as shorter:
        assert Checkpoints(made).seqs() == [seq for seq in ALL if seq <= 320]
        assert whole(await shorter.state_at(320)) == whole(fold(HISTORY[:320]))


async def test_a_folder_that_cannot_be_made_is_no_trouble(
    caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with at_work(Path("/dev/null/checkpoints")) as there:
            assert whole(await there.state_at(99)) == whole(fold(HISTORY[:99]))
    assert "cannot be written" in caplog.text


async def test_too_long_a_way_is_refused_and_soon_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "FOLD_RECORDS_MAX", 2 * EVERY)
    bare = Timeline(ListedLedger(HISTORY).read, Checkpoints(folder), EVERY)
    assert (await bare.state_at(2 * EVERY)).seq == 2 * EVERY
    with pytest.raises(TimelineBehind, match="being made"):
        await bare.state_at(END)
    async with at_work(folder) as there:
        assert whole(await there.state_at(END)) == whole(fold(HISTORY))


async def test_they_are_written_as_the_projector_passes(folder: Path) -> None:
    end = PASSED_MAX * EVERY  # what comes on top may be left to be made later
    stored, log = entries(HISTORY), GrowingLog()
    async with InlineStore() as store:
        projector = Projector(log.read, store)
        there = Timeline(ListedLedger(HISTORY).read, Checkpoints(folder), EVERY)
        there.follow(projector)
        async with asyncio.timeout(60), asyncio.TaskGroup() as parts, there.writing():
            running = parts.create_task(projector.run())
            for begin in range(0, end, 100):
                log.append(stored[begin : begin + 100])
                await projector.wait_stored(begin + 100)
            running.cancel()
    assert Checkpoints(folder).seqs() == ALL[:PASSED_MAX]
    cold = Timeline(ListedLedger(HISTORY).read, Checkpoints(folder), EVERY)
    for seq in (60, 510, END):
        assert whole(await cold.state_at(seq)) == whole(fold(HISTORY[:seq]))


async def test_a_rebuild_makes_one_of_many(folder: Path, tmp_path: Path) -> None:
    there = Timeline(ListedLedger(HISTORY).read, Checkpoints(folder), EVERY)
    async with ReadStore(tmp_path / "read.db") as store, there.writing():
        await rebuild(finite(entries(HISTORY)), store, lambda one: there.follow(one, 4))
    assert Checkpoints(folder).seqs() == ALL[3::4]
    async with at_work(folder):
        assert Checkpoints(folder).seqs() == ALL


async def test_most_are_small(made: Path) -> None:
    based = [file_at(made, seq).read_bytes().partition(b"\n")[0] for seq in ALL]
    full = [seq for seq, line in zip(ALL, based, strict=True) if b'"base":0' in line]
    assert full == [EVERY, EVERY + 20 * EVERY][: len(full)]
    assert checkpoints.FORMAT == 1


async def test_all_of_them_can_be_forgotten(made: Path) -> None:
    there = Timeline(ListedLedger(HISTORY).read, Checkpoints(made), EVERY)
    await there.forget()
    assert Checkpoints(made).seqs() == []
