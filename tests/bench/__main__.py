"""`make bench`: six questions, each answered with figures from several rounds of one run.

    make bench ARGS="--only a,c --rounds 3 --json figures.json"

What is compared is measured in turns within a run, so that a machine that is busy with something
else spoils both alike: trust the ratios, and the absolute figures only on a quiet machine.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from types import ModuleType

import msgspec
from rich.console import Console

from tests.bench import (
    bill,
    commands,
    decisions,
    fan_out,
    memory,
    past,
    rebuild,
    startup,
    verify,
)
from tests.bench.figures import Figure, print_question

MODULES = (commands, rebuild, startup, decisions, memory, bill, past, fan_out, verify)
QUESTIONS: dict[str, ModuleType] = {
    module.LETTER: module for module in MODULES
}
ROUNDS = 3
WIDTH = 100


def main() -> None:
    """Measure, print the table, and say by the exit code whether it could be measured."""
    given = _arguments()
    console = Console(width=WIDTH, highlight=False)
    begun = perf_counter()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="gpuledger-bench-", dir=given.dir) as folder:
        console.print(_machine(Path(folder), given.rounds), soft_wrap=True)
        console.print()
        for letter in given.only:
            question = QUESTIONS[letter]
            answers: list[Figure] = question.measure(Path(folder), given.rounds)
            print_question(console, letter, question.TITLE, answers)
            figures += answers
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(_plain(figures))))
    missed = [figure.what for figure in figures if figure.met is False]
    console.print(f"{perf_counter() - begun:.0f} s; goals missed: {', '.join(missed) or 'none'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure gpuledger.")
    parser.add_argument(
        "--only",
        type=_letters,
        default=list(QUESTIONS),
        metavar="a,b,…",
        help=f"only these of the questions {', '.join(QUESTIONS)}",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of each ({ROUNDS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--dir",
        type=Path,
        help="where to keep the ledgers meanwhile: a disk, as every append is synced to it",
    )
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def _letters(text: str) -> list[str]:
    letters = [letter.strip() for letter in text.split(",")]
    if unknown := [letter for letter in letters if letter not in QUESTIONS]:
        raise argparse.ArgumentTypeError(f"there is no question {', '.join(unknown)}")
    return letters


def _machine(folder: Path, rounds: int) -> str:
    """One line on what was measured on."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, Python {python},"
        f" fsync of 4 KiB {_fsync_us(folder):.0f} µs, load {os.getloadavg()[0]:.1f};"
        f" medians of {rounds} round{'s' if rounds > 1 else ''}"
    )


def _fsync_us(folder: Path) -> float:
    """What one small synced write takes here: half of what bounds an append."""
    times: list[float] = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            begun = perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(perf_counter() - begun)
    return sorted(times)[len(times) // 2] * 1_000_000


def _plain(figures: list[Figure]) -> list[dict[str, object]]:
    keys = ("question", "what", "value", "unit", "rounds", "goal", "met")
    return [{key: getattr(figure, key) for key in keys} for figure in figures]


if __name__ == "__main__":
    main()
