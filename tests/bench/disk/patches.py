"""(a) How long a patch takes, and what it takes of the disk, in three ways."""

from time import perf_counter

from tests.bench.disk.stage import Stage
from tests.bench.disk.ways import WAYS
from tests.bench.figures import Figure, ratio

LETTER = "a"
TITLE = "one patch: from the request to its end, and what is less free afterwards"
MB = 1_000_000

GOALS_MIN = {("ext4", "M"): 12.0, ("xfs", "L"): 20.0}
"""Times as fast as the predecessor's two copies."""


def measure(stages: list[Stage], rounds: int) -> list[Figure]:
    """Diff by diff and file system by file system, the three ways in turns."""
    seconds: dict[tuple[str, str, str], list[float]] = {}
    new_mb: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(rounds):
        for stage in stages:
            for letter, diff in stage.amounts.diffs.items():
                for way, prepare in WAYS.items():
                    with prepare(stage, diff) as patchable:
                        free_bytes = stage.free_bytes()
                        begun = perf_counter()
                        patchable.patch()
                        took_s = perf_counter() - begun
                        key = stage.kind, letter, way
                        seconds.setdefault(key, []).append(took_s)
                        taken = (free_bytes - stage.free_bytes()) / MB
                        new_mb.setdefault(key, []).append(taken)
    figures = []
    for stage in stages:
        for letter in stage.amounts.diffs:
            figures += _figures(stage.kind, letter, seconds, new_mb)
    return figures


def _figures(
    kind: str,
    letter: str,
    seconds: dict[tuple[str, str, str], list[float]],
    new_mb: dict[tuple[str, str, str], list[float]],
) -> list[Figure]:
    took = {
        way: Figure(LETTER, f"{kind} {letter}, {way}", seconds[kind, letter, way], "s")
        for way in WAYS
    }
    taken = [
        Figure(LETTER, f"{kind} {letter}, {way}, new on disk", new_mb[kind, letter, way], "MB")
        for way in WAYS
    ]
    ours = took["gpuledger"]
    return [
        *took.values(),
        ratio(
            *(LETTER, f"{kind} {letter}, two copies / gpuledger", took["two copies"], ours),
            goal_min=GOALS_MIN.get((kind, letter)),
        ),
        ratio(LETTER, f"{kind} {letter}, commit / gpuledger", took["commit"], ours),
        *taken,
    ]
