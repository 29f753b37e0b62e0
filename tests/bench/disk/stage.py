"""A stage: one file system with an engine, the image and the service on it."""

import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import docker

from tests.bench.disk.amounts import Amounts
from tests.bench.disk.contents import import_image
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess

KINDS = ("ext4", "xfs")
IMAGE = "bench-disk:once"
PORT = 80
PROGRAM = ("httpd", "-f", "-p", str(PORT), "-h", "/mnt")
"""Answers at once, with an error, which is an answer; the engine's init ends it on SIGTERM."""

XFS_BYTES = 20 << 30  # sparse
HOST_PORTS = {"ext4": (31_800, 31_849), "xfs": (31_850, 31_899)}
"""Below the kernel's range for outgoing connections, beside those that the tests lend."""

DOCKER_TIMEOUT_S = 600.0
"""A commit of gigabytes takes its time on a slow disk."""


class Stage:
    """What the questions work with; each leaves it as it was found."""

    def __init__(
        self, kind: str, folder: Path, service: ServiceProcess, client: Any, amounts: Amounts
    ) -> None:
        self.kind = kind
        """Of the file system that the engine's data lies on."""
        self.folder = folder
        """On the same file system, for what is not the engine's."""
        self.service = service
        self.docker = client
        """A docker.DockerClient of the engine."""
        self.amounts = amounts
        self.port, self.second_port = (HOST_PORTS[kind][1] - n for n in range(2))
        """Host ports that the service does not lend."""
        self._numbers = itertools.count(1)

    def new_name(self) -> str:
        """For a container or a replica set; never given twice."""
        return f"bench{next(self._numbers)}"

    def free_bytes(self) -> int:
        """Free on the file system, all that was written and removed being on disk."""
        self.sync()
        seen = os.statvfs(self.folder)
        return seen.f_bfree * seen.f_frsize

    def sync(self) -> None:
        """Write out what is waiting, so that nobody pays for what was done before."""
        subprocess.run(["sync", "--file-system", self.folder], check=True)

    def start_container(self, name: str, image: str, port: int) -> None:
        """Run the program in a container of the engine that publishes this port."""
        self.docker.containers.create(
            image, list(PROGRAM), name=name, init=True, ports={f"{PORT}/tcp": port}
        ).start()

    def run_set(self, image: str, **fields: Any) -> str:
        """Run the program in a replica set with one GPU; its name."""
        name = self.new_name()
        body = {
            "imageName": image,
            "replicaSetName": name,
            "gpuCount": 1,
            "cmd": list(PROGRAM),
            "containerPorts": [str(PORT)],
            **fields,
        }
        self.service.call("POST", "/replicaSet", body).ok()
        return name

    def patch_set(self, name: str, gpus: int) -> str:
        """Give a replica set another number of GPUs; the new container's name."""
        body = {"gpuPatch": {"gpuCount": gpus}}
        data = self.service.call("PATCH", f"/replicaSet/{name}", body).ok()
        return str(data["containerName"])

    def delete_set(self, name: str) -> None:
        """With all that was kept of it."""
        self.service.call("DELETE", f"/replicaSet/{name}").ok()

    def host_port(self, container: str) -> int:
        """Where a container's program is reached."""
        settings = self.docker.api.inspect_container(container)["HostConfig"]
        (binding,) = settings["PortBindings"][f"{PORT}/tcp"]
        return int(binding["HostPort"])

    def root_of(self, container: str) -> Path:
        """A running container's / as this host sees it."""
        driver = self.docker.api.inspect_container(container)["GraphDriver"]
        return Path(driver["Data"]["MergedDir"])


@contextmanager
def staged(kind: str, place: Path, amounts: Amounts) -> Iterator[Stage]:
    """A stage in the workplace, with the image; what it leaves behind the workplace empties."""
    folder = place / kind
    folder.mkdir()
    if kind == "xfs":
        _mount_xfs(folder, place / "xfs.img")
    first, last = HOST_PORTS[kind]
    flags = ["--port-range", f"{first}-{last - 2}", "--log-level", "error"]
    with ExitStack() as held:
        engine = PrivateDockerd()
        with _temporary_folder(folder):
            held.enter_context(engine)
        client = docker.DockerClient(base_url=engine.url, timeout=DOCKER_TIMEOUT_S)
        held.callback(client.close)
        import_image(client.api, IMAGE, amounts.image)
        data_dir = place / f"service-{kind}"
        service = held.enter_context(ServiceProcess(data_dir, engine.url, flags=flags))
        yield Stage(kind, folder, service, client, amounts)


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[None]:
    """Let an engine that starts take this folder; its own file system would be too small."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _mount_xfs(point: Path, image: Path) -> None:
    with image.open("wb") as file:
        file.truncate(XFS_BYTES)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
