"""SIGTERM and SIGINT: what is under way comes to rest, everybody is answered, it ends in time."""

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Stubborn, serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually, is_alive

STOPS_WITHIN_S = 25.0
"""It ends itself after 14 s; a thread that waits for Docker would take minutes."""
STEP_STOPS_WITHIN_S = 9.5
"""Where nothing is executed: two seconds for the step, and the closing. An execution gets ten."""
AT_ONCE_S = 9.0


@contextmanager
def still(pid: int | None) -> Iterator[None]:
    """A process that hangs: it is there, and does not answer."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def in_container(dockerd: PrivateDockerd, script: str) -> int:
    """Beside the service, which may be stopping."""
    with dockerd.client() as client:
        code: int = client.containers.get("foo-1").exec_run(["sh", "-c", script])[0]
    return code


def execute(
    service: ServiceProcess, callers: ThreadPoolExecutor, dockerd: PrivateDockerd, script: str
) -> "Future[httpx.Response]":
    """A command that a caller waits for, and that has begun."""
    body = {"cmd": ["sh", "-c", f"touch /root/begun; {script}"]}
    sent = callers.submit(service.send, "POST", "/replicaSet/foo/execute", body)
    eventually(lambda: in_container(dockerd, "test -e /root/begun") == 0)
    return sent


def told(service: ServiceProcess, number: int = signal.SIGTERM) -> httpx.Response:
    """Tell it to stop; the first answer that says so."""
    os.kill(service.pid, number)

    def look() -> httpx.Response | None:
        body = {"imageName": "busybox:test", "replicaSetName": "late"}
        response = service.send("POST", "/replicaSet", body, {"Prefer": "respond-async"})
        return response if response.status_code == 503 else None

    answer = eventually(look)
    assert answer is not None
    return answer


def operation_of(response: httpx.Response) -> str:
    """Of an answer that names the operation which goes on."""
    assert response.status_code == 202, response.text
    operation: str = response.json()["data"]["operationId"]
    assert response.headers["Location"] == f"/api/v1/operations/{operation}"
    return operation


def names(service: ServiceProcess) -> list[Any]:
    return [row["name"] for row in service.get("/replicaSet").ok()["replicaSets"]]


def test_an_execution_comes_to_its_end_and_nothing_new_is_taken(
    service: ServiceProcess, dockerd: PrivateDockerd, callers: ThreadPoolExecutor
) -> None:
    service.run("foo", 1).ok()
    script = "while [ ! -e /root/go ]; do sleep 0.1; done; echo said; exit 5"
    sent = execute(service, callers, dockerd, script)
    refused = told(service)
    assert int(refused.headers["Retry-After"]) >= 1
    assert "the service is stopping" in refused.json()["msg"]
    assert "foo" in names(service)
    assert in_container(dockerd, "touch /root/go") == 0
    answer = sent.result().json()
    assert (answer["code"], answer["data"]["exitCode"]) == (200, 5)
    assert answer["data"]["stdout"] == "said\n"
    assert service.wait() == 0
    assert service.check().returncode == 0
    service.start()
    operations = service.get("/operations?limit=9").ok()["operations"]
    states = [one["state"] for one in operations if one["verb"] == "execute"]
    assert states == ["succeeded"]


def test_a_caller_learns_how_to_ask_after_the_restart(
    service: ServiceProcess, callers: ThreadPoolExecutor, stubborn: Stubborn
) -> None:
    service.run("foo", 1, **stubborn.fields).ok()
    sent = callers.submit(service.send, "PATCH", "/replicaSet/foo/stop")
    eventually(lambda: service.get("/operations?limit=1").ok()["operations"][0]["verb"] == "stop")
    begun = monotonic()
    assert service.stop() == 0
    assert monotonic() - begun < STEP_STOPS_WITHIN_S
    operation = operation_of(sent.result())
    stubborn.give_in()
    service.start()
    assert service.ended(operation)["state"] == "succeeded"
    assert service.leases() == (0, 0)
    assert service.check().returncode == 0


def test_an_execution_without_end_is_left_in_time_while_docker_hangs(
    service: ServiceProcess, dockerd: PrivateDockerd, callers: ThreadPoolExecutor
) -> None:
    service.run("foo", 1).ok()
    executing = execute(service, callers, dockerd, "sleep 1000")
    with still(dockerd.pid):
        begun = monotonic()
        assert service.stop() == 0
        assert 10 <= monotonic() - begun < STOPS_WITHIN_S
        operation = operation_of(executing.result())
    service.start()
    ended = service.ended(operation)
    assert (ended["state"], ended["reason"]) == ("failed", "interrupted")
    assert service.check().returncode == 0


def test_it_ends_soon_while_docker_hangs_in_another_step(
    service: ServiceProcess,
    dockerd: PrivateDockerd,
    callers: ThreadPoolExecutor,
    stubborn: Stubborn,
) -> None:
    service.run("foo", 1, **stubborn.fields).ok()
    stopping = callers.submit(service.send, "PATCH", "/replicaSet/foo/stop")
    operation = operation_of_running(service)
    with still(dockerd.pid):
        begun = monotonic()
        assert service.stop() == 0
        assert monotonic() - begun < STEP_STOPS_WITHIN_S
        assert operation_of(stopping.result()) == operation
        stubborn.give_in()
    service.start()
    assert service.ended(operation)["state"] == "succeeded"


def operation_of_running(service: ServiceProcess) -> str:
    def look() -> str | None:
        newest = service.get("/operations?limit=1").ok()["operations"][0]
        return str(newest["id"]) if newest["state"] == "running" else None

    return eventually(look) or ""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["term", "int"]
)
def test_a_second_signal_ends_it_at_once(
    service: ServiceProcess,
    dockerd: PrivateDockerd,
    callers: ThreadPoolExecutor,
    number: signal.Signals,
    code: int,
) -> None:
    service.run("foo", 1).ok()
    sent = execute(service, callers, dockerd, "sleep 1000")
    child = service.nats_pid
    told(service, number)
    begun = monotonic()
    os.kill(service.pid, number)
    assert service.wait() == code
    assert monotonic() - begun < AT_ONCE_S
    with pytest.raises(httpx.TransportError):
        sent.result()
    eventually(lambda: not is_alive(child))
    service.start()
    assert service.check().returncode == 0


def test_a_signal_ends_a_start_that_hangs(tmp_path: Path, dockerd: PrivateDockerd) -> None:
    with serving(tmp_path / "data", dockerd) as service:
        assert service.stop() == 0
        with still(dockerd.pid), subprocess.Popen(
            service.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as starting:
            eventually(lambda: (service.data_dir / "nats.json").exists())
            begun = monotonic()
            starting.send_signal(signal.SIGTERM)
            said, _ = starting.communicate(timeout=60)
            assert (starting.returncode, said) == (0, "")
            assert monotonic() - begun < STEP_STOPS_WITHIN_S
        service.start()
