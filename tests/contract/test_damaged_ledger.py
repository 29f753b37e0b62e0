"""A damaged store of the ledger: noticed at the start, said to the byte, and nothing lost."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import pytest

from service.adapters.jetstream import JetStreamLedger
from service.adapters.nats_child import NatsChild
from service.adapters.newest_block import Cut, copy_newest, kept_cuts, vouch
from service.application.ledger_end import NEWEST_RECORDS, require_whole_end
from service.errors import LedgerDamaged
from service.ports import Entry, StoredEntry
from tests.kit.damage import block_of, flip, place_of
from tests.kit.memory_ledger import MemoryLedger

COUNT = 40
READ_STORE = "data/read.db"


def entry(seq: int) -> Entry:
    body = b'{"seq":%d,"pad":"%s"}' % (seq, b"x" * 300)
    return Entry("ledger.node.replica_set.name.run", f"id-{seq}", body)


async def fill(data_dir: Path, *, clean: bool) -> None:
    """COUNT records in a new store, and the end of its server."""
    async with NatsChild(data_dir) as child, JetStreamLedger(child.service, child.admin) as ledger:
        await ledger.append([entry(seq) for seq in range(1, COUNT + 1)], 0)
        if not clean:
            # As it stands while the server runs: its index was never written.
            await asyncio.to_thread(
                shutil.copytree, data_dir / "ledger", data_dir / "as it stands"
            )
    if not clean:
        shutil.rmtree(data_dir / "ledger")
        (data_dir / "as it stands").rename(data_dir / "ledger")


async def start(data_dir: Path, stored_seq: int) -> list[Cut]:
    """As the service starts, with a read store that has seen so much."""
    async with NatsChild(data_dir) as child, JetStreamLedger(child.service, child.admin) as ledger:
        cuts = await asyncio.to_thread(kept_cuts, data_dir)
        await require_whole_end(
            ledger, stored_seq, await ledger.last_seq(), READ_STORE, [str(cut) for cut in cuts]
        )
    return cuts


def flip_in_30(data_dir: Path) -> None:
    flip(block_of(data_dir), place_of(data_dir, 30))


def flip_in_the_last(data_dir: Path) -> None:
    flip(block_of(data_dir), place_of(data_dir, COUNT))


def cut_off_in_38(data_dir: Path) -> None:
    os.truncate(block_of(data_dir), place_of(data_dir, 38) + 50)


def lose_the_block(data_dir: Path) -> None:
    block_of(data_dir).unlink()


DAMAGES: list[tuple[Callable[[Path], None], int]] = [
    (flip_in_30, 30),
    (flip_in_the_last, COUNT),
    (cut_off_in_38, 38),
    (lose_the_block, 1),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage[0].__name__)
async def test_after_a_clean_end_the_missing_record_is_named(
    tmp_path: Path, damage: tuple[Callable[[Path], None], int]
) -> None:
    """The read store has seen it all, so a start would read none of it again."""
    happen, seq = damage
    await fill(tmp_path, clean=True)
    happen(tmp_path)
    with pytest.raises(LedgerDamaged, match=f"seq {seq} of the ledger is missing"):
        await start(tmp_path, COUNT)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage[0].__name__)
async def test_after_a_crash_the_end_is_short_of_what_was_seen(
    tmp_path: Path, damage: tuple[Callable[[Path], None], int]
) -> None:
    happen, seq = damage
    await fill(tmp_path, clean=False)
    happen(tmp_path)
    for _ in range(2):
        with pytest.raises(LedgerDamaged, match=f"seen record {COUNT}, .* ends at {seq - 1}:"):
            await start(tmp_path, COUNT)


async def test_what_the_server_cuts_off_is_kept_and_named_to_the_byte(tmp_path: Path) -> None:
    await fill(tmp_path, clean=False)
    flip_in_30(tmp_path)
    whole = block_of(tmp_path).read_bytes()
    with pytest.raises(LedgerDamaged) as first:
        await start(tmp_path, COUNT)
    (cut,) = kept_cuts(tmp_path)
    assert cut.kept.read_bytes() == whole
    assert block_of(tmp_path).read_bytes() == whole[: cut.cut_at]
    assert place_of(tmp_path, 29) < cut.cut_at < whole.index(b"id-30\r\n")
    assert f"byte {cut.cut_at} " in str(first.value)
    assert str(cut.kept) in str(first.value)


async def test_without_a_read_store_a_cut_is_not_passed_over(tmp_path: Path) -> None:
    """Also not at the second start, when the server finds nothing more to cut."""
    await fill(tmp_path, clean=False)
    flip_in_30(tmp_path)
    for _ in range(2):
        with pytest.raises(LedgerDamaged, match=r"ends at record 29, .* move that file away"):
            await start(tmp_path, 0)
    (cut,) = kept_cuts(tmp_path)
    cut.kept.rename(tmp_path / "elsewhere")
    assert await start(tmp_path, 0) == []


async def test_a_torn_end_that_nobody_has_seen_is_vouched_for(tmp_path: Path) -> None:
    await fill(tmp_path, clean=False)
    cut_off_in_38(tmp_path)
    cuts = await start(tmp_path, 37)
    assert len(cuts) == 1
    vouch(cuts)
    assert await start(tmp_path, 0) == []


@pytest.mark.parametrize("clean", [True, False])
async def test_a_whole_store_leaves_no_copy(tmp_path: Path, clean: bool) -> None:
    await fill(tmp_path, clean=clean)
    for index in (tmp_path / "ledger").rglob("index.db"):
        index.write_bytes(b"\xa5" * 100)  # the server makes it anew
    assert await start(tmp_path, COUNT) == []
    assert list((tmp_path / "ledger-cut").iterdir()) == []


async def test_what_a_restart_in_between_cuts_off_is_kept_too(tmp_path: Path) -> None:
    async with NatsChild(tmp_path) as child, JetStreamLedger(child.service, child.admin) as ledger:
        await ledger.append([entry(seq) for seq in range(1, COUNT + 1)], 0)
        assert child.pid is not None
        flip_in_30(tmp_path)
        os.kill(child.pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            with pytest.raises(LedgerDamaged, match=f"seq {COUNT} was there before"):
                await anext(ledger.read(COUNT))
    assert len(kept_cuts(tmp_path)) == 1


async def test_only_the_newest_records_are_read_again() -> None:
    class Counting(MemoryLedger):
        asked: tuple[int, int | None] = 0, 0

        def read(
            self, after_seq: int, until_seq: int | None = None
        ) -> AsyncGenerator[Sequence[StoredEntry], None]:
            self.asked = after_seq, until_seq
            return super().read(after_seq, until_seq)

    ledger, count = Counting(), NEWEST_RECORDS + 5
    await ledger.append([entry(seq) for seq in range(1, count + 1)], 0)
    await require_whole_end(ledger, count - 2, count, READ_STORE, [])
    assert ledger.asked == (5, count - 2)


def test_only_the_blocks_of_the_ledger_are_looked_at(tmp_path: Path) -> None:
    """Refusals are beside it, and have newer blocks soon."""
    streams = tmp_path / "ledger" / "jetstream" / "$G" / "streams"
    for name in ("LEDGER/msgs/1.blk", "LEDGER/msgs/2.blk", "REFUSALS/msgs/9.blk"):
        (streams / name).parent.mkdir(parents=True, exist_ok=True)
        (streams / name).write_text(name)
    copy = copy_newest(tmp_path / "ledger", tmp_path)
    assert copy is not None
    assert copy.path.read_text() == "LEDGER/msgs/2.blk"
