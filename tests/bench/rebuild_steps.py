"""The steps of a rebuild, one at a time: run as a module with a step and a data directory.

Prints records per second as JSON. Whatever a step needs is made before its time begins.
"""

import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

import uvloop

from events.codec import decode
from events.record import Record
from projections.evolve import evolve
from projections.projector import BATCH_RECORDS_MAX
from projections.state import State
from projections.store import ReadStore
from projections.tables import Batch, Row, history_row, take_batch
from service.bootstrap import rebuild
from service.bootstrap.ledger import open_ledger
from service.ports import StoredEntry
from tests.bench.ledgers import settings_for


async def _rebuild(data_dir: Path) -> float:
    """The code behind `gpuledger rebuild`, timed as it times itself: without nats-server's start."""
    summary = await rebuild(settings_for(data_dir))
    return summary.records / summary.seconds


async def _read(data_dir: Path) -> float:
    async with open_ledger(settings_for(data_dir)) as opened:
        until = await opened.ledger.last_seq()
        count = 0
        begun = perf_counter()
        async for entries in opened.ledger.read(0, until):
            count += len(entries)
        return count / (perf_counter() - begun)


async def _decode(data_dir: Path) -> float:
    bodies = [entry.body for entry in await _all(data_dir)]
    begun = perf_counter()
    for body in bodies:
        decode(body)
    return len(bodies) / (perf_counter() - begun)


async def _evolve(data_dir: Path) -> float:
    records = await _records(data_dir)
    state = State()
    begun = perf_counter()
    for seq, record in enumerate(records, 1):
        evolve(state, seq, record)
        if seq % BATCH_RECORDS_MAX == 0:
            state.forget_touched()
    return len(records) / (perf_counter() - begun)


async def _write(data_dir: Path) -> float:
    """Batches as large as a rebuild's at most, into a file like that of a rebuild."""
    records = await _records(data_dir)
    batches = _batches(records)
    with tempfile.TemporaryDirectory(dir=data_dir) as folder:
        async with ReadStore(Path(folder) / "read.db") as store:
            begun = perf_counter()
            async with store.fast_rebuild():
                for batch in batches:
                    await store.apply(batch)
            return len(records) / (perf_counter() - begun)


def _batches(records: list[Record]) -> list[Batch]:
    state = State()
    batches: list[Batch] = []
    history: list[Row] = []
    after = 0
    for seq, record in enumerate(records, 1):
        evolve(state, seq, record)
        history.append(history_row(seq, record))
        if len(history) == BATCH_RECORDS_MAX or seq == len(records):
            batches.append(take_batch(state, after, history))
            after, history = seq, []
    return batches


async def _all(data_dir: Path) -> list[StoredEntry]:
    async with open_ledger(settings_for(data_dir)) as opened:
        until = await opened.ledger.last_seq()
        return [entry async for entries in opened.ledger.read(0, until) for entry in entries]


async def _records(data_dir: Path) -> list[Record]:
    return [decode(entry.body) for entry in await _all(data_dir)]


STEPS: dict[str, Callable[[Path], Awaitable[float]]] = {
    "rebuild": _rebuild,
    "read": _read,
    "decode": _decode,
    "evolve": _evolve,
    "write": _write,
}


async def _measure(step: str, data_dir: Path) -> float:
    return await STEPS[step](data_dir)


if __name__ == "__main__":
    json.dump(uvloop.run(_measure(sys.argv[1], Path(sys.argv[2]))), sys.stdout)
