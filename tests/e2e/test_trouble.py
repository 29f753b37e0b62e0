"""What Docker refuses is undone to the last GPU and port, and told in Docker's own words."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess

HELD: dict[str, Any] = {"gpus": 2, "containerPorts": ["22", "80"]}
"""What every run here asks for beside what it fails by."""

# What a run fails by: fields, HTTP status, reason, Docker's words.
REFUSED_BY_DOCKER: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("no such command", {"cmd": ["/no/such"]}, 422, "bad_command", "No such file or directory"),
    ("a folder as command", {"cmd": ["/root"]}, 422, "bad_command", "Permission denied"),
    ("no such image", {"imageName": "nowhere.invalid/no:1"}, 422, "image_not_found", "nowhere.in"),
    (
        "no such host path",
        {"binds": [{"src": "/no/such", "dest": "/mnt"}]},
        422,
        "mount_failed",
        "bind source path does not exist: /no/such",
    ),
    ("too many CPUs", {"cpus": 4096}, 422, "bad_request", "Range of CPUs is from 0.01 to"),
    (
        "a mount inside /proc",
        {"binds": [{"src": "/usr", "dest": "/proc/sys"}]},
        422,
        "mount_failed",
        "cannot be mounted because it is inside /proc",
    ),
]


@pytest.fixture(autouse=True)
def all_gone_again(shared: ServiceProcess) -> Iterator[None]:
    """Leave nothing to the next test, however this one ended."""
    yield
    for row in shared.get("/replicaSet").ok()["replicaSets"]:
        shared.call("DELETE", f"/replicaSet/{row['name']}").ok()
    for row in shared.get("/volumes").ok()["volumes"]:
        shared.call("DELETE", f"/volumes/{row['name']}").ok()


@contextmanager
def listener(port: int) -> Iterator[None]:
    """Somebody else's server on a host port."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        server.listen()
        yield


def nothing_is_left(service: ServiceProcess, dockerd: PrivateDockerd) -> None:
    """No lease, no container, and no name that is still taken."""
    assert service.leases() == (0, 0)
    with dockerd.client() as client:
        assert client.containers.list(all=True) == []
    assert service.get("/replicaSet").ok()["replicaSets"] == []
    checked = service.check()
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("fields", "status", "reason", "words"),
    [case[1:] for case in REFUSED_BY_DOCKER],
    ids=[case[0] for case in REFUSED_BY_DOCKER],
)
def test_a_run_that_docker_refuses_leaves_nothing(
    shared: ServiceProcess,
    dockerd: PrivateDockerd,
    fields: dict[str, Any],
    status: int,
    reason: str,
    words: str,
) -> None:
    answer = shared.run("foo", **{**HELD, **fields})
    answer.refused(1004, status, words)
    assert answer.data["reason"] == reason
    failed = shared.get(f"/operations/{answer.data['operationId']}").ok()
    assert (failed["state"], failed["message"]) == ("failed", answer.msg)
    nothing_is_left(shared, dockerd)
    name = shared.run("foo", **HELD).ok()["name"]
    assert shared.shell("foo", "hostname; echo $CONTAINER_VERSION").split()[1] == name[4:]
    shared.call("DELETE", "/replicaSet/foo").ok()


