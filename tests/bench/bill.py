"""(f) A month's bill over a long log, from the rows: beside reading them alone, and its memory.

The rows are those that a rebuild of the log makes; all of it lies in one month. What is measured
is what `GET /api/v1/usage` does, by tenant and model, with prices; to read alone is to read and
decode the same pages, and to do nothing with them.
"""

from pathlib import Path

import msgspec

from tests.bench.bill_steps import Step
from tests.bench.figures import Figure, ratio
from tests.bench.processes import run_child

LETTER = "f"
RECORDS = 1_000_000
NAMES = 2_000
TITLE = f"a month's bill over {RECORDS:,} records about {NAMES:,} names"

MEMORY_MIB_GOAL = 64.0


def measure(folder: Path, rounds: int) -> list[Figure]:
    """The bill and reading alone in turns, each time in a process of its own."""
    path = folder / "bill.db"
    run_child("bill_steps", "make", path, RECORDS, NAMES)
    steps: dict[str, list[Step]] = {"bill": [], "read": []}
    for _ in range(rounds):
        for step, done in steps.items():
            done.append(msgspec.convert(run_child("bill_steps", step, path), Step))
    bill, read = (
        Figure(LETTER, what, [one.seconds for one in steps[step]], "s")
        for step, what in (("bill", "the bill"), ("read", "reading alone"))
    )
    intervals = [float(one.intervals) for one in steps["bill"]]
    grown = [one.grown_mib for one in steps["bill"]]
    return [
        bill,
        read,
        ratio(LETTER, "bill / reading alone", bill, read),
        Figure(LETTER, "intervals in it", intervals, ""),
        Figure(LETTER, "resident memory, more at the peak", grown, "MiB", goal_max=MEMORY_MIB_GOAL),
        Figure(LETTER, "resident memory, peak", [one.peak_mib for one in steps["bill"]], "MiB"),
    ]
