"""Children of the bench: what is measured has a process of its own, with nothing else in it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

SERVES_ON = "gpuledger serves on "
STOP_TIMEOUT_S = 60.0
CHILD_TIMEOUT_S = 120.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

Command = Sequence[str]

REAL_SERVICE: Command = (sys.executable, "-m", "service", "serve")
"""`gpuledger serve` as users run it."""

SIMULATED_SERVICE: Command = (sys.executable, "-m", "tests.bench.served")
"""The same with a simulated engine."""


def run_child(module: str, *args: object, timeout_s: float = CHILD_TIMEOUT_S) -> Any:
    """Run a module of the bench to its end; what it printed, which is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{module}", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout)


class ServiceChild:
    """The service in a process of its own, from its start until it is told to stop."""

    def __init__(self, command: Command, data_dir: Path, *flags: str) -> None:
        own = ["--addr", "127.0.0.1:0", "--data-dir", str(data_dir), "--rate-limit", "0"]
        self._command = [*command, *own, "--waiting-limit", "0", *flags]
        self._log = data_dir.with_name(data_dir.name + ".log")
        self.port = 0
        self.start_s = 0.0
        """From the start of the process to the line that says it serves."""

    def __enter__(self) -> Self:
        begun = perf_counter()
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Line by line, so that the line is timed when it is written.
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(SERVES_ON):
                self.start_s = perf_counter() - begun
                self.port = int(line.rpartition(":")[2])
            if line.startswith("  volumes"):  # the last line of the banner
                return self
        raise RuntimeError(f"it does not serve:\n{self._log.read_text()[-4000:]}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=STOP_TIMEOUT_S)

    def resident_mib(self) -> float:
        """Memory of the service itself."""
        return _resident_mib(self._process.pid)

    def nats_resident_mib(self) -> float:
        """Memory of its nats-server."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(_resident_mib(int(child)) for child in children)


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * PAGE_BYTES / (1 << 20)
