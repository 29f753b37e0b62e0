"""(b) How fast a read store is made anew from a long ledger, and what each step takes alone."""

from pathlib import Path

import msgspec

from tests.bench.figures import Figure
from tests.bench.ledgers import fill
from tests.bench.processes import run_child
from tests.bench.rebuild_steps import Alone

LETTER = "b"
RECORDS = 200_000
NAMES = 2_000
TITLE = f"`gpuledger rebuild` of {RECORDS:,} records about {NAMES:,} names, and its steps alone"

RATE_GOAL = 40_000.0



def measure(folder: Path, rounds: int) -> list[Figure]:
    """The whole and the steps in turns, each time in a process of its own."""
    data_dir = folder / "rebuild"
    fill(data_dir, RECORDS, NAMES)
    whole: list[float] = []
    alone: list[Alone] = []
    for _ in range(rounds):
        whole.append(run_child("rebuild_steps", "whole", data_dir))
        alone.append(msgspec.convert(run_child("rebuild_steps", "alone", data_dir), Alone))
    steps = {
        "read alone": [step.read for step in alone],
        "decode alone": [step.decode for step in alone],
        "evolve alone": [step.evolve for step in alone],
        "usage alone": [step.meter for step in alone],
        "writes alone (rows, then indexes)": [step.write for step in alone],
    }
    return [
        Figure(LETTER, "rebuild, from end to end", whole, "records/s", goal_min=RATE_GOAL),
        *(Figure(LETTER, what, rates, "records/s") for what, rates in steps.items()),
    ]
