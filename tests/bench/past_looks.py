"""Looks at the past of a ledger whose rows and checkpoints are there: run as a module, with a data
directory and a number that makes the choice of points. Prints what they took as JSON."""

import asyncio
import os
import random
import sys
from collections.abc import Awaitable
from pathlib import Path
from time import perf_counter

import msgspec
import uvloop
from msgspec import Struct

from events.codec import show_time
from projections.checkpoints import Checkpoints
from projections.store import ReadStore
from service.adapters.system import SystemClock
from service.application.past import Past
from service.bootstrap.ledger import open_ledger
from service.bootstrap.maintaining import READ_STORE
from service.bootstrap.past import CHECKPOINTS, timeline_in
from tests.bench.ledgers import settings_for
from tests.kit.histories import BEGIN_US

LOOKS = 60
"""Warm ones in a round."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Looks(Struct, frozen=True):
    """What looks at random points took, and what they left in memory."""

    first_s: float
    warm_ms: list[float]
    instant_ms: list[float]
    """To find the record of an instant."""
    changes_ms: list[float]
    """Between two points, neither of them looked at before."""
    before_mib: float
    after_mib: float
    checkpoints_bytes: int


class _Rows:
    """All rows are there."""

    def __init__(self, stored_seq: int) -> None:
        self.stored_seq = stored_seq


async def _look(past: Past, seq: int, name: str) -> None:
    reads = await past.reads_at(seq)
    await reads.replica_sets()
    await reads.revisions(name)
    await reads.ports()
    await reads.operations(100)


async def looks(data_dir: Path, number: int) -> Looks:
    """Measure with one choice of points."""
    settings, chance = settings_for(data_dir), random.Random(number)
    async with open_ledger(settings) as opened, ReadStore(data_dir / READ_STORE) as store:
        last = await store.position()
        timeline = timeline_in(data_dir, opened.ledger.read)
        past = Past(timeline, store, _Rows(last), SystemClock())
        points = iter(chance.sample(range(1, last + 1), 2 * LOOKS))
        before_mib = _resident_mib()
        first_s = await _timed_s(_look(past, next(points), "set1"))
        warm = [1e3 * await _timed_s(_look(past, next(points), "set1")) for _ in range(LOOKS)]
        instants = [chance.randrange(BEGIN_US, BEGIN_US + last * 1_000) for _ in range(20)]
        found = [1e3 * await _timed_s(past.point(show_time(at_us))) for at_us in instants]
        pairs = [sorted((next(points), next(points))) for _ in range(10)]
        changes = [1e3 * await _timed_s(past.changes(*pair)) for pair in pairs]
        kept = Checkpoints(data_dir / CHECKPOINTS).size_bytes()
        return Looks(first_s, warm, found, changes, before_mib, _resident_mib(), kept)


async def made(data_dir: Path) -> float:
    """Make the checkpoints that are missing, as a service does; the seconds that takes."""
    async with open_ledger(settings_for(data_dir)) as opened:
        last = await opened.ledger.last_seq()
        timeline = timeline_in(data_dir, opened.ledger.read)
        async with asyncio.TaskGroup() as at_work:
            running = at_work.create_task(timeline.run(lambda: last))
            seconds = await _timed_s(timeline.whole())
            running.cancel()
        return seconds


async def _timed_s(work: Awaitable[object]) -> float:
    begun = perf_counter()
    await work
    return perf_counter() - begun


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE_BYTES / (1 << 20)


async def _asked(what: str, data_dir: Path, *numbers: int) -> object:
    return await made(data_dir) if what == "made" else await looks(data_dir, *numbers)


if __name__ == "__main__":
    measured = uvloop.run(_asked(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:])))
    sys.stdout.buffer.write(msgspec.json.encode(measured))
