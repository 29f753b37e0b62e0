"""The service as users run it: `gpuledger serve` in a process of its own, on a free port."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec


def own_ports() -> tuple[int, int]:
    """Host ports to lend that no other test process lends; all engines share this host's.

    Below the kernel's range for outgoing connections (32768), above those of `free_port`.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 32_000 + 50 * (worker % 15)
    return first, first + 49


SERVES_ON = "gpuledger serves on "
STOP_TIMEOUT_S = 30.0


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
        self._flags = ["--gpus", gpus, "--port-range", ports, *flags]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[str] | None = None
        self._log = data_dir.with_name(data_dir.name + ".log")
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

    def start(self) -> None:
        """Start, and return when it serves."""
        command = [sys.executable, "-m", "service", "serve", "--addr", "127.0.0.1:0"]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*command, *self.common_flags, *self._flags],
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

    def _end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(STOP_TIMEOUT_S)
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

    def log_tail(self, lines: int = 30) -> str:
        """The last lines that it logged."""
        return "\n".join(self._log.read_text().splitlines()[-lines:])

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """One request to the API; `content` sends bytes as they are."""
        response = self._http.request(
            method,
            f"{self.url}/api/v1{path}",
            headers={"Content-Type": "application/json", **(headers or {})},
            content=content if content is not None else msgspec.json.encode(body or {}),
        )
        answer = response.json()
        return Answer(response.status_code, answer["code"], answer["msg"], answer["data"])

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
        """`gpuledger check`, beside the running service or without it."""
        return self.cli("check", *self.common_flags)

    def last_seq(self) -> int:
        """How many records the ledger holds, as the service says."""
        components = self.page("/readyz").json()["data"]["components"]
        return int(components["ledger"]["detail"].split()[0])

    def leases(self) -> tuple[int, int]:
        """How many GPUs and host ports are in use."""
        gpus = self.get("/resources/gpus").ok()["gpus"]
        return sum(gpus.values()), len(self.get("/resources/ports").ok()["ports"]["UsedPortSet"])
