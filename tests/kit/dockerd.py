"""PrivateDockerd: a Docker engine of a test's own, beside whatever runs on this machine.

Nothing is shared with another engine, the system's included:

- its own containerd: a dockerd that finds the system's would use that one, and then share a
  namespace with the system's containers;
- its own bridge, made beforehand: `--bridge=none` removes a docker0 that others use;
- no iptables rules: two engines in one network namespace flush each other's chains. Published
  ports work all the same on this host, docker-proxy carries them;
- its own configuration file: settings in /etc/docker/daemon.json clash with flags;
- its own cgroup, by which its containers' processes are known.

It needs root. One folder holds it all, named like the bridge; see engine_remains.py for the end.
"""

import fcntl
import functools
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from select import poll
from time import monotonic
from types import TracebackType
from typing import Any, Self

import docker

from tests.kit.busybox import import_image
from tests.kit.data_roots import make_file_system
from tests.kit.engine_remains import bridge_exists, end_processes, remove_remains

NAME = "glkit"
NETWORK = "10.213"  # + .<number>.0/24, unlikely to be routed anywhere
ENGINES_MAX = 254
START_TIMEOUT_S = 90.0
"""A dockerd that was killed under load may take 30 s to find its containers again."""
STOP_TIMEOUT_S = 60.0
MACHINE_LOCK = Path("/run") / f"{NAME}.lock"
CDI_VERSION_MIN = 25
HOOK = "nvidia-container-runtime-hook"


class EngineNotStarted(Exception):
    """The private engine did not come up. The text is for people, with the end of its log."""


