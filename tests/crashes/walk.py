"""The real service through a command, dying at one point of it after the other.

Each life dies in one try; the next is its recovery, and dies in the try after that. Before the
command comes it does nothing but recover.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
from msgspec import Struct

from service.bootstrap.maintaining import check
from service.domain.invariants import check as broken_rules
from service.settings import Settings
from tests.chaos import host_checks
from tests.chaos.asking import IMAGE, OTHER_IMAGE
from tests.chaos.ledger_checks import check_ends, unfinished
from tests.chaos.scene import Options, Scene
from tests.crashes.tasks import Task
from tests.kit.busybox import import_image
from tests.kit.crash_points import SIDES, Point, doing_calls
from tests.kit.dockerd import PrivateDockerd
from tests.kit.logs import fold
from tests.kit.service_process import ServiceProcess, eventually, is_alive

ROOT = Path(__file__).parents[2]
ENDED_S_MAX = 60.0
LAST_CALLS_S = 1.0
"""So long after the end of an operation its last calls may take: commits, and kept disks."""


class DyingProcess(ServiceProcess):
    """The service as `tests.kit.dying_service`."""

    sentence: Sequence[str] = ()

    @property
    def command(self) -> list[str]:
        """What starts it."""
        program, _, _, _, *flags = super().command
        self._env["PYTHONPATH"] = str(ROOT)
        return [program, "-m", "tests.kit.dying_service", *self.sentence, *flags]


class Try(Struct, frozen=True):
    """What became of one point."""

    task: str
    point: Point
    died: bool
    """False when it was never reached: commits and requests come in slightly other numbers."""
    converged_s: float
    """From the start after it until the operation had ended."""
    faults: tuple[str, ...]


class Walk:
    """On a scene of its own, whose service is not started yet."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._number = 0
        service = scene.service
        assert isinstance(service, DyingProcess)
        self._service = service

    def count(self, task: Task) -> list[Point]:
        """The points of the task, in a run without a crash; the service has stopped after it."""
        calls = self._scene.folder / "calls"
        name = self._next_name()
        self._start(task, name, "--calls", str(calls))
        task.set_up(self._service, name)
        self._ended(task, name)
        sleep(LAST_CALLS_S)
        counted = [line.rpartition(":") for line in calls.read_text().splitlines()]
        faults = self._faults(task, name)
        assert not faults, faults
        self._clear()
        self._service.stop()
        known = doing_calls()
        return [
            Point(call, int(nth), side)
            for call, _, nth in counted
            for side in (SIDES if call in known else SIDES[:1])
        ]

    def tries(self, points: Sequence[tuple[Task, Point]]) -> Iterator[Try]:
        """Die at each of them. In the end the service has stopped."""
        before: tuple[Task, Point, str, bool] | None = None
        for task, point in points:
            name = self._next_name()
            begun = monotonic()
            self._start(task, name, "--die-at", str(point))
            if before is not None:
                yield self._recovered(*before, begun)
            task.set_up(self._service, name)
            before = task, point, name, self._dies(task, name)
        begun = monotonic()
        self._service.sentence = ()
        self._service.start()
        if before is not None:
            yield self._recovered(*before, begun)
        self._service.stop()

    def _next_name(self) -> str:
        self._number += 1
        return f"n{self._number}"

    def _start(self, task: Task, name: str, *more: str) -> None:
        self._service.sentence = ("--arm", task.subject.format(name), *more)
        self._service.start()

    def _dies(self, task: Task, name: str) -> bool:
        """Send the command; True when the service died of it, and it is not there then."""
        pid = self._service.pid
        try:
            operation = self._ask(task, name)
            eventually(lambda: not is_alive(pid) or self._has_ended(operation), ENDED_S_MAX)
        except httpx.TransportError:
            eventually(lambda: not is_alive(pid))
        deadline = monotonic() + LAST_CALLS_S
        while is_alive(pid) and monotonic() < deadline:
            sleep(0.01)
        if is_alive(pid):
            self._service.stop()
            return False
        self._service.wait()
        return True

    def _ask(self, task: Task, name: str) -> str:
        method, path, body = task.request(name)
        return self._service.begin(method, path, body, {"Idempotency-Key": f"{name}-key"})

    def _has_ended(self, operation: str) -> bool:
        return bool(self._service.get(f"/operations/{operation}").ok()["state"] != "running")

    def _ended(self, task: Task, name: str) -> dict[str, Any]:
        """The operation, once it has ended and nothing is due that follows from it."""
        ended = self._service.ended(self._ask(task, name))
        eventually(lambda: not list(unfinished(fold(self._service.records()))))
        return ended

    def _recovered(self, task: Task, point: Point, name: str, died: bool, begun: float) -> Try:
        ended = self._ended(task, name)
        seconds = monotonic() - begun
        faults = self._faults(task, name)
        if ended["state"] != "succeeded":
            faults = (f"it {ended['state']}: {ended}", *faults)
        self._clear()
        left = tuple(f"when all was deleted: {fault}" for fault in self._faults(task, name))
        return Try(task.name, point, died, seconds, faults + left)

    def _clear(self) -> None:
        """Delete what the task was done with."""
        for row in self._service.get("/replicaSet").ok()["replicaSets"]:
            self._service.call("DELETE", f"/replicaSet/{row['name']}").ok()
        for row in self._service.get("/volumes").ok()["volumes"]:
            self._service.call("DELETE", f"/volumes/{row['name']}").ok()

    def _faults(self, task: Task, name: str) -> tuple[str, ...]:
        return tuple(str(fault) for fault in self._look(task, name))

    def _look(self, task: Task, name: str) -> Iterator[object]:
        """Everything that is not as the ledger says, on this host and on the engine."""
        scene = self._scene
        records = self._service.records()
        state = fold(records)
        yield from unfinished(state)
        yield from broken_rules(state)
        yield from check_ends(records)
        yield from host_checks.check_shown(scene, state)
        with scene.engine.client() as client:
            containers = client.containers.list(all=True, ignore_removed=True)
            seen = {one.name: one.attrs for one in containers}
            yield from host_checks.check_containers(state, seen)
            yield from host_checks.check_ports(scene, state, seen)
            yield from host_checks.check_mounts(scene, seen)
            volumes = {volume.name for volume in client.volumes.list()}
            yield from host_checks.check_volumes(scene, state, volumes)
            images = client.images.list()
            tags = {tag for image in images for tag in image.tags}
            yield from host_checks.check_system_disks(scene, state, tags)
            yield from host_checks.check_images(records, tags)
            yield from (f"image {one.id} has no name" for one in images if not one.tags)
        report = asyncio.run(check(self._settings()))
        yield from report.differences
        if seen and task.name != "run":
            yield from self._lost(task, name)

    def _lost(self, task: Task, name: str) -> Iterator[str]:
        """The file that was written before is where the container finds it."""
        at = "/data" if task.subject.startswith("{}v") else "/root"
        if (found := self._service.shell(name, f"cat {at}/mine")) != "mine\n":
            yield f"of the file there is {found!r}"
        if at == "/root" and "wget" in self._service.shell(name, "ls /bin"):
            yield "the file that was removed is back"

    def _settings(self) -> Settings:
        service = self._service
        return Settings.from_mapping(
            {}, data_dir=service.data_dir, docker=service.docker, node="test", gpus="none"
        )


def temporary_left(scene: Scene) -> list[str]:
    """What is left in the temporary folder when the service has stopped."""
    return [str(fault) for fault in host_checks.check_temporary(scene)]


@contextmanager
def engine_with_images() -> Iterator[PrivateDockerd]:
    """An engine of its own, with what the checks expect on it."""
    with PrivateDockerd() as engine:
        engine.import_busybox_image(IMAGE)
        with engine.client() as client:
            import_image(client.api, OTHER_IMAGE)
        yield engine


@contextmanager
def scene_of(folder: Path, engine: PrivateDockerd, options: Options) -> Iterator[Scene]:
    """A folder and a service of its own, not started yet; on an engine that others had before."""
    folder.mkdir(parents=True)
    scene = Scene(folder, engine, options, DyingProcess)
    with ExitStack() as held:
        held.push(scene.service)  # it ends, if it runs then
        yield scene
    with engine.client() as client:
        for image in client.images.list():
            if not {IMAGE, OTHER_IMAGE} & set(image.tags):
                client.images.remove(image.id, force=True)
