"""The service as users run it: `gpuledger serve` in a process of its own, on a free port."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec
from typer.testing import CliRunner

from events.codec import decode
from events.record import Record
from service.bootstrap.ledger import visit_ledger
from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from service.settings import Settings
from tests.kit.host_ports import own_ports

T = TypeVar("T")


SERVES_ON = "gpuledger serves on "
STOP_TIMEOUT_S = 60.0
"""It leaves by itself much earlier; a loaded machine may take long to start a program."""
POLL_S = 0.01


def eventually(look: Callable[[], T], timeout_s: float = 90.0) -> T:
    """What `look` gives once that is true; it is asked again and again until the time is up."""
    deadline = monotonic() + timeout_s
    while not (seen := look()):
        assert monotonic() < deadline, f"still {seen!r} after {timeout_s:g} s"
        sleep(POLL_S)
    return seen


def children(pid: int, name: str) -> list[int]:
    """The child processes of a process that run the program `name`."""
    found = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listing.read_text().split():
            with suppress(FileNotFoundError):  # it ended between the two looks
                if Path(f"/proc/{child}/comm").read_text().strip() == name:
                    found.append(int(child))
    return found


def is_alive(pid: int) -> bool:
    """Is there a process of this id that has not ended?"""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class Answer(msgspec.Struct, frozen=True):
    """What the API said: HTTP status, and the contract's envelope."""

    status: int
    code: int
    msg: str
    data: Any

    def ok(self) -> Any:
        """The data of a success; anything else fails the test with what was said."""
        assert self.code == 200, f"HTTP {self.status}, code {self.code}: {self.msg}"
        return self.data

    def refused(self, code: int, status: int, *words: str) -> None:
        """Fail the test unless it was refused like this, in a text with these words."""
        assert (self.code, self.status) == (code, status), self
        for word in words:
            assert word in self.msg, self


