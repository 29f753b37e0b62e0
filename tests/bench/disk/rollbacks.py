"""(e) Whether going back costs more than going forward: diff M, a patch, a rollback of it."""

from time import perf_counter

from tests.bench.disk.contents import apply_diff
from tests.bench.disk.stage import IMAGE, Stage
from tests.bench.figures import Figure, ratio

LETTER = "e"
TITLE = "a rollback beside the patch that it takes back, diff M"

DIFF = "M"
RATIO_GOAL = 1.2


def measure(stages: list[Stage], rounds: int) -> list[Figure]:
    """The patch and its rollback in turns, each time in a set of their own."""
    figures = []
    for stage in stages:
        taken = [_patch_and_rollback_s(stage) for _ in range(rounds)]
        patch = Figure(LETTER, f"{stage.kind}, patch", [first for first, _ in taken], "s")
        back = Figure(LETTER, f"{stage.kind}, rollback", [last for _, last in taken], "s")
        what = f"{stage.kind}, rollback / patch"
        figures += [patch, back, ratio(LETTER, what, back, patch, goal_max=RATIO_GOAL)]
    return figures


def _patch_and_rollback_s(stage: Stage) -> tuple[float, float]:
    name = stage.run_set(IMAGE)
    apply_diff(stage.root_of(f"{name}-1"), stage.amounts.diffs[DIFF])
    stage.sync()
    begun = perf_counter()
    stage.patch_set(name, gpus=2)
    patch_s = perf_counter() - begun
    stage.sync()
    begun = perf_counter()
    stage.service.call("PATCH", f"/replicaSet/{name}/rollback", {"version": 1}).ok()
    rollback_s = perf_counter() - begun
    stage.delete_set(name)
    return patch_s, rollback_s
