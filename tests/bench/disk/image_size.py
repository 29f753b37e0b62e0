"""(c) Whether a patch costs more when the image is twice as big and the diff is the same."""

from time import perf_counter

from tests.bench.disk.contents import import_image
from tests.bench.disk.stage import IMAGE, Stage
from tests.bench.disk.ways import gpuledger
from tests.bench.figures import Figure, ratio

LETTER = "c"
TITLE = "a patch of diff M on the image, and on one twice as big"

DIFF = "M"
TWICE_IMAGE = "bench-disk:twice"
RATIO_GOAL = 1.2


def measure(stages: list[Stage], rounds: int) -> list[Figure]:
    """The two images in turns; the bigger one is there only as long as it is measured."""
    figures = []
    for stage in stages:
        import_image(stage.docker.api, TWICE_IMAGE, stage.amounts.twice_image)
        seconds: dict[str, list[float]] = {IMAGE: [], TWICE_IMAGE: []}
        for _ in range(rounds):
            for image, rounds_s in seconds.items():
                rounds_s.append(_patch_s(stage, image))
        stage.docker.images.remove(TWICE_IMAGE)
        once = Figure(LETTER, f"{stage.kind}, the image", seconds[IMAGE], "s")
        twice = Figure(LETTER, f"{stage.kind}, twice the image", seconds[TWICE_IMAGE], "s")
        what = f"{stage.kind}, twice the image / the image"
        figures += [once, twice, ratio(LETTER, what, twice, once, goal_max=RATIO_GOAL)]
    return figures


def _patch_s(stage: Stage, image: str) -> float:
    with gpuledger(stage, stage.amounts.diffs[DIFF], image) as patchable:
        begun = perf_counter()
        patchable.patch()
        return perf_counter() - begun
