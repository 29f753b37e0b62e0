"""(d) What many revisions take of a disk whose file system shares blocks, all of them kept."""

from tests.bench.disk.contents import apply_diff, change_added, require_diff
from tests.bench.disk.stage import IMAGE, Stage
from tests.bench.figures import Figure, ratio

LETTER = "d"
REVISIONS = 10
TITLE = f"{REVISIONS} revisions of diff M on xfs, 5 MB changed in each, all kept"
MB = 1_000_000

DIFF = "M"
RATIO_GOAL = 1.3


def measure(stages: list[Stage], rounds: int) -> list[Figure]:
    """What the diff takes alone, and what is taken at the end."""
    (stage,) = (stage for stage in stages if stage.kind == "xfs")
    taken = [_taken_mb(stage) for _ in range(rounds)]
    alone = Figure(LETTER, "the diff alone", [first for first, _ in taken], "MB")
    all_kept = Figure(LETTER, f"with {REVISIONS} revisions", [last for _, last in taken], "MB")
    what = f"with {REVISIONS} revisions / the diff alone"
    return [alone, all_kept, ratio(LETTER, what, all_kept, alone, goal_max=RATIO_GOAL)]


def _taken_mb(stage: Stage) -> tuple[float, float]:
    diff = stage.amounts.diffs[DIFF]
    name = stage.run_set(IMAGE)
    free_bytes = stage.free_bytes()
    container = f"{name}-1"
    apply_diff(stage.root_of(container), diff)
    alone = free_bytes - stage.free_bytes()
    for turn in range(REVISIONS):
        change_added(stage.root_of(container), diff, stage.amounts.revision_bytes, turn)
        container = stage.patch_set(name, gpus=turn % 2)
    all_kept = free_bytes - stage.free_bytes()
    # Only if the first of them is still there is it what it says.
    stage.service.call("PATCH", f"/replicaSet/{name}/rollback", {"version": 1}).ok()
    require_diff(stage.root_of(f"{name}-{REVISIONS + 2}"), diff, exact=True)
    stage.delete_set(name)
    return alone / MB, all_kept / MB
