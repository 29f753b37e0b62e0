"""The steps of question (v), each run as a module with the folder of a backup.

Prints records per second as JSON. The log is copied before anything is timed, as the command does.
"""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import msgspec
import uvloop
from msgspec import Struct

from events.codec import record_of
from projections.evolve import evolve
from projections.state import State
from service.adapters.log_copy import LogCopy
from service.bootstrap import copy_backup
from service.cli.replay_walk import Walk, first_breach
from service.domain.alterations import Alterations
from service.domain.conditions import read_condition
from service.domain.replaying import Replay
from service.domain.what_if import OtherHistory, answered
from tests.kit.decided_log import decided_log
from tests.kit.replayed import lay_down


class Rates(Struct, frozen=True):
    """Records per second of each way to go through the log."""

    fold: float
    verify: float
    walk: float
    watch: float
    alter: float


def measure(folder: Path) -> Rates:
    """One way after the other, on the same copy."""
    with uvloop.run(copy_backup(folder, None)) as log:
        return Rates(*(_rate(log, way) for way in (_fold, _verify, _walk, _watch, _alter)))


def _rate(log: LogCopy, way: Callable[[LogCopy], None]) -> float:
    gc.collect()
    begun = perf_counter()
    way(log)
    return log.last_seq / (perf_counter() - begun)


def _fold(log: LogCopy) -> None:
    state = State()
    for seq, event in log.records():
        evolve(state, seq, record_of(event))
        state.forget_touched()


def _verify(log: LogCopy) -> None:
    replay = Replay()
    for seq, event in log.records():
        assert replay.step(seq, event).verdict == "same"


def _walk(log: LogCopy) -> None:
    visits = Walk(log, read_condition("gpus_free == 12345")).visits()
    assert not any(visit.stops for visit in visits)


def _watch(log: LogCopy) -> None:
    assert first_breach(log) is None


def _alter(log: LogCopy) -> None:
    history = OtherHistory(Alterations(placement="highest"), answered(log.records(), 0))
    assert sum(1 for seq, event in log.records() for _ in history.step(seq, event))


if __name__ == "__main__":
    step, where, *sizes = sys.argv[1:]
    if step == "make":
        count, names = map(int, sizes)
        lay_down(list(decided_log(count, names)), Path(where))
        measured: object = None
    else:
        measured = measure(Path(where))
    sys.stdout.buffer.write(msgspec.json.encode(measured))