def test_a_host_port_that_somebody_took_while_it_was_paused(
    shared: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    shared.run("foo", 1, containerPorts=["80"]).ok()
    (port,) = shared.get("/resources/ports").ok()["ports"]["details"]
    shared.call("PATCH", "/replicaSet/foo/pause").ok()
    with listener(port["hostPort"]):
        answer = shared.call("PATCH", "/replicaSet/foo/continue")
        assert (answer.status, answer.data["reason"]) == (409, "port_taken"), answer
        assert "address already in use" in answer.msg
        assert shared.leases()[1] == 1
        shared.call("PATCH", "/replicaSet/foo/restart").ok()
        (other,) = shared.get("/resources/ports").ok()["ports"]["details"]
        assert other["hostPort"] != port["hostPort"]
    shared.call("DELETE", "/replicaSet/foo").ok()
    nothing_is_left(shared, dockerd)


def test_a_data_disk_goes_with_the_run_that_failed(
    shared: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    answer = shared.run("foo", 1, dataDisk={"size": "32MB"}, cmd=["/no/such"])
    answer.refused(1004, 422, "No such file")
    nothing_is_left(shared, dockerd)
    assert shared.get("/volumes").ok()["volumes"] == []
    with dockerd.client() as client:
        assert client.volumes.list() == []
    assert list((shared.data_dir / "volumes").glob("foo*")) == []
    shared.run("foo", 1, dataDisk={"size": "32MB"}).ok()
    shared.call("DELETE", "/replicaSet/foo").ok()
    shared.call("DELETE", "/volumes/foo").ok()


FAILING_PATCHES: list[tuple[str, dict[str, Any], str]] = [
    ("at create", {"gpuPatch": {"gpuCount": 3}, "cpus": 4096}, "Range of CPUs"),
    (
        "at create, by a bind",
        {
            "volumePatch": {
                "oldBind": {"src": "/usr", "dest": "/mnt"},
                "newBind": {"src": "/no/such", "dest": "/mnt"},
            }
        },
        "bind source path does not exist",
    ),
    (
        "at start",
        {
            "gpuPatch": {"gpuCount": 0},
            "volumePatch": {
                "oldBind": {"src": "/usr", "dest": "/mnt"},
                "newBind": {"src": "/usr", "dest": "/proc/sys"},
            },
        },
        "inside /proc",
    ),
]


@pytest.mark.parametrize(
    ("body", "words"), [c[1:] for c in FAILING_PATCHES], ids=[c[0] for c in FAILING_PATCHES]
)
@pytest.mark.parametrize("phase", ["running", "paused"])
def test_a_patch_that_fails_comes_back(
    shared: ServiceProcess, dockerd: PrivateDockerd, phase: str, body: dict[str, Any], words: str
) -> None:
    fields: dict[str, Any] = {"binds": [{"src": "/usr", "dest": "/mnt"}], "env": ["A=1"]}
    made = shared.run("foo", **HELD, **fields).ok()["name"]
    shared.shell("foo", "echo mine > /root/f; rm /bin/wget")
    if phase == "paused":
        shared.call("PATCH", "/replicaSet/foo/pause").ok()
    before = shared.get("/replicaSet/foo").ok(), shared.get("/resources/gpus").ok()
    ports = shared.get("/resources/ports").ok()
    with dockerd.client() as client:
        container = client.containers.get(made).id

    answer = shared.call("PATCH", "/replicaSet/foo", body)
    assert (answer.code, answer.status >= 400) == (1007, True), answer
    assert words in answer.msg

    assert (shared.get("/replicaSet/foo").ok(), shared.get("/resources/gpus").ok()) == before
    assert shared.get("/resources/ports").ok() == ports
    assert [row["phase"] for row in shared.get("/replicaSet").ok()["replicaSets"]] == [phase]
    with dockerd.client() as client:
        assert [c.id for c in client.containers.list(all=True)] == [container]
        assert [t for i in client.images.list() for t in i.tags] == ["busybox:test"]
    assert shared.check().returncode == 0
    if phase == "paused":
        shared.call("PATCH", "/replicaSet/foo/continue").ok()
    assert shared.shell("foo", "cat /root/f; ls /bin/wget 2>&1 | wc -l") == "mine\n1\n"
    shared.call("PATCH", "/replicaSet/foo", {}).ok()
    assert shared.shell("foo", "cat /root/f; echo $A") == "mine\n1\n"
    shared.call("DELETE", "/replicaSet/foo").ok()
    assert shared.leases() == (0, 0)


def test_a_stopped_one_whose_restart_fails_stays_stopped(
    shared: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    shared.run("foo", **HELD).ok()
    shared.shell("foo", "echo mine > /root/f")
    shared.call("PATCH", "/replicaSet/foo/stop").ok()
    shared.call("PATCH", "/replicaSet/foo", {"cpus": 4096}).refused(1007, 422, "Range of CPUs")
    assert shared.leases() == (0, 0)
    assert shared.check().returncode == 0
    shared.call("PATCH", "/replicaSet/foo/continue").refused(1019, 409)
    shared.call("PATCH", "/replicaSet/foo/restart").ok()
    assert shared.shell("foo", "cat /root/f") == "mine\n"
    assert shared.leases() == (2, 2)
    shared.call("DELETE", "/replicaSet/foo").ok()


def test_a_foreign_container_of_the_same_name_is_left_alone(
    shared: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    with dockerd.client() as client:
        command = ["sleep", "1000"]
        foreign = client.containers.run("busybox:test", command, name="odd-1", detach=True)
        answer = shared.run("odd", **HELD)
        answer.refused(1004, 409, "is already in use by container")
        assert answer.data["reason"] == "name_taken"
        assert shared.leases() == (0, 0)
        assert shared.check().returncode == 0
        foreign.reload()
        assert foreign.status == "running"
        foreign.remove(force=True)
    shared.run("odd", **HELD).ok()


def test_a_foreign_volume_of_the_same_name_is_left_alone(
    shared: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    with dockerd.client() as client:
        foreign = client.volumes.create("strange-1")
        operation = shared.begin("POST", "/volumes", {"name": "strange", "size": "32MB"})
        failed = shared.ended(operation)
        assert (failed["state"], failed["code"]) == ("failed", 1023)
        assert "strange-1" in failed["message"]
        assert shared.get("/volumes").ok()["volumes"] == []
        assert [volume.name for volume in client.volumes.list()] == ["strange-1"]
        foreign.remove()
    assert list((shared.data_dir / "volumes").glob("strange*")) == []
