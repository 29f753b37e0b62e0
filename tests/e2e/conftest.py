"""Fixtures of the end-to-end tests: the real service on a real, private Docker engine."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, NotFound

from tests.chaos.ledger_checks import unfinished
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import NO_TAG
from tests.kit.logs import fold
from tests.kit.service_process import ServiceProcess, eventually

IMAGE = "busybox:test"


@pytest.fixture
def service(tmp_path: Path, dockerd: PrivateDockerd) -> Iterator[ServiceProcess]:
    """A service with four simulated GPUs; its containers are gone afterwards."""
    with serving(tmp_path / "data", dockerd) as running:
        yield running


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, dockerd: PrivateDockerd
) -> Iterator[ServiceProcess]:
    """The same for a whole file: its tests take names of their own and clean up."""
    with serving(tmp_path_factory.mktemp("shared") / "data", dockerd) as running:
        yield running


class Stubborn:
    """A container that TERM does not end: what stops it goes on until `give_in` is called."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._end = folder / "end"
        script = "trap '' TERM; until [ -e /stubborn/end ]; do sleep 0.1; done"
        self.fields = {
            "cmd": ["sh", "-c", script],
            "binds": [{"src": str(folder), "dest": "/stubborn"}],
        }
        """For its run."""

    def give_in(self) -> None:
        """It ends by itself, and every later one with these fields at once."""
        self._end.touch()


@pytest.fixture
def stubborn(tmp_path: Path) -> Stubborn:
    """What to run so that a stop of it lasts for as long as the test wants."""
    return Stubborn(tmp_path / "stubborn")


@contextmanager
def serving(
    data_dir: Path,
    dockerd: PrivateDockerd,
    *,
    gpus: str = "simulated:4",
    flags: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[ServiceProcess]:
    """A service that runs; it and all that it made are gone afterwards."""
    try:
        with ServiceProcess(data_dir, dockerd.url, gpus=gpus, flags=flags, env=env) as running:
            yield running
    finally:
        clean(dockerd, data_dir)


def at_rest(service: ServiceProcess) -> None:
    """Return when nothing is due any more: kept disks are compacted after a command has ended."""
    eventually(lambda: not unfinished(fold(service.records())))


def clean(dockerd: PrivateDockerd, data_dir: Path) -> None:
    """Remove what a test left on the engine, and let go of its loop devices."""
    dockerd.start()  # if the test killed it
    with dockerd.client() as client:
        eventually(lambda: _without_containers(client))
        for volume in client.volumes.list():
            volume.remove(force=True)
        for tag in [tag for image in client.api.images() for tag in image["RepoTags"] or ()]:
            if tag not in (IMAGE, NO_TAG):
                with suppress(NotFound):
                    client.images.remove(tag, force=True)
    for link in data_dir.glob("volumes/*.dev"):
        detach(link)


def _without_containers(client: Any) -> bool:
    """Are all removed? One whose removal a killed service has begun can go at any moment."""
    for container in client.api.containers(all=True):
        with suppress(APIError):
            client.api.remove_container(container["Id"], force=True, v=True)
    return not client.api.containers(all=True)


def detach(link: Path) -> None:
    """Let go of the loop device that a link leads to."""
    subprocess.run(["losetup", "-d", str(link.resolve())], check=False, capture_output=True)
