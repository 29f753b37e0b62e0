"""The three ways to patch: each makes a container with a diff, and hands out what patches it."""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from msgspec import Struct

from tests.bench.disk.amounts import Amount
from tests.bench.disk.contents import apply_diff, require_diff
from tests.bench.disk.stage import IMAGE, Stage

REPOSITORY = "bench-disk-commit"


class Patchable(Struct, frozen=True):
    """A container that runs and has its diff, all of it on disk."""

    container: str
    patch: Callable[[], object]


Way = Callable[[Stage, Amount], AbstractContextManager[Patchable]]


# No `finally` in these: after an error the engine goes, and all that it holds with it.


@contextmanager
def two_copies(stage: Stage, diff: Amount) -> Iterator[Patchable]:
    """The predecessor's: all files into the new container, all files into an archive.

    The new container gets another host port, as there; both run meanwhile.
    """
    old, new = stage.new_name(), stage.new_name()
    archive = stage.folder / "archive"

    def patch() -> None:
        stage.start_container(new, IMAGE, stage.second_port)
        archive.mkdir()
        _copy_all(stage.root_of(old), stage.root_of(new))
        _copy_all(stage.root_of(old), archive)
        stage.docker.containers.get(old).remove(force=True)

    stage.start_container(old, IMAGE, stage.port)
    apply_diff(stage.root_of(old), diff)
    stage.sync()
    yield Patchable(old, patch)
    require_diff(stage.root_of(new), diff, exact=False)
    stage.docker.containers.get(new).remove(force=True)
    subprocess.run(["rm", "-rf", archive], check=True)


@contextmanager
def commit(stage: Stage, diff: Amount) -> Iterator[Patchable]:
    """Stop, commit, create from the commit, start, remove."""
    old, new = stage.new_name(), stage.new_name()
    tag = f"{REPOSITORY}:{old}"

    def patch() -> None:
        container = stage.docker.containers.get(old)
        container.stop()
        container.commit(REPOSITORY, old)
        stage.start_container(new, tag, stage.port)
        container.remove()

    stage.start_container(old, IMAGE, stage.port)
    apply_diff(stage.root_of(old), diff)
    stage.sync()
    yield Patchable(old, patch)
    require_diff(stage.root_of(new), diff, exact=True)
    stage.docker.containers.get(new).remove(force=True)
    stage.docker.images.remove(tag)


@contextmanager
def gpuledger(stage: Stage, diff: Amount, image: str = IMAGE) -> Iterator[Patchable]:
    """Ours: another number of GPUs, by the REST API."""
    name = stage.run_set(image)
    container = f"{name}-1"
    apply_diff(stage.root_of(container), diff)
    stage.sync()
    yield Patchable(container, lambda: stage.patch_set(name, gpus=2))
    require_diff(stage.root_of(f"{name}-2"), diff, exact=True)
    stage.delete_set(name)


WAYS: Mapping[str, Way] = {"two copies": two_copies, "commit": commit, "gpuledger": gpuledger}


def _copy_all(source: Path, target: Path) -> None:
    subprocess.run(f"cp -rf -p {source}/* {target}/", shell=True, check=True)