@functools.cache
def dockerd_version() -> tuple[int, ...]:
    """Of the dockerd on PATH, such as (20, 10, 24)."""
    try:
        said = subprocess.run(["dockerd", "--version"], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise EngineNotStarted("dockerd is not installed (Debian: docker.io)") from error
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", said.stdout)
    if match is None:
        raise EngineNotStarted(f"cannot read the version in {said.stdout!r}")
    return tuple(int(part) for part in match.groups())


def supports_cdi() -> bool:
    """Whether the installed dockerd knows CDI (25.0 and later)."""
    return dockerd_version()[0] >= CDI_VERSION_MIN


class PrivateDockerd:
    """One engine. `start` may follow `kill` or `halt` (the data is kept); `stop` is the end.

    With `cdi_devices` the engine can inject `nvidia.com/gpu=<each of them>`: such a container
    gets CDI_DEVICE=<name> in its environment, and NVIDIA_VISIBLE_DEVICES=void as with NVIDIA's
    own specifications.

    With `data_file_system` ("xfs") its data lies in a file system of its own, in an image file
    behind a loop device; otherwise on that of the temporary folder.

    All methods block; on an event loop call them by asyncio.to_thread.
    """

    name: str
    """Of its bridge, its cgroup and its folder."""
    folder: Path
    url: str
    """For DOCKER_HOST: unix:///…, short enough for a socket address."""
    data_root: Path
    gateway: str
    """The bridge's own address: this host, as the containers see it."""

    def __init__(
        self,
        *,
        cdi_devices: Sequence[str] = (),
        storage_driver: str = "overlay2",
        data_file_system: str = "",
    ) -> None:
        self._cdi_devices = tuple(cdi_devices)
        self._data_file_system = data_file_system
        self._storage_driver = storage_driver
        self._owner_lock = -1
        self._containerd: subprocess.Popen[bytes] | None = None
        self._dockerd: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """dockerd's, while it runs."""
        running = self._dockerd is not None and self._dockerd.poll() is None
        return self._dockerd.pid if self._dockerd is not None and running else None

    def start(self) -> None:
        """Start the engine and return when it answers; raise EngineNotStarted otherwise."""
        if self.pid is not None:
            return
        if self._cdi_devices and not supports_cdi():
            version = ".".join(map(str, dockerd_version()))
            raise EngineNotStarted(f"CDI needs Docker {CDI_VERSION_MIN}; this is {version}")
        try:
            if self._owner_lock < 0:
                self._claim()
                if self._data_file_system:
                    make_file_system(self.data_root, self._data_file_system)
            self._start_programs()
        except BaseException:
            self.stop()
            raise

    def halt(self) -> None:
        """End dockerd in order (it stops its containers), as `systemctl stop docker` would."""
        self._end(self._dockerd, signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL dockerd: its containers run on, nobody stops them before the next start."""
        self._end(self._dockerd, signal.SIGKILL)

    def restart(self) -> None:
        """Halt, then start with the same data."""
        self.halt()
        self.start()

    def stop(self) -> None:
        """End the engine for good and leave nothing behind: data, mounts, cgroups, bridge."""
        if self._owner_lock < 0:
            return
        with _locked(MACHINE_LOCK):  # or another run would sweep the half-removed folder
            remove_remains(self.name, self.folder)
        for process in (self._dockerd, self._containerd):
            if process is not None:
                process.wait(timeout=STOP_TIMEOUT_S)
        self._dockerd = self._containerd = None
        os.close(self._owner_lock)
        self._owner_lock = -1

    def import_busybox_image(self, tag: str = "busybox:test") -> str:
        """Make the image of this host's static busybox, unless it is there; return its id."""
        with self.client() as client:
            if not client.images.list(name=tag):
                import_image(client.api, tag)
            return str(client.images.get(tag).id)

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A docker.DockerClient of this engine, closed at the end."""
        client = docker.DockerClient(base_url=self.url)
        try:
            yield client
        finally:
            client.close()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of what dockerd and containerd had to say."""
        tails = []
        for log in (self.folder / "containerd.log", self.folder / "dockerd.log"):
            if log.exists():
                tails += log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(tails)

    def _claim(self) -> None:
        """Take a number that nobody on this machine uses, and with it bridge and folder.

        The owner's lock on the folder ends with this process, however it ends; what a killed
        test run left is removed here by the next one.
        """
        with _locked(MACHINE_LOCK) as lock:
            _sweep()
            number, folder = _next_free(int(os.pread(lock, 3, 0) or 0))
            os.pwrite(lock, b"%3d" % number, 0)
            folder.mkdir(mode=0o700)
            self._owner_lock = os.open(folder / "owner", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._owner_lock, fcntl.LOCK_EX)
            self.name, self.folder = folder.name, folder
            self.gateway = f"{NETWORK}.{number}.1"
            for command in (
                f"link add {self.name} type bridge",
                f"address add {self.gateway}/24 dev {self.name}",
                f"link set {self.name} up",
            ):
                subprocess.run(["ip", *command.split()], check=True)
        self.url = f"unix://{folder}/d.sock"
        self.data_root = folder / "data"
        self._write_configuration()

    def _write_configuration(self) -> None:
        (self.folder / "bin").mkdir()
        # dockerd offers DeviceRequests when it finds NVIDIA's hook; ours does nothing.
        hook = self.folder / "bin" / HOOK
        hook.write_text("#!/bin/sh\nexit 0\n")
        hook.chmod(0o755)
        settings: dict[str, object] = {
            "hosts": [self.url],
            "containerd": f"{self.folder}/c.sock",
            "data-root": str(self.data_root),
            "exec-root": f"{self.folder}/exec",
            "pidfile": f"{self.folder}/dockerd.pid",
            "bridge": self.name,
            "iptables": False,
            "ip6tables": False,
            "ip-forward": False,
            "ip-masq": False,
            "storage-driver": self._storage_driver,
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": f"/{self.name}",
            "shutdown-timeout": 2,
        }
        if self._cdi_devices:
            settings |= {"features": {"cdi": True}, "cdi-spec-dirs": [f"{self.folder}/cdi"]}
            (self.folder / "cdi").mkdir()
            (self.folder / "cdi" / "nvidia.json").write_text(cdi_spec(self._cdi_devices))
        (self.folder / "daemon.json").write_text(json.dumps(settings, indent=1))
        (self.folder / "containerd.toml").write_text(
            f'version = 2\nroot = "{self.folder}/containerd"\nstate = "{self.folder}/state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{self.folder}/c.sock"\n[debug]\n  level = "warn"\n'
        )

    def _start_programs(self) -> None:
        if self._containerd is None or self._containerd.poll() is not None:
            self._containerd = self._spawn("containerd", "--config", "containerd.toml")
            self._await_answer(self._containerd, "c.sock", request=b"")
        self._dockerd = self._spawn("dockerd", "--config-file", "daemon.json")
        self._await_answer(self._dockerd, "d.sock", request=b"GET /_ping HTTP/1.0\r\n\r\n")

    def _spawn(self, program: str, flag: str, configuration: str) -> subprocess.Popen[bytes]:
        # In a session of its own: Ctrl-C on the test run must not stop it before its time.
        with (self.folder / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [program, flag, f"{self.folder}/{configuration}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"},
            )

    def _await_answer(self, process: subprocess.Popen[bytes], sock: str, request: bytes) -> None:
        """Return when the socket takes a connection and answers 200 to `request`, if any."""
        deadline = monotonic() + START_TIMEOUT_S
        ended = poll()
        pidfd = os.pidfd_open(process.pid)
        ended.register(pidfd)
        try:
            while monotonic() < deadline:
                if _answers(self.folder / sock, request):
                    return
                if ended.poll(20):
                    break
        finally:
            os.close(pidfd)
        raise EngineNotStarted(f"{process.args!r} does not answer:\n{self.log_tail()}")

    def _end(self, process: subprocess.Popen[bytes] | None, number: int) -> None:
        if process is None or process.poll() is not None:
            return
        if not end_processes([process.pid], number, STOP_TIMEOUT_S):
            raise TimeoutError(f"dockerd {process.pid} is still there after {STOP_TIMEOUT_S:g} s")
        process.wait()


def cdi_spec(devices: Sequence[str]) -> str:
    """A CDI specification with these devices, each known by an environment variable."""
    return json.dumps(
        {
            "cdiVersion": "0.5.0",
            "kind": "nvidia.com/gpu",
            "containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"]},
            "devices": [
                {"name": name, "containerEdits": {"env": [f"CDI_DEVICE={name}"]}}
                for name in devices
            ],
        }
    )


def _answers(path: Path, request: bytes) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(str(path))
            connection.sendall(request)
            return not request or b" 200 " in connection.recv(64)
        except OSError:
            return False


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _next_free(last: int) -> tuple[int, Path]:
    """The next number that nobody uses: who looks for remains of one finds no other engine."""
    for step in range(ENGINES_MAX):
        number = (last + step) % ENGINES_MAX + 1
        folder = Path(tempfile.gettempdir()) / f"{NAME}{number}"
        if not folder.exists() and not bridge_exists(folder.name):
            return number, folder
    raise EngineNotStarted(f"{ENGINES_MAX} engines of tests are on this machine")


def _sweep() -> None:
    """Remove the engines whose owner is gone. Call it with the machine's lock held."""
    for folder in Path(tempfile.gettempdir()).glob(f"{NAME}[0-9]*"):
        if folder.is_symlink() or folder.stat().st_uid != 0:
            continue  # not made by us
        fd = os.open(folder / "owner", os.O_CREAT | os.O_RDWR, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_remains(folder.name, folder)
        os.close(fd)
