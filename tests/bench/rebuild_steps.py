"""A rebuild as a whole, and its steps one at a time: run as a module, with a data directory.

Prints records per second as JSON. Whatever a step needs is made before its time begins.
"""

import gc
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import perf_counter

import msgspec
import uvloop
from msgspec import Struct

from events.codec import decode
from events.record import Record
from projections.evolve import evolve
from projections.projector import BATCH_RECORDS_MAX
from projections.state import State
from projections.store import ReadStore
from projections.tables import Batch, Row, history_row, take_batch
from projections.usage import Usage
from projections.usage_folds import meter
from service.bootstrap import rebuild
from service.bootstrap.ledger import open_ledger
from tests.bench.ledgers import settings_for


class Alone(Struct, frozen=True):
    """Records per second of each step when nothing else is done."""

    read: float
    decode: float
    evolve: float
    meter: float
    write: float


async def whole(data_dir: Path) -> float:
    """The code behind `gpuledger rebuild`, timed as it times itself: nats-server runs by then."""
    summary = await rebuild(settings_for(data_dir))
    return summary.records / summary.seconds


async def alone(data_dir: Path) -> Alone:
    """One step after the other; each begins with what the one before has made."""
    async with open_ledger(settings_for(data_dir)) as opened:
        until = await opened.ledger.last_seq()
        timed = _Timed(until)
        entries = [some async for some in opened.ledger.read(0, until)]
        read = timed.rate()
    bodies = [entry.body for some in entries for entry in some]
    timed = _Timed(until)
    for body in bodies:
        decode(body)
    decoded = timed.rate()
    records = [decode(body) for body in bodies]
    timed = _Timed(until)
    _evolve(records)
    evolved = timed.rate()
    timed = _Timed(until)
    _evolve(records, metered=True)
    # Beside the state's, so what it takes alone is the difference.
    metered = 1 / max(1 / timed.rate() - 1 / evolved, 1e-9)
    with tempfile.TemporaryDirectory(dir=data_dir) as folder:
        written = await _write(Path(folder), _batches(records))
    return Alone(read, decoded, evolved, metered, written)


class _Timed:
    """A clock that is started when it is made."""

    def __init__(self, records: int) -> None:
        # What the steps before have left is none of this one's garbage to look through.
        gc.collect()
        gc.freeze()
        self._records = records
        self._begun = perf_counter()

    def rate(self) -> float:
        """Records per second since then."""
        return self._records / (perf_counter() - self._begun)


def _evolve(records: list[Record], metered: bool = False) -> None:
    state, usage = State(), Usage()
    for seq, record in enumerate(records, 1):
        evolve(state, seq, record)
        if metered:
            meter(usage, state, seq, record)
        if seq % BATCH_RECORDS_MAX == 0:
            state.forget_touched()
            usage.take()


def _batches(records: list[Record]) -> list[Batch]:
    """As large as those of a rebuild can get."""
    state, usage = State(), Usage()
    batches: list[Batch] = []
    history: list[Row] = []
    after = 0
    for seq, record in enumerate(records, 1):
        evolve(state, seq, record)
        meter(usage, state, seq, record)
        history.append(history_row(seq, record))
        if len(history) == BATCH_RECORDS_MAX or seq == len(records):
            batches.append(take_batch(state, usage, after, history))
            after, history = seq, []
    return batches


async def _write(folder: Path, batches: list[Batch]) -> float:
    """Into a file like that of a rebuild, with the indexes at the end."""
    async with ReadStore(folder / "read.db") as store:
        timed = _Timed(batches[-1].seq)
        async with store.fast_rebuild():
            for batch in batches:
                await store.apply(batch)
        return timed.rate()


STEPS: dict[str, Callable[[Path], Coroutine[None, None, object]]] = {
    "whole": whole,
    "alone": alone,
}


if __name__ == "__main__":
    measured = uvloop.run(STEPS[sys.argv[1]](Path(sys.argv[2])))
    sys.stdout.buffer.write(msgspec.json.encode(measured))
