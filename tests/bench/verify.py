"""(v) How fast a log is verified: each record decided once more, beside folding it alone."""

from pathlib import Path

import msgspec

from tests.bench.figures import Figure, ratio
from tests.bench.processes import run_child
from tests.bench.verify_steps import Rates

LETTER = "v"
RECORDS = 100_000
NAMES = 200
TITLE = f"`gpuledger replay` of {RECORDS:,} records about {NAMES:,} names, and folding alone"

RATIO_GOAL = 4.0
"""To decide is as much as to read and fold, and to read what it is decided on a part of that."""


def measure(folder: Path, rounds: int) -> list[Figure]:
    """The log is made once, as a backup; each round is a process of its own."""
    backup = folder / "verify"
    run_child("verify_steps", "make", backup, RECORDS, NAMES)
    rates = [
        msgspec.convert(run_child("verify_steps", "measure", backup), Rates) for _ in range(rounds)
    ]
    fold = Figure(LETTER, "read and fold alone", [one.fold for one in rates], "records/s")
    verify = Figure(LETTER, "--verify", [one.verify for one in rates], "records/s")
    return [
        fold,
        verify,
        Figure(LETTER, "--break", [one.walk for one in rates], "records/s"),
        Figure(LETTER, "--until-breach", [one.watch for one in rates], "records/s"),
        Figure(LETTER, "--what-if, another placement", [one.alter for one in rates], "records/s"),
        ratio(LETTER, "fold / verify", fold, verify, goal_max=RATIO_GOAL),
    ]
