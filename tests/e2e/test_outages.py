"""Docker away, the ledger away: commands say so, nothing is promised, and all goes on after."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest

from tests.e2e.conftest import Stubborn, serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually, is_alive

COMMANDS = [
    ("POST", "/replicaSet", {"imageName": "busybox:test", "replicaSetName": "bar", "gpuCount": 1}),
    ("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 2}}),
    ("PATCH", "/replicaSet/foo/stop", {}),
    ("POST", "/replicaSet/foo/execute", {"cmd": ["true"]}),
    ("DELETE", "/replicaSet/foo", {}),
    ("POST", "/volumes", {"name": "disk", "size": "32MB"}),
]

TWO_GPUS = {"gpuPatch": {"gpuCount": 2}, "cmd": ["sleep", "1000"]}
"""A patch of a stubborn one, whose stop it waits for, to one that is not."""

ANSWERED_S_MAX = 10.0
"""Docker is asked for two seconds at most; a call of its client would wait for a minute."""


def readiness(service: ServiceProcess) -> int:
    """The status of /readyz."""
    return service.page("/readyz").status_code


def all_refused(service: ServiceProcess, code: int, word: str) -> None:
    """Every command is answered 503, says when to try again, and leaves nothing behind."""
    before = service.answers()
    for method, path, body in COMMANDS:
        service.call(method, path, body).refused(code, 503, word)
    assert service.answers() == before


def test_a_service_that_never_saw_docker(tmp_path: Path, dockerd: PrivateDockerd) -> None:
    dead = ServiceProcess(tmp_path / "data", f"unix://{tmp_path}/nobody.sock")
    with dead as service:
        assert any("not there" in line for line in service.banner), service.banner
        before = service.last_seq()
        all_refused(service, 1104, "Docker does not answer")
        assert service.last_seq() == before
        assert service.leases() == (0, 0)
        assert service.get("/replicaSet").ok()["replicaSets"] == []
        ready = service.page("/readyz")
        assert ready.status_code == 503
        assert ready.json()["data"]["components"]["docker"]["ok"] is False
        assert service.page("/healthz").status_code == 200
    with serving(tmp_path / "data", dockerd) as service:
        service.run("foo", 1).ok()
        assert readiness(service) == 200


@pytest.fixture
def away(service: ServiceProcess, dockerd: PrivateDockerd) -> Iterator[ServiceProcess]:
    """A service with a container, whose Docker was killed."""
    service.run("foo", 1, containerPorts=["22"]).ok()
    service.shell("foo", "echo kept > /root/f")
    dockerd.kill()
    eventually(lambda: readiness(service) == 503)
    yield service
    dockerd.start()


def test_docker_goes_and_comes_back(away: ServiceProcess, dockerd: PrivateDockerd) -> None:
    service = away
    seq = service.last_seq()
    all_refused(service, 1104, "Docker does not answer")
    assert service.last_seq() == seq
    assert service.leases() == (1, 1)
    dockerd.start()
    eventually(lambda: readiness(service) == 200)
    service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 2}}).ok()
    assert service.shell("foo", "cat /root/f") == "kept\n"
    service.run("bar", 2).ok()
    assert service.leases() == (4, 1)
    assert service.check().returncode == 0


def test_an_operation_that_docker_died_under_ends_when_it_is_back(
    service: ServiceProcess, dockerd: PrivateDockerd, stubborn: Stubborn
) -> None:
    service.run("foo", 1, **stubborn.fields).ok()
    service.shell("foo", "echo kept > /root/f")
    operation = service.begin("PATCH", "/replicaSet/foo", TWO_GPUS)
    dockerd.kill()
    stubborn.give_in()
    eventually(lambda: readiness(service) == 503)
    assert service.get(f"/operations/{operation}").ok()["state"] == "running"
    assert service.leases() == (2, 0)
    dockerd.start()
    ended = service.ended(operation)
    assert ended["state"] == "succeeded", ended
    assert service.shell("foo", "cat /root/f") == "kept\n"
    assert service.leases() == (2, 0)
    assert service.check().returncode == 0


def test_an_engine_that_hangs_is_waited_for(
    service: ServiceProcess, dockerd: PrivateDockerd, stubborn: Stubborn
) -> None:
    service.run("foo", 1, **stubborn.fields).ok()
    assert dockerd.pid is not None
    operation = service.begin("PATCH", "/replicaSet/foo", TWO_GPUS)
    os.kill(dockerd.pid, signal.SIGSTOP)
    try:
        all_refused_within(service, ANSWERED_S_MAX)
        assert readiness(service) == 503
        assert service.get(f"/operations/{operation}").ok()["state"] == "running"
        assert service.leases() == (2, 0)
    finally:
        stubborn.give_in()
        os.kill(dockerd.pid, signal.SIGCONT)
    assert service.ended(operation)["state"] == "succeeded"
    assert service.leases() == (2, 0)
    assert service.check().returncode == 0


def all_refused_within(service: ServiceProcess, seconds: float) -> None:
    """An engine that hangs keeps no caller hanging, also while an operation waits for it."""
    eventually(lambda: readiness(service) == 503)
    begun = monotonic()
    service.run("bar").refused(1104, 503, "Docker does not answer")
    assert monotonic() - begun < seconds


def test_nats_server_dies_and_no_acknowledged_command_is_lost(service: ServiceProcess) -> None:
    service.run("foo", 0).ok()

    def send(number: int) -> tuple[str, int]:
        headers = {"Prefer": "respond-async", "Idempotency-Key": f"exec-{number}"}
        body = {"cmd": ["sh", "-c", f"echo {number} >> /root/done"]}
        answer = service.call("POST", "/replicaSet/foo/execute", body, headers)
        if answer.status != 202:
            assert (answer.code, answer.status) == (1105, 503), answer
            return "", number
        return str(answer.ok()["operationId"]), number

    first = service.nats_pid
    with ThreadPoolExecutor(4) as clients:
        sent = [clients.submit(send, number) for number in range(60)]
        eventually(lambda: sum(one.done() for one in sent) > 10)
        os.kill(first, signal.SIGKILL)
        answers = [one.result() for one in sent]
    eventually(lambda: not is_alive(first) and service.nats_pid != first)
    acknowledged = {operation: number for operation, number in answers if operation}
    assert len(acknowledged) > 10
    for operation in acknowledged:
        assert service.ended(operation)["state"] == "succeeded"
    # Those that were not acknowledged are sent again, with their keys: each happens once.
    for operation, number in answers:
        if not operation:
            assert service.ended(send(number)[0])["state"] == "succeeded"
    done = service.shell("foo", "cat /root/done").split()
    assert sorted(map(int, done)) == list(range(60))
    eventually(lambda: readiness(service) == 200)
    assert service.check().returncode == 0
    service.crash()
    stored = {record.command_id for record in service.records()}
    assert set(acknowledged) <= stored


def test_a_ledger_that_does_not_answer_promises_nothing(service: ServiceProcess) -> None:
    service.run("foo", 1).ok()
    last = service.last_seq()
    os.kill(service.nats_pid, signal.SIGSTOP)
    try:
        body = {"imageName": "busybox:test", "replicaSetName": "bar", "gpuCount": 1}
        key = {"Idempotency-Key": "once"}
        service.call("POST", "/replicaSet", body, key).refused(1105, 503, "ledger")
        assert readiness(service) == 503
        # Reads go on, and nothing is leased that was not stored.
        assert service.get("/replicaSet/foo").code == 200
        assert service.leases() == (1, 0)
        assert service.get("/replicaSet/bar").code == 1016
    finally:
        os.kill(service.nats_pid, signal.SIGCONT)
    eventually(lambda: readiness(service) == 200)
    # What became of it is for the ledger to say; sent again it is the same command once.
    assert service.call("POST", "/replicaSet", body, key).ok() == {"name": "bar-1"}
    assert service.leases() == (2, 0)
    runs = [r for r in service.records()[last:] if r.name == "bar" and r.verb == "run"]
    assert len(runs) == 1
    assert service.check().returncode == 0


def test_nats_server_goes_when_the_service_is_killed(service: ServiceProcess) -> None:
    child = service.nats_pid
    service.kill()
    eventually(lambda: not is_alive(child))
    service.start()
    assert readiness(service) == 200
