"""`make chaos`: load on the service while it, its ledger and Docker are killed again and again.

    make chaos ARGS="--kills 100 --seed 7 --clients 6"

It needs root and Docker's programs; the engine is its own. Exit code 1 when anything was lost, lent
twice or left behind: then the folder stays, and the seed plays the same plan again.
"""

import argparse
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.chaos.place import place
from tests.chaos.play import Plan, play
from tests.chaos.scene import Options

KILLS = 100
CLIENTS = 6
SEEDS = 1_000_000


def main() -> None:
    """Run it and print the report; nothing is left behind when all is well, also on Ctrl-C."""
    given = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    plan = Plan(given.seed, given.kills, given.clients, Options(given.system_disk))
    print(f"seed {plan.seed}", flush=True)
    try:
        with place(given.dir, plan.seed) as taken:
            try:
                report = play(plan, taken, _progress())
            except KeyboardInterrupt:
                taken.keep = False
                raise
    except KeyboardInterrupt:
        sys.exit(130)
    print("\n".join(report.lines()))
    if not report.ok:
        print(f'\nkept: {taken.folder}\nagain: make chaos ARGS="--seed {plan.seed}"')
        sys.exit(1)


def _progress() -> Callable[[str], None]:
    """One line that changes on a terminal, and otherwise nothing."""

    def say(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    return say


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The first one ends the run; cleaning up after it is not interrupted by another."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make chaos", description="Kill everything while clients send commands."
    )
    parser.add_argument("--kills", type=int, default=KILLS, help=f"at least so many ({KILLS})")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(SEEDS), help="play this plan (a new one)"
    )
    parser.add_argument("--clients", type=int, default=CLIENTS, help=f"({CLIENTS})")
    parser.add_argument(
        "--system-disk", choices=("auto", "upper", "commit"), default="auto", help="(auto)"
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where to make the folder for the service's data (the temporary folder)",
    )
    given = parser.parse_args()
    if given.kills < 1 or given.clients < 1:
        parser.error("--kills and --clients must be at least 1")
    if os.geteuid() != 0:
        parser.error("it needs root, for an engine and loop devices of its own")
    return given


if __name__ == "__main__":
    main()
