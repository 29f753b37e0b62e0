"""(b) How long a published port gives no answer during a patch, beyond a plain stop and start.

The floor is measured each time on the very container that is patched next, in the same way. The
two copies are left out: with them the port is another one afterwards, and the old container
answers to the end, only that what it is told meanwhile is lost.
"""

from tests.bench.disk.port_watch import PortWatch
from tests.bench.disk.stage import Stage
from tests.bench.disk.ways import WAYS, Patchable
from tests.bench.figures import Figure

LETTER = "b"
TITLE = "downtime seen by a client of a published port"

COMPARED = ("commit", "gpuledger")
GOALS_MAX_S = {("ext4", "L"): 0.3, ("xfs", "S"): 0.1, ("xfs", "M"): 0.1, ("xfs", "L"): 0.1}
"""Of gpuledger, beyond the floor."""

Key = tuple[str, str, str]
"""File system, diff, way."""


def measure(stages: list[Stage], rounds: int) -> list[Figure]:
    """Diff by diff and file system by file system, the two ways in turns."""
    plain: dict[str, list[float]] = {stage.kind: [] for stage in stages}
    excess: dict[Key, list[float]] = {}
    for _ in range(rounds):
        for stage in stages:
            for letter, diff in stage.amounts.diffs.items():
                for way in COMPARED:
                    with WAYS[way](stage, diff) as patchable:
                        floor_s = _restart_s(stage, patchable)
                        took_s = _patch_s(stage, patchable)
                    plain[stage.kind].append(floor_s)
                    excess.setdefault((stage.kind, letter, way), []).append(took_s - floor_s)
    figures = []
    for stage in stages:
        kind = stage.kind
        figures.append(Figure(LETTER, f"{kind}, plain stop and start", plain[kind], "s"))
        for letter in stage.amounts.diffs:
            for way in COMPARED:
                goal = GOALS_MAX_S.get((kind, letter)) if way == "gpuledger" else None
                what = f"{kind} {letter}, {way}, beyond that"
                rounds_s = excess[kind, letter, way]
                figures.append(Figure(LETTER, what, rounds_s, "s", goal_max=goal))
    return figures


def _restart_s(stage: Stage, patchable: Patchable) -> float:
    """Downtime of a plain stop and start; the service hears nothing of it."""
    container = stage.docker.containers.get(patchable.container)
    with PortWatch(stage.host_port(patchable.container)) as watch:
        container.stop()
        container.start()
    return watch.downtime_s


def _patch_s(stage: Stage, patchable: Patchable) -> float:
    with PortWatch(stage.host_port(patchable.container)) as watch:
        patchable.patch()
    return watch.downtime_s
