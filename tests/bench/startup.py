"""(c) How long a start takes, from the process to the first answer, with a short and a long log.

The same names in both. The rows are there already, as after any orderly stop or crash: a start
loads the state from them and folds what came after. No Docker, which is not what is measured.
"""

from pathlib import Path

from tests.bench.figures import Figure, ratio
from tests.bench.ledgers import FLAGS, fill, no_docker
from tests.bench.processes import REAL_SERVICE, ServiceChild

LETTER = "c"
NAMES = 150
LENGTHS = (1_000, 200_000)
TITLE = f"start-up of `gpuledger serve`, {NAMES} names, from process start to serving"

RATIO_GOAL = 2.0
SECONDS_GOAL = 2.0


def measure(folder: Path, rounds: int) -> list[Figure]:
    """The short and the long one in turns; the first start of each makes the rows, untimed."""
    data_dirs = {count: folder / f"startup-{count}" for count in LENGTHS}
    for count, data_dir in data_dirs.items():
        fill(data_dir, count, NAMES)
        _start_s(data_dir)
    seconds: dict[int, list[float]] = {count: [] for count in LENGTHS}
    for _ in range(rounds):
        for count, data_dir in data_dirs.items():
            seconds[count].append(_start_s(data_dir))
    short, long = (
        Figure(LETTER, f"with {count:,} records", seconds[count], "s", goal_max=SECONDS_GOAL)
        for count in LENGTHS
    )
    return [short, long, ratio(LETTER, "long / short", long, short, goal_max=RATIO_GOAL)]


def _start_s(data_dir: Path) -> float:
    with ServiceChild(REAL_SERVICE, data_dir, *FLAGS, "--docker", no_docker()) as service:
        return service.start_s
