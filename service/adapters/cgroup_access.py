"""CgroupAccess: whether the kernel lets a container at its GPUs, asked as the container would.

The kernel checks the opening of a device against the control group of whoever opens it: rules of
the devices controller (version 1), or programs attached to the group (version 2). These can be
taken away from a running container: `systemctl daemon-reload` rewrites them where systemd rules
the groups, and knows nothing of what the NVIDIA hook added. Inside, NVML cannot be initialized
then, until the container is started again.

So a child of ours joins the container's group, opens the driver's control device, and ends. It
runs our own interpreter, so the image needs no tool; it opens what it looked at before, a device
with the driver's own numbers, whatever the container has put in its place; and it stays in the
host's namespaces, so nothing in the container can reach it by name.
"""

import asyncio
import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
from msgspec import Struct

from events.labels import LABEL_OWNER
from service.adapters import docker_objects as objects
from service.adapters.docker_connection import DockerConnection
from service.adapters.docker_errors import FOREIGN_ERRORS, map_error
from service.errors import EngineUnavailable
from service.ports import GpuAccess

CHILD_TIMEOUT_S = 10.0
"""A frozen group freezes the child too; it is killed then."""

_CHILD = """
import os, stat, sys
pid, device, major, minor, procs = sys.argv[1:]
step = "find"
try:
    flags = os.O_PATH | os.O_CLOEXEC
    root = os.open(f"/proc/{pid}/root", flags | os.O_DIRECTORY)
    folder = os.open("dev", flags | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    node = os.open(device, flags | os.O_NOFOLLOW, dir_fd=folder)
    seen = os.fstat(node)
    if not stat.S_ISCHR(seen.st_mode) or seen.st_rdev != os.makedev(int(major), int(minor)):
        raise OSError(0, "another file")
    step = "join"
    with open(procs, "w") as group:
        group.write("0")
    step = "open"
    os.close(os.open(f"/proc/self/fd/{node}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
    print(step, -1)
except OSError as error:
    print(step, error.errno)
"""
"""Prints the last step it came to, and the errno of its failure; -1 for none."""


class DeviceNode(Struct, frozen=True):
    """A character device by its name in /dev and its numbers."""

    name: str
    major: int
    minor: int


NVIDIA_CONTROL = DeviceNode("nvidiactl", 195, 255)
"""What every program opens first; its numbers are fixed. Opening it does not wake a GPU."""


class _Target(Struct, frozen=True):
    """A running container of ours."""

    pid: int
    id: str


class CgroupAccess:
    """The port `GpuAccessProbe` for a local engine, by a service with root's rights.

    `base_url` as docker-py takes it; `owner` is what the owner label of our containers says.
    `node` is what is opened.
    """

    def __init__(
        self, base_url: str | None, *, owner: str, node: DeviceNode = NVIDIA_CONTROL
    ) -> None:
        self._owner = owner
        self._node = node
        self._connection = DockerConnection(base_url, timeout_s=60.0, pool_size=1)
        self._threads = ThreadPoolExecutor(1, "gpu-access")

    async def close(self) -> None:
        """Let go of the connection."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connection.forget()

    async def look(self, container: str) -> GpuAccess:
        if not self._connection.local:
            return GpuAccess("unknown", "the engine is on another host")
        if os.geteuid() != 0:
            return GpuAccess("unknown", "only root can look")
        loop = asyncio.get_running_loop()
        target = await loop.run_in_executor(self._threads, self._find, container)
        if target is None:
            return GpuAccess("unknown", f"no container of ours runs as {container}")
        procs = await loop.run_in_executor(self._threads, _procs_file, target)
        if procs is None:
            return GpuAccess("unknown", f"the control group of {container} is not seen here")
        return self._meaning(await try_to_open(target.pid, self._node, procs))

    def _find(self, container: str) -> _Target | None:
        def call(client: docker.APIClient) -> _Target | None:
            seen = objects.inspect(client, container)
            if seen is None or seen["State"]["Status"] != "running":
                return None
            if (seen["Config"].get("Labels") or {}).get(LABEL_OWNER) != self._owner:
                return None
            return _Target(seen["State"]["Pid"], seen["Id"])

        try:
            return call(self._connection.client())
        except FOREIGN_ERRORS as foreign:
            error = map_error(foreign)
            if isinstance(error, EngineUnavailable):
                self._connection.forget()
            raise error from foreign

    def _meaning(self, answer: str) -> GpuAccess:
        step, _, number = answer.partition(" ")
        device = f"/dev/{self._node.name}"
        if not number.lstrip("-").isdigit():
            return GpuAccess("unknown", f"whether {device} can be opened did not come out")
        if int(number) < 0:
            return GpuAccess("has")
        words = os.strerror(int(number)) if int(number) else "another file has its name"
        if step == "open" and int(number) == errno.EPERM:
            return GpuAccess("lost", f"{device} cannot be opened in its control group: {words}")
        return GpuAccess("unknown", f"{device}: {step}: {words}")


async def try_to_open(
    pid: int, node: DeviceNode, procs: Path, timeout_s: float = CHILD_TIMEOUT_S
) -> str:
    """What the child printed; empty when it could not be run, or did not come back.

    It looks for the device in the root directory of `pid`, and opens it in the group of `procs`.
    """
    words = (pid, node.name, node.major, node.minor, procs)
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-c", _CHILD),
            *map(str, words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(timeout_s):
            printed, _ = await child.communicate()
    except TimeoutError:
        return ""
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return printed.decode().strip()


def _procs_file(target: _Target) -> Path | None:
    """Where a process joins the group that rules the container's devices; None if not seen here.

    Only a group that has the container's id in its name: its process may have ended meanwhile,
    and another one have its number.
    """
    try:
        groups = Path(f"/proc/{target.pid}/cgroup").read_text()
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    found = devices_group(groups, mounts, target.id)
    return found / "cgroup.procs" if found is not None and found.is_dir() else None


def devices_group(groups: str, mounts: str, container_id: str) -> Path | None:
    """The directory of a container's group, from /proc/PID/cgroup and our /proc/self/mountinfo."""
    lines = groups.splitlines()
    paths = {controllers: path for _, controllers, path in (g.split(":", 2) for g in lines)}
    version_1 = next((name for name in paths if "devices" in name.split(",")), None)
    path = paths.get("" if version_1 is None else version_1, "/")
    root = _mounted("cgroup2" if version_1 is None else "cgroup", mounts.splitlines())
    if root is None or container_id not in path or ".." in path.split("/"):
        return None
    return root / path.lstrip("/")


def _mounted(kind: str, mounts: list[str]) -> Path | None:
    """Where the whole hierarchy is mounted that has the devices in it (proc_pid_mountinfo(5))."""
    for line in mounts:
        before, _, after = line.partition(" - ")
        _, _, _, top, where, *_ = before.split()
        file_system, _, options = after.split()[:3]
        has_devices = kind == "cgroup2" or "devices" in options.split(",")
        if file_system == kind and top == "/" and has_devices:
            return Path(where)
    return None
