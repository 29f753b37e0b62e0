"""Sent twice, sent without waiting, sent at once: what a caller may rely on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

RUN = {"imageName": "busybox:test", "replicaSetName": "foo", "gpuCount": 1}


@pytest.fixture(autouse=True)
def all_gone_again(shared: ServiceProcess) -> Iterator[None]:
    """Leave nothing to the next test, however this one ended."""
    yield
    for row in shared.get("/replicaSet").ok()["replicaSets"]:
        shared.call("DELETE", f"/replicaSet/{row['name']}").ok()


def operations_of(service: ServiceProcess, name: str) -> list[dict[str, Any]]:
    """All operations of a name, newest first."""
    found: list[dict[str, Any]] = service.get(f"/operations?name={name}").ok()["operations"]
    return found


def test_the_same_key_is_the_same_command_once(shared: ServiceProcess) -> None:
    key = {"Idempotency-Key": "3f1c-run"}
    first = shared.call("POST", "/replicaSet", RUN, key)
    seq = shared.last_seq()
    assert shared.call("POST", "/replicaSet", RUN, key) == first
    # The same request in another spelling is the same request.
    spelled = {**dict(reversed(RUN.items())), "env": None}
    assert shared.call("POST", "/replicaSet", spelled, key) == first
    shared.crash()
    assert shared.call("POST", "/replicaSet", RUN, key) == first
    assert shared.last_seq() == seq
    assert len(operations_of(shared, "foo")) == 1
    assert shared.leases() == (1, 0)
    other = shared.call("POST", "/replicaSet", {**RUN, "gpuCount": 2}, key)
    other.refused(1101, 422, "Idempotency-Key")
    shared.call("DELETE", "/replicaSet/foo", {}, key).refused(1101, 422)
    assert shared.last_seq() == seq


def test_the_same_key_after_a_failure_is_the_same_failure(shared: ServiceProcess) -> None:
    key = {"Idempotency-Key": "3f1c-fail"}
    body = {**RUN, "replicaSetName": "bad", "binds": [{"src": "/no/such", "dest": "/mnt"}]}
    failed = shared.call("POST", "/replicaSet", body, key)
    failed.refused(1004, 422, "/no/such")
    seq = shared.last_seq()
    assert shared.call("POST", "/replicaSet", body, key) == failed
    assert shared.last_seq() == seq


def test_a_refused_command_does_not_use_its_key_up(shared: ServiceProcess) -> None:
    key = {"Idempotency-Key": "3f1c-refused"}
    body = {**RUN, "replicaSetName": "later", "gpuCount": 2}
    shared.run("holder", 3).ok()
    shared.call("POST", "/replicaSet", body, key).refused(1013, 409)
    shared.call("DELETE", "/replicaSet/holder").ok()
    assert shared.call("POST", "/replicaSet", body, key).ok() == {"name": "later-1"}


def test_the_same_key_from_many_at_once(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    shared.run("many").ok()
    key = {"Idempotency-Key": "3f1c-many"}
    body = {"cmd": ["sh", "-c", "echo ran | tee -a /root/runs"]}
    with ThreadPoolExecutor(8) as clients:
        sent = [
            clients.submit(shared.call, "POST", "/replicaSet/many/execute", body, key)
            for _ in range(16)
        ]
        answers = [one.result() for one in sent]
    assert {answer.ok()["stdout"] for answer in answers} == {"ran\n"}
    assert shared.shell("many", "cat /root/runs") == "ran\n"


def test_respond_async(shared: ServiceProcess) -> None:
    body = {**RUN, "replicaSetName": "async", "cmd": ["sleep", "1000"]}
    headers = {"Prefer": "respond-async", "Content-Type": "application/json"}
    answer = shared.call("POST", "/replicaSet", body, headers)
    assert (answer.status, answer.code) == (202, 200)
    operation = answer.ok()["operationId"]
    # Whoever is told of an operation finds it, at once.
    found = shared.get(f"/operations/{operation}").ok()
    assert (found["verb"], found["name"], found["request"]) == ("run", "async", body)
    busy = shared.call("PATCH", "/replicaSet/async/stop")
    assert busy.code in (200, 1100), busy
    ended = shared.ended(operation)
    assert (ended["state"], ended["code"]) == ("succeeded", 200)
    assert ended["result"] == {"name": "async-1"}
    assert [step["text"] for step in ended["steps"]] == [
        "image busybox:test is there",
        "async-1 created",
        "async-1 started",
    ]


def test_location_and_a_limited_wait(shared: ServiceProcess) -> None:
    shared.run("slow").ok()
    body = {"cmd": ["sh", "-c", "until [ -e /root/end ]; do sleep 0.1; done"]}
    response = shared.send("POST", "/replicaSet/slow/execute", body, {"Prefer": "wait=1"})
    assert response.status_code == 202
    assert response.headers["Preference-Applied"] == "wait=1"
    location = response.headers["Location"]
    assert location == f"/api/v1/operations/{response.json()['data']['operationId']}"

    def state() -> str:
        return str(shared.page(location).json()["data"]["state"])

    assert state() == "running"
    shared.shell("slow", "touch /root/end")
    eventually(lambda: state() == "succeeded")


def test_one_operation_on_a_name_at_a_time(shared: ServiceProcess) -> None:
    shared.run("one", 1).ok()
    with ThreadPoolExecutor(6) as clients:
        sent = [clients.submit(shared.call, "PATCH", "/replicaSet/one", {}) for _ in range(6)]
        answers = [one.result() for one in sent]
    codes = {answer.code for answer in answers}
    assert codes <= {200, 1100}, answers
    done = [answer for answer in answers if answer.code == 200]
    assert done
    versions = len(shared.get("/replicaSet/one/history").ok()["history"])
    assert versions == 1 + len(done)
    assert shared.leases() == (1, 0)
    assert shared.check().returncode == 0


def test_a_caller_reads_its_own_write(shared: ServiceProcess) -> None:
    for count in range(1, 5):
        shared.run(f"own{count}", 1, containerPorts=["22"]).ok()
        assert shared.leases() == (count, count)
        assert shared.get(f"/replicaSet/own{count}").code == 200
    for count in range(4, 0, -1):
        shared.call("PATCH", f"/replicaSet/own{count}/stop").ok()
        assert shared.leases() == (count - 1, count - 1)


def test_many_names_at_once_get_gpus_of_their_own(
    shared: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    names = [f"crowd{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda name: shared.run(name, 1, containerPorts=["1"]), names))
    codes = sorted(answer.code for answer in answers)
    assert codes == [200] * 4 + [1013] * 4
    rows = shared.get("/replicaSet").ok()["replicaSets"]
    assert len({gpu for row in rows for gpu in row["gpus"]}) == 4
    assert len({port["hostPort"] for row in rows for port in row["ports"]}) == 4
    with dockerd.client() as client:
        running = {c.name.removesuffix("-1") for c in client.containers.list()}
    assert running == {row["name"] for row in rows}
    assert shared.check().returncode == 0
