"""(b) How fast a read store is made anew from a long ledger, and what each step takes alone."""

from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.ledgers import fill
from tests.bench.processes import run_child

LETTER = "b"
RECORDS = 200_000
NAMES = 2_000
TITLE = f"`gpuledger rebuild` of {RECORDS:,} records about {NAMES:,} names, and its steps alone"

RATE_GOAL = 40_000.0

STEPS = {
    "rebuild": "rebuild, from end to end",
    "read": "read alone",
    "decode": "decode alone",
    "evolve": "evolve alone",
    "write": "writes alone (rows, and indexes at the end)",
}


def measure(folder: Path, rounds: int) -> list[Figure]:
    """Every step in turn, each time in a process of its own."""
    data_dir = folder / "rebuild"
    fill(data_dir, RECORDS, NAMES)
    rates: dict[str, list[float]] = {step: [] for step in STEPS}
    for _ in range(rounds):
        for step in STEPS:
            rates[step].append(run_child("rebuild_steps", step, data_dir))
    goals = {"rebuild": RATE_GOAL}
    return [
        Figure(LETTER, what, rates[step], "records/s", goal_min=goals.get(step))
        for step, what in STEPS.items()
    ]
