"""`make bench-disk`: what carrying a system disk costs, beside two other ways to do it.

    make bench-disk ARGS="--only a,b --rounds 3 --json figures.json"
    make bench-disk ARGS="--scale 0.1"                                # a quick try

It needs root and Docker's programs, and makes an engine of its own on each of two file systems.
What is compared is measured in turns within a run: trust the ratios, and the absolute figures only
on a quiet machine, where nothing else takes or gives back disk space.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from types import FrameType, ModuleType

import msgspec
from rich.console import Console

from tests.bench.disk import (
    downtime,
    image_size,
    many_revisions,
    patches,
    resizes,
    rollbacks,
)
from tests.bench.disk.amounts import Amounts
from tests.bench.disk.stage import KINDS, staged
from tests.bench.disk.workplace import workplace
from tests.bench.figures import Figure, print_question
from tests.kit.dockerd import dockerd_version

QUESTIONS: dict[str, ModuleType] = {
    module.LETTER: module
    for module in (patches, downtime, image_size, many_revisions, rollbacks, resizes)
}
ROUNDS = 3
WIDTH = 100
SCALE_MIN = 0.01
FREE_BYTES_MIN = 36_000_000_000
"""At full size: both engines' image, the largest diff in two containers and an archive."""


def main() -> None:
    """Measure and print the table; nothing is left behind, also on Ctrl-C."""
    given = _arguments()
    console = Console(width=WIDTH, highlight=False)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    begun = perf_counter()
    try:
        figures = _measure(given, console)
    except KeyboardInterrupt:
        sys.exit(130)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(_plain(figures))))
    missed = [figure.what for figure in figures if figure.met is False]
    console.print(f"{perf_counter() - begun:.0f} s; goals missed: {', '.join(missed) or 'none'}")


def _measure(given: argparse.Namespace, console: Console) -> list[Figure]:
    amounts = Amounts.at(given.scale)
    figures: list[Figure] = []
    with workplace(given.dir) as place, ExitStack() as held:
        _require_room(place, given.scale)
        stages = [held.enter_context(staged(kind, place, amounts)) for kind in KINDS]
        console.print(_machine(given.rounds, given.scale), soft_wrap=True)
        console.print()
        for letter in given.only:
            question = QUESTIONS[letter]
            answers: list[Figure] = question.measure(stages, given.rounds)
            print_question(console, letter, question.TITLE, answers)
            figures += answers
    return figures


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first one ends the run; cleaning up after it is not interrupted by another."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-disk", description="Measure what carrying a system disk costs."
    )
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
        default=Path(tempfile.gettempdir()),
        help="a folder on ext4, with 36 GB free, for everything that is made",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help=f"shrink image, diffs and disks, from {SCALE_MIN} to 1: for a quick try only",
    )
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not SCALE_MIN <= given.scale <= 1:
        parser.error(f"--scale must be from {SCALE_MIN} to 1")
    if os.geteuid() != 0:
        parser.error("it needs root, for engines and file systems of its own")
    return given


def _letters(text: str) -> list[str]:
    letters = [letter.strip() for letter in text.split(",")]
    if unknown := [letter for letter in letters if letter not in QUESTIONS]:
        raise argparse.ArgumentTypeError(f"there is no question {', '.join(unknown)}")
    return letters


def _require_room(place: Path, scale: float) -> None:
    kind = subprocess.run(
        ["findmnt", "--noheadings", "--output", "FSTYPE", "--target", place],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    if kind != "ext4":
        sys.exit(f"{place} is on {kind}: name a folder on ext4 with --dir")
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < FREE_BYTES_MIN * scale:
        sys.exit(f"{place} has {free_bytes / 1e9:.0f} GB free: name another folder with --dir")


def _machine(rounds: int, scale: float) -> str:
    """One line on what was measured on."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return (
        f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {os.uname().release},"
        f" Docker {'.'.join(map(str, dockerd_version()))}, load {os.getloadavg()[0]:.1f};"
        f" medians of {rounds} round{'s' if rounds > 1 else ''}"
        f"{'' if scale == 1 else f'; SCALE {scale:g}, at which the goals mean nothing'}"
    )


def _plain(figures: list[Figure]) -> list[dict[str, object]]:
    keys = ("question", "what", "value", "unit", "rounds", "goal", "met")
    return [{key: getattr(figure, key) for key in keys} for figure in figures]


if __name__ == "__main__":
    main()
