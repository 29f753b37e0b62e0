"""An instant is the greatest prefix of the ledger whose records are all at or before it."""

import random
from collections.abc import Callable, Sequence

import pytest

from projections.instants import BLOCK_RECORDS, Instants
from projections.tables import Batch
from tests.kit.inline_store import InlineStore


async def with_times(store: InlineStore, times: Sequence[int]) -> None:
    """Rows of history with these times, and nothing else."""
    rows = [(seq, "node", "n1", at_us, "v", "t", "", "") for seq, at_us in enumerate(times, 1)]
    await store.apply(Batch(0, len(rows), {}, {}, [*rows]))


def prefix(times: Sequence[int], at_us: int) -> int:
    """The same by looking at every record."""
    return next((n for n, time_us in enumerate(times) if time_us > at_us), len(times))


def steady(count: int) -> list[int]:
    return [seq * 10 for seq in range(1, count + 1)]


def shaken(count: int) -> list[int]:
    """Times that go forward, with records that overtake each other."""
    chance = random.Random(1)
    return [time_us + chance.randrange(500) for time_us in steady(count)]


def set_back(count: int) -> list[int]:
    """A clock that is set back in the middle, and ends where it had been then."""
    half = steady(count // 2)
    return half + half + [half[-1] + 1] * (count % 2)


@pytest.mark.parametrize("times_of", [steady, shaken, set_back])
@pytest.mark.parametrize("count", [0, 1, 4 * BLOCK_RECORDS, 4 * BLOCK_RECORDS + 701])
async def test_every_instant(count: int, times_of: Callable[[int], list[int]]) -> None:
    times = times_of(count) if count > 1 else steady(count)
    chance = random.Random(2)
    latest = max(times, default=0)
    asked = [chance.randrange(latest + 600) for _ in range(120)]
    asked += [0, latest, *(chance.choice(times) for _ in range(30) if times)]
    async with InlineStore() as store:
        await with_times(store, times)
        instants = Instants(store)
        for at_us in asked:
            assert await instants.seq_at(at_us, count) == prefix(times, at_us), at_us


async def test_what_was_seen_of_it_holds_as_the_ledger_grows() -> None:
    times = shaken(3 * BLOCK_RECORDS)
    async with InlineStore() as store:
        await with_times(store, times)
        instants = Instants(store)
        for last in (5, BLOCK_RECORDS - 1, BLOCK_RECORDS, 2 * BLOCK_RECORDS + 9, len(times)):
            for at_us in (0, times[3], times[last - 1], times[last // 2], 1 << 60):
                expected = prefix(times[:last], at_us)
                assert await instants.seq_at(at_us, last) == expected, (last, at_us)
