"""Fixtures of the end-to-end tests: the real service on a real, private Docker engine."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess


@pytest.fixture
def service(tmp_path: Path, dockerd: PrivateDockerd) -> Iterator[ServiceProcess]:
    """A service with four simulated GPUs; its containers are gone afterwards."""
    with ServiceProcess(tmp_path / "data", dockerd.url) as running:
        yield running
    clean(dockerd, tmp_path / "data")


def clean(dockerd: PrivateDockerd, data_dir: Path) -> None:
    """Remove what a test left on the engine, and let go of its loop devices."""
    with dockerd.client() as client:
        for container in client.containers.list(all=True):
            container.remove(force=True, v=True)
        for volume in client.volumes.list():
            volume.remove(force=True)
    for link in data_dir.glob("volumes/*.dev"):
        detach(link)


def detach(link: Path) -> None:
    """Let go of the loop device that a link leads to."""
    subprocess.run(["losetup", "-d", str(link.resolve())], check=False, capture_output=True)
