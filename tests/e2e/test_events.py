"""A reader of events, and a webhook, beside a service that dies, comes back and is told to stop."""

import base64
import json
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Self

from tests.kit.host_ports import free_port
from tests.kit.service_process import ServiceProcess, eventually

NO_DOCKER = "unix:///nonexistent/docker.sock"
STOPS_WITHIN_S = 12.0
"""A service that waits for who listens ends itself after 14 s."""
PATIENCE_S = 120.0


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


class Receiver:
    """A receiver on loopback that takes everything, and keeps what it got by its id."""

    def __init__(self) -> None:
        self.got: dict[str, dict[str, str]] = {}
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                got[self.headers["Webhook-Id"]] = dict(self.headers)
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_receiver_is_called_through_a_crash(tmp_path: Path) -> None:
    """Every event there ever was comes to it, and the command line says so."""

    def service(gpus: int) -> ServiceProcess:
        return ServiceProcess(tmp_path / "data", NO_DOCKER, gpus=f"simulated:{gpus}")

    with Receiver() as receiver:
        with service(2) as first:
            body = {"webhookName": "ci", "url": receiver.url, "after": 0}
            secret = first.call("POST", "/webhooks", body).ok()["secret"]
            first.kill()
        with service(3) as second:
            ids = set(places(second.cli("events", "--json").stdout.splitlines()))
            eventually(lambda: ids <= receiver.got.keys())
            pinged = second.cli("webhook", "ping", "ci")
            shown = second.get("/webhooks/ci").ok()
            metrics = second.page("/metrics").text
    assert pinged.returncode == 0
    assert (shown["delivery"]["dead"], shown["delivery"]["trouble"]) == (0, "")
    for gauge in ("pending", "dead_letters", "in_trouble"):
        assert f'gpuledger_webhook_{gauge}{{webhook="ci"}} 0.0' in metrics
    one = receiver.got["1.0"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert one["User-Agent"].startswith("gpuledger/")
    assert len(key) == 32
    assert secret not in (tmp_path / "data" / "webhooks.key").read_text()
    log = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*.blk"))
    assert b"webhook.registered.v1" in log
    assert key not in log
    assert secret.encode() not in log
