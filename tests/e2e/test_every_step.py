"""A short `make crashes`: the real service dies at a point of each command, and starts again."""

from pathlib import Path

from tests.chaos.place import end_all
from tests.chaos.scene import Options
from tests.crashes.tasks import TASKS
from tests.crashes.walk import Walk, engine_with_images, scene_of, temporary_left
from tests.kit.crash_points import Point
from tests.kit.host_ports import own_ports

POINTS = {
    "run": ("before:run mkfs.ext4:1", "after:ContainerEngine.create_container:1"),
    "patch": ("after:SystemDisks.keep:1", "before:POST containers start:1"),
    "commit": ("after:ContainerEngine.commit_container:1",),
    "rollback": ("before:ReadStore.commit:2",),
    "debug": ("after:SystemDisks.fill:1",),
    "shrink": ("after:Ledger.append:1",),
    "grow": ("after:VolumeStore.resize:1",),
    "delete": ("before:Ledger.append:2",),
}
"""One or two of each command, at a layer each time another: ports, commits, and what is below."""


def test_every_task_has_points() -> None:
    assert POINTS.keys() == {task.name for task in TASKS}


def test_a_crash_changes_nothing(root: None, tmp_path: Path) -> None:
    points = [(task, Point.parse(text)) for task in TASKS for text in POINTS[task.name]]
    options = Options(ports=own_ports())
    try:
        with engine_with_images() as engine, scene_of(tmp_path / "s", engine, options) as scene:
            tries = list(Walk(scene).tries(points))
            left = temporary_left(scene)
    finally:
        end_all(tmp_path)
    assert {f"{one.task} {one.point}": one.faults for one in tries if one.faults} == {}
    assert [f"{one.task} {one.point} was never reached" for one in tries if not one.died] == []
    assert left == []