class ServiceProcess:
    """`start` it, `stop` it as Ctrl-C does, `kill` it as a crash does, and start it again."""

    def __init__(
        self,
        data_dir: Path,
        docker: str,
        *,
        gpus: str = "simulated:4",
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.docker = docker
        self.banner: list[str] = []
        self.url = ""
        self.port_first, self.port_last = own_ports()
        ports = f"{self.port_first}-{self.port_last}"
        # Tests ask as fast as they can; those of the limits set them.
        unlimited = ["--rate-limit", "0", "--waiting-limit", "0"]
        self._flags = ["--gpus", gpus, "--port-range", ports, *unlimited, *flags]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[str] | None = None
        self.log_path = data_dir.with_name(data_dir.name + ".log")
        self._http = httpx.Client(timeout=120)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self.stop()
        self._http.close()

    @property
    def common_flags(self) -> list[str]:
        """The flags that `rebuild` and `check` want as well."""
        return ["--data-dir", str(self.data_dir), "--docker", self.docker, "--node", "test"]

    @property
    def command(self) -> list[str]:
        """What starts it."""
        command = [sys.executable, "-m", "service", "serve", "--addr", "127.0.0.1:0"]
        return [*command, *self.common_flags, *self._flags]

    def start(self) -> None:
        """Start, and return when it serves."""
        with self.log_path.open("a") as log:
            self._process = subprocess.Popen(
                self.command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._env,
            )
        output = self._process.stdout
        assert output is not None
        self.banner = []
        for line in output:
            self.banner.append(line.rstrip())
            if line.startswith(SERVES_ON):
                self.url = line.removeprefix(SERVES_ON).strip()
            if line.startswith("  volumes"):
                break
        else:
            output.close()
            self._process.wait()
            self._process = None
            raise AssertionError(f"it does not serve:\n{self.log_tail()}")
        # Read on, so that a full pipe never holds it up.
        self._reader = threading.Thread(target=output.read)
        self._reader.start()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL, as a crash; the exit code."""
        return self._end(signal.SIGKILL)

    def crash(self) -> None:
        """SIGKILL, and start it again."""
        self.kill()
        self.start()

    def serve_in_vain(self) -> "subprocess.CompletedProcess[str]":
        """Start a second process with the same flags, which has to end by itself."""
        return subprocess.run(
            self.command, capture_output=True, text=True, env=self._env, timeout=STOP_TIMEOUT_S
        )

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # or it would go on beside the tests that come
            raise
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return code

    @property
    def pid(self) -> int:
        """Of the running service."""
        assert self._process is not None
        return self._process.pid

    @property
    def nats_pid(self) -> int:
        """Of its nats-server; waits while that is being started again."""
        return eventually(lambda: children(self.pid, "nats-server"))[0]

    def log_tail(self, lines: int = 30) -> str:
        """The last lines that it logged."""
        return "\n".join(self.log_path.read_text().splitlines()[-lines:])

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """One request to the API; `content` sends bytes as they are."""
        response = self.send(method, path, body, headers, content)
        answer = response.json()
        return Answer(response.status_code, answer["code"], answer["msg"], answer["data"])

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """The same, and what HTTP has to say of it."""
        return self._http.request(
            method,
            f"{self.url}/api/v1{path}",
            headers={"Content-Type": "application/json", **(headers or {})},
            content=content if content is not None else msgspec.json.encode(body or {}),
        )

    def get(self, path: str) -> Answer:
        """GET below /api/v1."""
        return self.call("GET", path)

    def page(self, path: str) -> httpx.Response:
        """GET of a page that has no envelope."""
        return self._http.get(f"{self.url}{path}")

    def run(self, name: str, gpus: int = 0, **fields: Any) -> Answer:
        """POST /replicaSet with the busybox image."""
        body = {"imageName": "busybox:test", "replicaSetName": name, "gpuCount": gpus, **fields}
        return self.call("POST", "/replicaSet", body)

    def begin(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> str:
        """Send a command without waiting for its outcome; the operation's id."""
        asked = {"Prefer": "respond-async", **(headers or {})}
        answer = self.call(method, path, body, asked)
        assert answer.status == 202, answer
        return str(answer.ok()["operationId"])

    def ended(self, operation_id: str) -> dict[str, Any]:
        """An operation, once it has ended."""

        def look() -> dict[str, Any] | None:
            data: dict[str, Any] = self.get(f"/operations/{operation_id}").ok()
            return None if data["state"] == "running" else data

        found = eventually(look)
        assert found is not None
        return found

    def shell(self, name: str, script: str) -> str:
        """What a script prints in a container; it must end well."""
        body = {"cmd": ["sh", "-c", script]}
        data = self.call("POST", f"/replicaSet/{name}/execute", body).ok()
        assert data["exitCode"] == 0, data
        return str(data["stdout"])

    def cli(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Run `gpuledger ARGS` against it."""
        return subprocess.run(
            [sys.executable, "-m", "service", *args],
            capture_output=True,
            text=True,
            env={**self._env, "GPULEDGER_SERVER": self.url},
            timeout=120,
        )

    def check(self) -> "subprocess.CompletedProcess[str]":
        """`gpuledger check`, beside the running service or without it; in this process, as to
        start one takes longer than to look."""
        args = ["check", *self.common_flags]
        surroundings = Surroundings({**self._env}, "test", False, monotonic, lambda: "key")
        done = CliRunner().invoke(build_app(), args, obj=surroundings)
        return subprocess.CompletedProcess(args, done.exit_code, done.stdout, done.stderr)

    def last_seq(self) -> int:
        """How many records the ledger holds, as the service says."""
        components = self.page("/readyz").json()["data"]["components"]
        return int(components["ledger"]["detail"].split()[0])

    def leases(self) -> tuple[int, int]:
        """How many GPUs and host ports are in use."""
        gpus = self.get("/resources/gpus").ok()["gpus"]
        return sum(gpus.values()), len(self.get("/resources/ports").ok()["ports"]["UsedPortSet"])

    def answers(self) -> dict[str, bytes]:
        """The body of every GET there is to make, by path: to be compared byte for byte."""
        fixed = ("/replicaSet", "/volumes", "/resources/gpus", "/resources/ports", "/node")
        operations = self.get("/operations?limit=1000").ok()["operations"]
        paths = {*fixed, "/operations?limit=1000"}
        for operation in operations:
            kind = "volumes" if operation["kind"] == "volume" else "replicaSet"
            one = f"/{kind}/{operation['name']}"
            paths |= {f"/operations/{operation['id']}", one, f"{one}/history"}
        return {path: self.page(f"/api/v1{path}").content for path in sorted(paths)}

    def records(self) -> list[Record]:
        """All records of its ledger, read beside it."""
        settings = Settings.from_mapping(
            {}, data_dir=self.data_dir, docker=self.docker, node="test", gpus="none"
        )

        async def read() -> list[Record]:
            found: list[Record] = []
            async with visit_ledger(settings) as ledger:
                async for entries in ledger.read(0, await ledger.last_seq()):
                    found += [decode(entry.body) for entry in entries]
            return found

        return asyncio.run(read())
