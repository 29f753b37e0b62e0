"""A short `make crashes`: the real service dies at a point of each command, and starts again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.place import end_all
from tests.chaos.scene import Options
from tests.crashes.tasks import TASKS, Task
from tests.crashes.walk import Walk, engine_with_images, scene_of, temporary_left
from tests.kit.crash_points import Point
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import own_ports

POINTS = {
    "run": ("before:run mkfs.ext4:1", "after:ContainerEngine.create_container:1"),
    "patch": ("after:SystemDisks.keep:1", "before:POST containers start:1"),
    "commit": ("after:ContainerEngine.commit_container:1",),
    "rollback": ("before:ReadStore.commit:3",),
    "shrink": ("after:Ledger.append:1",),
    "grow": ("after:VolumeStore.resize:1",),
    "delete": ("before:Ledger.append:2",),
}
"""One or two of each command, at a layer each time another: ports, commits, and what is below."""


@pytest.fixture(scope="module")
def engine(root: None) -> Iterator[PrivateDockerd]:
    """An engine on which nothing else is done."""
    with engine_with_images() as engine:
        yield engine


def test_every_task_has_points() -> None:
    assert POINTS.keys() == {task.name for task in TASKS}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_crash_changes_nothing(
    task: Task, engine: PrivateDockerd, tmp_path: Path
) -> None:
    points = [Point.parse(text) for text in POINTS[task.name]]
    try:
        with scene_of(tmp_path / "scene", engine, Options(ports=own_ports())) as scene:
            tries = list(Walk(scene, task).tries(points))
            left = temporary_left(scene)
    finally:
        end_all(tmp_path)
    assert [one.faults for one in tries] == [()] * len(points)
    assert all(one.died for one in tries), "a point was never reached"
    assert left == []
