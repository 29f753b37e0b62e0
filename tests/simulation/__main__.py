"""`make simulate`: many seeds on all cores, what went wrong, and how often everything was met.

    make simulate SEEDS=20000            # seeds 0 to 19,999
    make simulate SEED=17                # this one only, with its traceback
    make simulate ARGS="--first 20000"   # others

Exit code 1 when a seed failed, or an event is left that no seed led to.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context

from service.domain.rejections import Reason
from tests.simulation.play import EVENTS, Played, play, play_all

SEEDS = 2000
SLICE = 20
"""So many seeds are handed to a process at a time."""

EXPECTED = (
    *sorted(EVENTS),
    *(f"refused: {reason}" for reason in Reason),
)


def main() -> None:
    """Play them, and print what was met."""
    given = _arguments()
    if given.seed is not None:
        met = play(given.seed)
        print("\n".join(_table(met, ())))
        return
    begun_s = time.perf_counter()
    met, failures = Counter[str](), list[tuple[int, str]]()
    for played in _all(range(given.first, given.first + given.seeds), given.processes):
        met += played.met
        failures += played.failures
        for seed, text in played.failures:
            print(f"seed {seed} failed: {text}\n    make simulate SEED={seed}", flush=True)
    seconds = time.perf_counter() - begun_s
    print("\n".join(_table(met, EXPECTED)))
    print(
        f"{given.seeds:,} seeds from {given.first} in {seconds:.0f} s,"
        f" {given.seeds / seconds:.0f} a second on {given.processes} processes:"
        f" {len(failures)} failed"
    )
    never = [what for what in EXPECTED if what in EVENTS and not met[what]]
    sys.exit(1 if failures or never else 0)


def _all(seeds: range, processes: int) -> Iterator[Played]:
    slices = [seeds[first : first + SLICE] for first in range(0, len(seeds), SLICE)]
    # Fresh ones: a fork takes over whatever this process has open.
    with get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(play_all, slices)


def _table(met: Counter[str], expected: tuple[str, ...]) -> Iterator[str]:
    """How often everything was met, by its kind; never, too."""
    kind_before = ""
    for what in sorted({*met, *expected}):
        kind, _, name = what.rpartition(": ")
        if kind != kind_before:
            yield kind or "other"
            kind_before = kind
        yield f"{met[what]:>10,}  {name}" + ("  NEVER" if not met[what] else "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make simulate", description="Play many histories on virtual time."
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many ({SEEDS})")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--seed", type=int, default=None, help="this one only")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="(one for each core)"
    )
    given = parser.parse_args()
    if given.seeds < 1 or given.processes < 1:
        parser.error("--seeds and --processes must be at least 1")
    return given


if __name__ == "__main__":
    main()
