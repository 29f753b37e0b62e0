"""A reader of events beside a service that dies, comes back and is told to stop."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic

from tests.kit.fixtures import free_port
from tests.kit.service_process import ServiceProcess

NO_DOCKER = "unix:///nonexistent/docker.sock"
STOPS_WITHIN_S = 6.0
PATIENCE_S = 30.0


def places(lines: list[str]) -> list[str]:
    return [json.loads(line)["id"] for line in lines]


def test_a_reader_goes_on_through_a_crash(tmp_path: Path) -> None:
    """Every event comes once; a service that stops is not held up by who listens."""
    flags = ["--addr", f"127.0.0.1:{free_port()}"]

    def service(gpus: int) -> ServiceProcess:
        return ServiceProcess(
            tmp_path / "data", NO_DOCKER, gpus=f"simulated:{gpus}", flags=flags
        )

    with service(2) as first:
        command = [sys.executable, "-m", "service", "--server", first.url, "events", "--json"]
        with subprocess.Popen(
            [*command, "-f", "--after", "0"], stdout=subprocess.PIPE, text=True
        ) as reader:
            assert reader.stdout is not None
            limit = threading.Timer(PATIENCE_S, reader.kill)
            limit.start()
            lines = [reader.stdout.readline() for _ in range(3)]
            first.kill()
            with service(3) as second:
                lines.append(reader.stdout.readline())
                told = subprocess.run(command, capture_output=True, text=True, check=True)
                begun = monotonic()
                assert second.stop() == 0
                assert monotonic() - begun < STOPS_WITHIN_S
            reader.send_signal(signal.SIGINT)
            rest, _ = reader.communicate(timeout=PATIENCE_S)
            limit.cancel()
    assert reader.returncode == 130
    assert rest == ""
    assert places(lines) == places(told.stdout.splitlines())
    assert json.loads(lines[3])["type"] == "gpu.appeared.v1"
