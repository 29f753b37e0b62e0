"""(f) How long a data disk takes to become twice as big, and as it was again, while it is used.

The disk is sparse and holds some data. Where the service cannot resize it mounted (an ext4 never
shrinks mounted, and grows only with CAP_SYS_RESOURCE), it stops the container and starts it again,
which is part of the time.
"""

from time import perf_counter

from tests.bench.disk.stage import IMAGE, Stage
from tests.bench.figures import Figure

LETTER = "f"
TITLE = "resize of a data disk of 100 GB to 200 GB and back, by the API"

SECONDS_GOAL = 1.0
MIB = 1 << 20


def measure(stages: list[Stage], rounds: int) -> list[Figure]:
    """Up and down in turns, on one disk; all data disks lie on the service's own file system."""
    stage = stages[0]
    size_gb = stage.amounts.data_disk_gb
    name = stage.run_set(IMAGE, dataDisk={"size": f"{size_gb}GB"})
    count = max(1, stage.amounts.data_bytes // MIB)
    stage.service.shell(name, f"dd if=/dev/urandom of=/root/foo-tmp/data bs=1M count={count}")
    up: list[float] = []
    down: list[float] = []
    for _ in range(rounds):
        up.append(_resize_s(stage, name, 2 * size_gb))
        down.append(_resize_s(stage, name, size_gb))
    stage.delete_set(name)
    stage.service.call("DELETE", f"/volumes/{name}").ok()
    return [
        Figure(LETTER, "to twice the size", up, "s", goal_max=SECONDS_GOAL),
        Figure(LETTER, "back again", down, "s", goal_max=SECONDS_GOAL),
    ]


def _resize_s(stage: Stage, volume: str, size_gb: int) -> float:
    begun = perf_counter()
    stage.service.call("PATCH", f"/volumes/{volume}/size", {"size": f"{size_gb}GB"}).ok()
    return perf_counter() - begun
