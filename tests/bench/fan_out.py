"""(s) Events to many readers: how many are delivered, how late, and what that costs in memory.

The delay is from the issue of a command to the arrival of its event, the sync to disk included,
at a pace that leaves the service idle in between. How many are delivered is measured with as many
commands as eight clients can send: with many readers, serving them is most of what is done.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec

from tests.bench.figures import Figure
from tests.bench.listeners import READY, Heard
from tests.bench.processes import CHILD_TIMEOUT_S, SIMULATED_SERVICE, ServiceChild, run_child
from tests.bench.served import IMAGE

LETTER = "s"
TITLE = "events to 1, 100 and 1,000 readers"

READERS = (1, 100, 1_000)
SETS = 16
CLIENTS = 8
SECONDS = 4.0
PACE_S = 0.1


def measure(folder: Path, rounds: int) -> list[Figure]:
    """All numbers of readers in turns, on one service."""
    figures: dict[tuple[int, str], list[float]] = {}
    with (
        ServiceChild(SIMULATED_SERVICE, folder / "events", "--log-level", "error") as service,
        httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=60) as http,
    ):
        names = [f"set{number}" for number in range(SETS)]
        for name in names:
            body = {"imageName": IMAGE, "replicaSetName": name}
            http.post("/api/v1/replicaSet", json=body).raise_for_status()
        for readers in READERS * rounds:
            paced = _heard(service.port, readers, lambda: _send(http, names[0]))
            found = {"p50": paced.p50_ms, "p99": paced.p99_ms}
            loaded = _heard(service.port, readers, lambda: _load(service.port, names))
            found |= {"rate": loaded.delivered / SECONDS, "memory": service.resident_mib()}
            for what, value in found.items():
                figures.setdefault((readers, what), []).append(value)
    made: list[Figure] = []
    for readers in READERS:
        who = f"{readers:,} reader{'s' if readers > 1 else ''}"
        made += [
            Figure(LETTER, f"{who}: delivered", figures[readers, "rate"], "/s"),
            Figure(LETTER, f"{who}: delay, p50", figures[readers, "p50"], "ms"),
            Figure(LETTER, f"{who}: delay, p99", figures[readers, "p99"], "ms"),
            Figure(LETTER, f"{who}: service afterwards", figures[readers, "memory"], "MiB"),
        ]
    return made


def _heard(port: int, readers: int, work: Callable[[], None]) -> Heard:
    """What readers hear while something is done."""
    command = [sys.executable, "-m", "tests.bench.listeners", "--port", str(port)]
    command += ["--readers", str(readers), "--seconds", str(SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listeners:
        assert listeners.stdout is not None
        if listeners.stdout.readline().strip() != READY:
            raise RuntimeError("the readers were not let in")
        worker = threading.Thread(target=work)
        worker.start()
        said, _ = listeners.communicate(timeout=CHILD_TIMEOUT_S)
        worker.join()
    return msgspec.json.decode(said, type=Heard)


def _send(http: httpx.Client, name: str) -> None:
    """Commands at an even pace, for the time of a measurement."""
    for _ in range(round(SECONDS / PACE_S) - 1):
        time.sleep(PACE_S)
        http.post(
            f"/api/v1/replicaSet/{name}/execute",
            json={"cmd": ["true"]},
            headers={"Prefer": "respond-async"},
        ).raise_for_status()


def _load(port: int, names: list[str]) -> None:
    """As many commands as there can be, for that time."""
    arguments = ("--port", port, "--clients", CLIENTS, "--seconds", SECONDS - 0.5)
    run_child("load", *arguments, "--names", ",".join(names))
