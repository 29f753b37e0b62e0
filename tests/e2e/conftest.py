"""Fixtures of the end-to-end tests: the real service on a real, private Docker engine."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess

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


def clean(dockerd: PrivateDockerd, data_dir: Path) -> None:
    """Remove what a test left on the engine, and let go of its loop devices."""
    dockerd.start()  # if the test killed it
    with dockerd.client() as client:
        for container in client.containers.list(all=True):
            container.remove(force=True, v=True)
        for volume in client.volumes.list():
            volume.remove(force=True)
        for tag in [tag for image in client.images.list() for tag in image.tags]:
            if tag != IMAGE:
                client.images.remove(tag, force=True)
    for link in data_dir.glob("volumes/*.dev"):
        detach(link)


def detach(link: Path) -> None:
    """Let go of the loop device that a link leads to."""
    subprocess.run(["losetup", "-d", str(link.resolve())], check=False, capture_output=True)
