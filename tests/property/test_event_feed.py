"""The feed gives every record once and in order, however reading and folding fall together."""

import asyncio
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.codec import encode
from events.subjects import subject_of
from service.application.event_feed import KEPT_RECORDS, EventFeed, FeedEnded
from service.ports import Entry
from tests.kit.event_site import Fold
from tests.kit.histories import records
from tests.kit.memory_ledger import MemoryLedger

RECORDS = list(islice(records(6 * KEPT_RECORDS, 20), 6 * KEPT_RECORDS))
ENTRIES = [Entry(subject_of(one), one.command_id, encode(one)) for one in RECORDS]

BURSTS = st.lists(st.integers(1, KEPT_RECORDS), min_size=1, max_size=5)
STARTS = st.lists(st.floats(0, 1), min_size=1, max_size=4)


async def read_on(feed: EventFeed, seq: int, until: int, pauses: list[int]) -> list[int]:
    """The sequences that a reader gets, one that stands still now and then."""
    found: list[int] = []
    for turn in range(10_000):
        if (found[-1] if found else seq) >= until:
            break
        given_out = await feed.after(found[-1] if found else seq, 5)
        assert all(fed.record == RECORDS[fed.seq - 1] for fed in given_out)
        found += [fed.seq for fed in given_out]
        for _ in range(pauses[turn % len(pauses)]):
            await asyncio.sleep(0)
    return found


async def play(before: int, bursts: list[int], starts: list[float], pauses: list[int]) -> None:
    ledger, projector = MemoryLedger(), Fold()
    await ledger.append(ENTRIES[: before + sum(bursts)], 0)
    for record in RECORDS[:before]:
        projector.fold(record)
    feed = EventFeed(ledger, projector)
    until = before + sum(bursts)
    readers = []
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for start in starts:
            seq = round(start * before)
            readers.append((seq, group.create_task(read_on(feed, seq, until, pauses))))
        for turn, burst in enumerate(bursts):
            for _ in range(pauses[turn % len(pauses)]):
                await asyncio.sleep(0)
            for record in RECORDS[projector.folded_seq : projector.folded_seq + burst]:
                projector.fold(record)
            await asyncio.sleep(0)
    for seq, reader in readers:
        assert reader.result() == list(range(seq + 1, until + 1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, KEPT_RECORDS), BURSTS, STARTS, st.lists(st.integers(0, 30), min_size=1))
def test_nothing_is_lost_and_nothing_comes_twice(
    before: int, bursts: list[int], starts: list[float], pauses: list[int]
) -> None:
    asyncio.run(play(before, bursts, starts, pauses))


async def test_only_what_is_folded_is_given_out() -> None:
    ledger, projector = MemoryLedger(), Fold()
    await ledger.append(ENTRIES[:10], 0)
    feed = EventFeed(ledger, projector)
    assert await feed.after(0, 0) == ()
    for record in RECORDS[:4]:
        projector.fold(record)
    assert [fed.seq for fed in await feed.after(0, 0)] == [1, 2, 3, 4]
    assert await feed.after(4, 0) == ()


async def test_memory_does_not_grow_with_what_is_folded() -> None:
    projector = Fold()
    feed = EventFeed(MemoryLedger(), projector)
    for record in RECORDS:
        projector.fold(record)
    assert len(feed._newest) < 2 * KEPT_RECORDS


async def test_who_waits_hears_the_end() -> None:
    projector = Fold()
    feed = EventFeed(MemoryLedger(), projector)
    waiting = asyncio.create_task(feed.after(0, 60))
    await asyncio.sleep(0)
    feed.end("stopping")
    for ended in (waiting, feed.after(0, 60)):
        with pytest.raises(FeedEnded, match="stopping"):
            await ended


async def test_a_fold_that_stopped_is_the_end() -> None:
    projector = Fold()
    feed = EventFeed(MemoryLedger(), projector)
    projector.failure = "record 1 cannot be read"
    with pytest.raises(FeedEnded, match="record 1 cannot be read"):
        await feed.after(0, 0)
