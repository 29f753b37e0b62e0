"""kill -9 in the middle of an operation: after the start it ends, and all is accounted for."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tests.e2e.conftest import serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

# Of a patch. By directory: new one created, old one stopped, its disk kept, carried, new one
# started, old one gone. By commit, what is kept need not be carried.
PATCH_STEPS = {"upper": 6, "commit": 5}


@pytest.fixture(scope="module", params=PATCH_STEPS)
def shared(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    dockerd: PrivateDockerd,
) -> Iterator[ServiceProcess]:
    """A service for the whole file, once for each way to carry a system disk."""
    flags = ["--system-disk", request.param]
    with serving(tmp_path_factory.mktemp("shared") / "data", dockerd, flags=flags) as running:
        yield running


@pytest.fixture(autouse=True)
def all_gone_again(shared: ServiceProcess) -> Iterator[None]:
    """Leave nothing to the next test, however this one ended."""
    yield
    for row in shared.get("/replicaSet").ok()["replicaSets"]:
        shared.call("DELETE", f"/replicaSet/{row['name']}").ok()


def kill_after(service: ServiceProcess, operation: str, steps: int) -> None:
    """Kill the service as soon as the operation shows so many steps, or has ended; start it."""

    def look() -> bool:
        data = service.get(f"/operations/{operation}").ok()
        return len(data["steps"]) >= steps or data["state"] != "running"

    if steps:
        eventually(look)
    service.crash()


def accounted_for(service: ServiceProcess, dockerd: PrivateDockerd, name: str) -> None:
    """One container of the name, as the ledger has it, and `check` finds nothing."""
    current = service.get(f"/replicaSet/{name}").ok()["info"]["containerName"]
    with dockerd.client() as client:
        seen = [c.name for c in client.containers.list(all=True, ignore_removed=True)]
    assert seen == [current]
    checked = service.check()
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_patch(
    request: pytest.FixtureRequest, shared: ServiceProcess, dockerd: PrivateDockerd, steps: int
) -> None:
    carry = request.node.callspec.params["shared"]
    name = f"patch{steps}"
    shared.run(name, 1, containerPorts=["22"]).ok()
    shared.shell(name, "echo mine > /root/f; rm /bin/wget")
    patch = {"gpuPatch": {"gpuCount": 2}}
    operation = shared.begin("PATCH", f"/replicaSet/{name}", patch)
    kill_after(shared, operation, steps)
    ended = shared.ended(operation)
    assert ended["state"] == "succeeded"
    assert ended["result"]["containerName"] == f"{name}-2"
    assert ("notCarried" in ended["result"]) == (carry == "commit")
    assert len(ended["steps"]) == PATCH_STEPS[carry], ended["steps"]
    assert shared.shell(name, "cat /root/f; ls /bin/wget 2>&1 | wc -l") == "mine\n1\n"
    assert shared.leases() == (2, 1)
    accounted_for(shared, dockerd, name)
    shared.call("PATCH", f"/replicaSet/{name}/rollback", {"version": 1}).ok()
    assert shared.leases() == (1, 1)


def test_a_patch_killed_again_and_again(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    shared.run("often", 1).ok()
    shared.shell("often", "echo mine > /root/f")
    operation = shared.begin("PATCH", "/replicaSet/often", {"gpuPatch": {"gpuCount": 2}})
    for _ in range(4):
        shared.crash()
    assert shared.ended(operation)["state"] == "succeeded"
    assert shared.shell("often", "cat /root/f") == "mine\n"
    accounted_for(shared, dockerd, "often")


@pytest.mark.parametrize("steps", [1])
def test_a_run(shared: ServiceProcess, dockerd: PrivateDockerd, steps: int) -> None:
    name = f"run{steps}"
    body = {"imageName": "busybox:test", "replicaSetName": name, "gpuCount": 2}
    # Each start of the command leaves a line: a container is not run a second time.
    command = ["sh", "-c", "echo started >> /root/starts; exec sleep 1000"]
    operation = shared.begin("POST", "/replicaSet", {**body, "cmd": command})
    kill_after(shared, operation, steps)
    assert shared.ended(operation)["result"] == {"name": f"{name}-1"}
    assert shared.shell(name, "cat /root/starts") == "started\n"
    assert shared.leases() == (2, 0)
    accounted_for(shared, dockerd, name)


@pytest.mark.parametrize("steps", [1])
def test_a_delete(shared: ServiceProcess, dockerd: PrivateDockerd, steps: int) -> None:
    shared.run("foo", 2, containerPorts=["22"]).ok()
    shared.call("PATCH", "/replicaSet/foo", {}).ok()
    operation = shared.begin("DELETE", "/replicaSet/foo")
    kill_after(shared, operation, steps)
    assert shared.ended(operation)["state"] == "succeeded"
    assert shared.leases() == (0, 0)
    with dockerd.client() as client:
        assert client.containers.list(all=True, ignore_removed=True) == []
        assert [t for i in client.images.list() for t in i.tags] == ["busybox:test"]
    assert shared.check().returncode == 0


def test_a_run_that_fails(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    fields = {"cmd": ["/no/such"], "containerPorts": ["22"], "dataDisk": {"size": "32MB"}}
    body = {"imageName": "busybox:test", "replicaSetName": "bad", "gpuCount": 2, **fields}
    operation = shared.begin("POST", "/replicaSet", body)
    kill_after(shared, operation, 2)
    ended = shared.ended(operation)
    assert (ended["state"], ended["code"]) == ("failed", 1004)
    assert shared.leases() == (0, 0)
    assert shared.get("/volumes").ok()["volumes"] == []
    with dockerd.client() as client:
        assert client.containers.list(all=True, ignore_removed=True) == []
        assert client.volumes.list() == []
    assert shared.check().returncode == 0


def test_an_execution_is_not_done_twice(shared: ServiceProcess) -> None:
    shared.run("exec").ok()
    body = {"cmd": ["sh", "-c", "echo ran >> /root/runs; sleep 1000"]}
    operation = shared.begin("POST", "/replicaSet/exec/execute", body)
    eventually(lambda: "ran" in shared.shell("exec", "cat /root/runs 2>&1 || true"))
    shared.crash()
    ended = shared.ended(operation)
    assert (ended["state"], ended["reason"], ended["code"]) == ("failed", "interrupted", 1006)
    assert shared.shell("exec", "cat /root/runs") == "ran\n"
    assert shared.check().returncode == 0


@pytest.mark.parametrize("size", ["96MB", "24MB"])
def test_a_resize(shared: ServiceProcess, size: str) -> None:
    name = f"disk{size}"
    shared.call("POST", "/volumes", {"name": name, "size": "48MB"}).ok()
    shared.run("user", binds=[{"src": f"{name}-1", "dest": "/data"}]).ok()
    shared.shell("user", "head -c 4000000 /dev/urandom > /data/f; md5sum /data/f > /data/sum")
    operation = shared.begin("PATCH", f"/volumes/{name}/size", {"size": size})
    shared.crash()
    assert shared.ended(operation)["result"] == {"name": f"{name}-2", "size": size}
    assert shared.shell("user", "md5sum -c /data/sum") == "/data/f: OK\n"
    assert shared.check().returncode == 0
    shared.call("DELETE", "/replicaSet/user").ok()
    shared.call("DELETE", f"/volumes/{name}").ok()


OTHERS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("commit", "POST", "/commit", {"newImageName": "kept:v2"}),
    ("stop", "PATCH", "/stop", {}),
    ("pause", "PATCH", "/pause", {}),
    ("restart", "PATCH", "/restart", {}),
]


@pytest.mark.parametrize(("verb", "method", "path", "body"), OTHERS)
def test_the_others(
    shared: ServiceProcess,
    dockerd: PrivateDockerd,
    verb: str,
    method: str,
    path: str,
    body: dict[str, Any],
) -> None:
    name = f"{verb}2"
    shared.run(name, 1).ok()
    operation = shared.begin(method, f"/replicaSet/{name}{path}", body)
    shared.crash()
    assert shared.ended(operation)["state"] == "succeeded"
    assert shared.leases() == (0 if verb == "stop" else 1, 0)
    accounted_for(shared, dockerd, name)


def send_and_hang_up(
    service: ServiceProcess, path: str, body: Any, until: Callable[[], object]
) -> None:
    """A caller that sends a command, waits until something is so, and is gone."""
    site = service.url.removeprefix("http://")
    host, _, port = site.partition(":")
    content = msgspec.json.encode(body)
    length = f"Content-Length: {len(content)}"
    head = f"POST /api/v1{path} HTTP/1.1\r\nHost: {site}\r\n{length}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + content)
        eventually(until)


def test_a_caller_that_goes_away(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    def operations(state: str) -> list[dict[str, Any]]:
        listed = shared.get("/operations?name=caller").ok()["operations"]
        return [one for one in listed if one["state"] == state]

    body = {"imageName": "busybox:test", "replicaSetName": "caller", "gpuCount": 1}
    send_and_hang_up(
        shared, "/replicaSet", body, lambda: operations("running") or operations("succeeded")
    )
    eventually(lambda: operations("succeeded"))
    script = "until [ -e /root/end ]; do sleep 0.1; done; echo done > /root/f"
    command = {"cmd": ["sh", "-c", script]}
    path = "/replicaSet/caller/execute"
    send_and_hang_up(shared, path, command, lambda: operations("running"))
    [operation] = operations("running")
    shared.shell("caller", "touch /root/end")
    assert shared.ended(operation["id"])["result"]["exitCode"] == 0
    assert shared.shell("caller", "cat /root/f") == "done\n"
    accounted_for(shared, dockerd, "caller")
