"""`make crashes`: the real service dies at each step of some commands, and starts again.

    make crashes ARGS="--task patch --task delete --system-disk commit --stride 3"

It needs root and Docker's programs; the engine is its own. Exit code 1 when anything is not as
the log says: then the folder stays.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.place import place
from tests.chaos.scene import Options
from tests.crashes.tasks import TASKS, Task
from tests.crashes.walk import Try, Walk, engine_with_images, scene_of, temporary_left

PORTS = (31_800, 31_849)
"""Below the kernel's range for outgoing connections, beside those that others lend."""


def main() -> None:
    """Walk through all tasks, and print a table."""
    given = _arguments()
    tries: dict[str, list[Try]] = {}
    faults: list[str] = []
    with place(given.dir, 0) as taken, engine_with_images() as engine:
        for way in ("auto", "commit") if given.system_disk == "both" else (given.system_disk,):
            for task in _wanted(given.task, way):
                title = f"{task.name}, {way}" if task.carries else task.name
                options = Options(way, PORTS)
                with scene_of(taken.folder / title.replace(", ", "-"), engine, options) as scene:
                    walk = Walk(scene)
                    points = [(task, point) for point in walk.count(task)[:: given.stride]]
                    found = tries.setdefault(title, [])
                    for one in walk.tries(points):
                        found.append(one)
                        faults += [f"{title}: {one.point}: {fault}" for fault in one.faults]
                        taken.keep = bool(faults)
                        _say(f"{title}: {len(found)} of {len(points)}, {len(faults)} faults")
                    faults += [f"{title}: {fault}" for fault in temporary_left(scene)]
                    taken.keep = bool(faults)
    _say("")
    print("\n".join([*_table(tries), *faults]))
    if faults:
        print(f"\nkept: {taken.folder}")
        sys.exit(1)


def _wanted(names: Sequence[str], way: str) -> Iterator[Task]:
    """By commit only what is done in another way then."""
    for task in TASKS:
        if (not names or task.name in names) and (way == "auto" or task.carries):
            yield task


def _table(tries: dict[str, list[Try]]) -> Iterator[str]:
    """A line for each task, and one for all."""
    yield "command            points   not reached   converged   p50       p99       max"
    for title, found in (*tries.items(), ("all", [one for some in tries.values() for one in some])):
        died = [one for one in found if one.died]
        seconds = sorted(one.converged_s for one in died)
        if not seconds:
            continue
        p50, p99 = (seconds[int(share * (len(seconds) - 1))] for share in (0.5, 0.99))
        clean = sum(not one.faults for one in died)
        yield (
            f"{title:<18} {len(found):>6}   {len(found) - len(died):>11}   {clean:>9}"
            f"   {p50:.2f} s    {p99:.2f} s    {seconds[-1]:.2f} s"
        )


def _say(text: str) -> None:
    """One line that changes on a terminal, and otherwise nothing."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make crashes", description="Die at each step of some commands, and start again."
    )
    names = [task.name for task in TASKS]
    parser.add_argument(
        "--task", action="append", default=[], choices=names, help="only this (all); several times"
    )
    parser.add_argument(
        "--system-disk", choices=("auto", "commit", "both"), default="both", help="(both)"
    )
    parser.add_argument("--stride", type=int, default=1, help="every so many points (1)")
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="where to make the folder for the service's data (the temporary folder)",
    )
    given = parser.parse_args()
    if given.stride < 1:
        parser.error("--stride must be at least 1")
    if os.geteuid() != 0:
        parser.error("it needs root, for an engine and loop devices of its own")
    return given


if __name__ == "__main__":
    main()
