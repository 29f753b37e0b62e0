"""What every implementation of the port `Ledger` does, run on all of them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing

import pytest

from service.adapters.jetstream import RECORD_BYTES_MAX, JetStreamLedger
from service.errors import LedgerConflict, LedgerDamaged, LedgerError, LedgerUnavailable
from service.ports import Entry, Ledger, StoredEntry
from tests.kit.memory_ledger import Fault, MemoryLedger


@pytest.fixture(params=["memory", "jetstream"])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    if request.param == "memory":
        return MemoryLedger()
    real: Ledger = request.getfixturevalue("nats_ledger")
    return real


def entries(count: int, prefix: str = "id", body: bytes = b"body") -> list[Entry]:
    return [
        Entry(f"ledger.node.replica_set.name{i}.run", f"{prefix}-{i}", body + b" %d" % i)
        for i in range(count)
    ]


def stored(appended: Sequence[Entry], after_seq: int = 0) -> list[StoredEntry]:
    return [
        StoredEntry(seq, entry.subject, entry.message_id, entry.body)
        for seq, entry in enumerate(appended, after_seq + 1)
    ]


async def read_all(ledger: Ledger, after_seq: int = 0) -> list[StoredEntry]:
    last_seq = await ledger.last_seq()
    return await read_until(ledger, after_seq, last_seq)


async def read_until(ledger: Ledger, after_seq: int, until_seq: int) -> list[StoredEntry]:
    found: list[StoredEntry] = []
    async for batch in ledger.read(after_seq, until_seq):
        assert batch
        found.extend(batch)
    return found


async def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert await ledger.last_seq() == 0
    assert await read_all(ledger) == []
    assert await ledger.find("id-0", 0) is None


@pytest.mark.parametrize("count", [1, 20, 32, 33, 200, 2100])
async def test_appended_entries_are_read_in_order(ledger: Ledger, count: int) -> None:
    batch = entries(count)
    assert await ledger.append(batch, 0) == count
    assert await ledger.last_seq() == count
    assert await read_all(ledger) == stored(batch)


async def test_appends_of_all_sizes_follow_each_other(ledger: Ledger) -> None:
    everything: list[Entry] = []
    for size in (1, 5, 40, 1, 40, 32, 1):
        batch = entries(size, prefix=f"after{len(everything)}")
        assert await ledger.append(batch, len(everything)) == len(everything) + size
        everything += batch
    assert await read_all(ledger) == stored(everything)


async def test_appends_in_flight_at_once_keep_their_order(ledger: Ledger) -> None:
    sizes = (1, 1, 40, 3, 1, 50, 40, 1)
    everything: list[Entry] = []
    appends = []
    for size in sizes:
        batch = entries(size, prefix=f"flight{len(everything)}")
        appends.append(asyncio.create_task(ledger.append(batch, len(everything))))
        everything += batch
    await asyncio.gather(*appends)
    assert await read_all(ledger) == stored(everything)


@pytest.mark.parametrize("expected_last_seq", [0, 2, 4, 99])
@pytest.mark.parametrize("count", [1, 3, 40])
async def test_a_wrong_expectation_is_a_conflict_and_stores_nothing(
    ledger: Ledger, expected_last_seq: int, count: int
) -> None:
    first = entries(3, prefix="first")
    await ledger.append(first, 0)
    with pytest.raises(LedgerConflict):
        await ledger.append(entries(count, prefix="late"), expected_last_seq)
    assert await read_all(ledger) == stored(first)


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_the_same_append_again_succeeds_and_stores_nothing(
    ledger: Ledger, count: int
) -> None:
    batch = entries(count)
    assert await ledger.append(batch, 0) == count
    assert await ledger.append(batch, 0) == count
    await ledger.append(entries(1, prefix="later"), count)
    assert await ledger.append(batch, 0) == count
    assert await ledger.last_seq() == count + 1


@pytest.mark.parametrize("count", [2, 40])
async def test_an_append_of_which_a_prefix_is_stored_says_so(ledger: Ledger, count: int) -> None:
    batch = entries(count)
    await ledger.append([*batch[:1], *entries(1, prefix="other")], 0)
    with pytest.raises(LedgerUnavailable, match=r"^(1 of|1 entries)"):
        await ledger.append(batch, 0)
    assert await ledger.last_seq() == 2


@pytest.mark.parametrize("count", [1, 3, 40])
async def test_an_id_stored_elsewhere_is_not_stored_twice(ledger: Ledger, count: int) -> None:
    batch = entries(count)
    await ledger.append(batch[:1], 0)
    with pytest.raises(LedgerConflict):
        await ledger.append(batch, 1)
    assert await read_all(ledger) == stored(batch[:1])


@pytest.mark.parametrize("size", [5, 40])
async def test_nothing_that_follows_a_failed_entry_is_stored(ledger: Ledger, size: int) -> None:
    await ledger.append(entries(1, prefix="known"), 0)
    batch = [*entries(2), *entries(1, prefix="known"), *entries(size, prefix="rest")]
    with pytest.raises(LedgerError):
        await ledger.append(batch, 1)
    after = await read_all(ledger, after_seq=1)
    assert after in ([], stored(batch[:2], after_seq=1))


async def test_of_two_writers_one_wins_each_round(ledger: Ledger) -> None:
    last_seq = 0
    for number in range(20):
        rivals = [entries(4, prefix=f"{writer}-{number}") for writer in "ab"]
        outcomes = await asyncio.gather(
            *(ledger.append(batch, last_seq) for batch in rivals), return_exceptions=True
        )
        won = [i for i, outcome in enumerate(outcomes) if outcome == last_seq + 4]
        assert len(won) == 1
        assert isinstance(outcomes[1 - won[0]], LedgerConflict)
        assert await read_all(ledger, last_seq) == stored(rivals[won[0]], last_seq)
        last_seq += 4


async def test_reading_begins_after_and_ends_with_the_given_seqs(ledger: Ledger) -> None:
    batch = entries(50)
    await ledger.append(batch, 0)
    assert await read_until(ledger, 10, 20) == stored(batch)[10:20]
    assert await read_until(ledger, 49, 50) == stored(batch)[49:]
    assert await read_until(ledger, 50, 50) == []
    assert await read_until(ledger, 30, 20) == []


async def test_reading_until_a_seq_waits_for_it(ledger: Ledger) -> None:
    await ledger.append(entries(2), 0)
    reading = asyncio.create_task(read_until(ledger, 0, 4))
    await ledger.append(entries(3, prefix="later"), 2)
    assert [entry.seq for entry in await reading] == [1, 2, 3, 4]


async def test_a_position_beyond_the_end_means_that_records_were_lost(ledger: Ledger) -> None:
    await ledger.append(entries(3), 0)
    with pytest.raises(LedgerDamaged, match="seq 4 "):
        await read_until(ledger, 5, 6)


async def test_a_reader_follows_appends(ledger: Ledger) -> None:
    followed: list[StoredEntry] = []
    everything: list[Entry] = []
    async with aclosing(ledger.read(0)) as batches:
        for size in (1, 1, 40, 1, 7):
            batch = entries(size, prefix=f"round{len(everything)}")
            await ledger.append(batch, len(everything))
            everything += batch
            while len(followed) < len(everything):
                followed += await anext(batches)
    assert followed == stored(everything)


async def test_many_readers_see_the_same(ledger: Ledger) -> None:
    batch = entries(60)
    await ledger.append(batch[:25], 0)
    positions = (0, 5, 5, 25)
    readers = [asyncio.create_task(read_until(ledger, after, 60)) for after in positions]
    await ledger.append(batch[25:], 25)
    everything = stored(batch)
    for found, after in zip(await asyncio.gather(*readers), positions, strict=True):
        assert found == everything[after:]


async def test_find_looks_only_after_the_given_seq(ledger: Ledger) -> None:
    await ledger.append(entries(40), 0)
    assert await ledger.find("id-7", 0) == 8
    assert await ledger.find("id-7", 7) == 8
    assert await ledger.find("id-7", 8) is None
    assert await ledger.find("id-39", 39) == 40
    assert await ledger.find("nobody", 0) is None


def awkward_entries() -> Iterator[Entry]:
    yield Entry("ledger.n-1.replica_set.Name_0.run", "01J8ZQ4Y7P-é:ü/=", b"")
    yield Entry("ledger.n.volume.v-9.create", "b c", b"\x00\xff\r\n\r\nMSG x 1 5\r\n")
    yield Entry("ledger.n.x.y.z", "d" * 200, '{"name":"ä€𝄞"}'.encode())


async def test_ids_subjects_and_bodies_come_back_as_they_went(ledger: Ledger) -> None:
    batch = list(awkward_entries())
    await ledger.append(batch, 0)
    assert await read_all(ledger) == stored(batch)
    assert await ledger.find("d" * 200, 0) == 3


async def test_big_bodies_come_back(ledger: Ledger) -> None:
    bodies = [bytes([i]) * 1_000_000 for i in range(20)]
    batch = [Entry("ledger.n.k.big.run", f"big-{i}", body) for i, body in enumerate(bodies)]
    await ledger.append(batch, 0)
    assert await read_all(ledger) == stored(batch)


async def test_a_pipeline_that_loses_leaves_no_hole_for_its_followers(
    nats_ledger: JetStreamLedger,
) -> None:
    """The rival's record has just the sequence that the second append of the pipeline expects."""
    await nats_ledger.append(entries(1, prefix="rival"), 0)
    outcomes = await asyncio.gather(
        *(nats_ledger.append(entries(1, prefix=f"mine{seq}"), seq) for seq in range(5)),
        *(nats_ledger.append(entries(40, prefix=f"batch{seq}"), seq) for seq in (5,)),
        return_exceptions=True,
    )
    assert all(isinstance(outcome, LedgerError) for outcome in outcomes)
    assert await nats_ledger.last_seq() == 1


async def test_a_record_too_large_is_refused_before_it_is_sent(
    nats_ledger: JetStreamLedger,
) -> None:
    too_large = Entry("ledger.n.k.big.run", "big", bytes(RECORD_BYTES_MAX))
    with pytest.raises(LedgerError, match="at most"):
        await nats_ledger.append([too_large], 0)
    largest = Entry("ledger.n.k.big.run", "big", bytes(RECORD_BYTES_MAX - 2 * len("big")))
    assert await nats_ledger.append([largest], 0) == 1


@pytest.mark.parametrize(
    ("fault", "kept", "last_seq"), [("refused", 0, 0), ("prefix", 2, 2), ("lost_reply", 0, 3)]
)
async def test_planned_faults_store_what_they_say(fault: Fault, kept: int, last_seq: int) -> None:
    ledger = MemoryLedger()
    batch = entries(3)
    ledger.fail_next(fault, kept)
    with pytest.raises(LedgerUnavailable):
        await ledger.append(batch, 0)
    assert await read_all(ledger) == stored(batch[:last_seq])
    assert await ledger.append(batch[last_seq:] or batch, last_seq % 3) == 3
    assert await read_all(ledger) == stored(batch)
