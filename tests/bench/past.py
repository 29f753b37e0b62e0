"""(f) How long a look at the past takes, at random points of a long ledger; what it costs to keep.

A look is a state of then and four questions about it: the list, one name's versions, the ports
and the newest operations. First: by a process that has looked at nothing yet. Warm: what comes
after, each at another point. Nothing is asked twice.
"""

from pathlib import Path
from statistics import median

import msgspec

from tests.bench.figures import Figure
from tests.bench.ledgers import fill
from tests.bench.past_looks import Looks
from tests.bench.processes import run_child

LETTER = "g"
RECORDS = 1_000_000
NAMES = 2_000
TITLE = f"the past: any point of {RECORDS:,} records about {NAMES:,} names"

MAKING_TIMEOUT_S = 600.0

FIRST_S_GOAL = 2.0
WARM_MS_GOAL = 250.0


def measure(folder: Path, rounds: int) -> list[Figure]:
    """The ledger and its checkpoints are made once; each round is a process of its own."""
    data_dir = folder / "past"
    fill(data_dir, RECORDS, NAMES)
    run_child("rebuild_steps", "whole", data_dir, timeout_s=MAKING_TIMEOUT_S)
    made = run_child("past_looks", "made", data_dir, timeout_s=MAKING_TIMEOUT_S)
    looks = [
        msgspec.convert(run_child("past_looks", "looks", data_dir, number), Looks)
        for number in range(rounds)
    ]
    ledger_mib = _size_mib(data_dir / "ledger")
    kept_mib = looks[0].checkpoints_bytes / (1 << 20)
    return [
        Figure(LETTER, "first look", [one.first_s for one in looks], "s", goal_max=FIRST_S_GOAL),
        Figure(LETTER, "warm, median", [median(one.warm_ms) for one in looks], "ms"),
        Figure(
            LETTER,
            "warm, longest",
            [max(one.warm_ms) for one in looks],
            "ms",
            goal_max=WARM_MS_GOAL,
        ),
        Figure(LETTER, "an instant, median", [median(one.instant_ms) for one in looks], "ms"),
        Figure(LETTER, "changes, median", [median(one.changes_ms) for one in looks], "ms"),
        Figure(LETTER, "checkpoints made in the background", [made], "s"),
        Figure(LETTER, "memory before", [one.before_mib for one in looks], "MiB"),
        Figure(LETTER, "memory after", [one.after_mib for one in looks], "MiB"),
        Figure(LETTER, "checkpoints on disk", [kept_mib], "MiB"),
        Figure(LETTER, "checkpoints / ledger", [kept_mib / ledger_mib], "times"),
    ]


def _size_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / (1 << 20)
