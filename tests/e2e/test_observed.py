"""What becomes of containers without the service's doing, on a real engine: it is seen and told."""

import socket
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import clean
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

KEEPS_ON = {"onExit": "restart"}


def shown(service: ServiceProcess, name: str = "foo") -> dict[str, Any]:
    """Its row in the list."""
    rows: list[dict[str, Any]] = service.get("/replicaSet").ok()["replicaSets"]
    return next(row for row in rows if row["name"] == name)


def becomes(service: ServiceProcess, phase: str, container: str, name: str = "foo") -> Any:
    """Its row, once it says this of phase and container."""

    def look() -> dict[str, Any] | None:
        row = shown(service, name)
        return row if (row["phase"], row["container"]) == (phase, container) else None

    return eventually(look)


def docker(dockerd: PrivateDockerd, *args: str) -> None:
    """What a person types."""
    subprocess.run(["docker", "-H", dockerd.url, *args], check=True, capture_output=True)


def started_at(dockerd: PrivateDockerd, container: str) -> str:
    """When the engine says that it was last started."""
    with dockerd.client() as client:
        return str(client.api.inspect_container(container)["State"]["StartedAt"])


def runs_again(service: ServiceProcess, dockerd: PrivateDockerd, name: str, before: str) -> None:
    """Return when the first version was started anew since `before`, and the service knows."""
    eventually(lambda: started_at(dockerd, f"{name}-1") != before)
    becomes(service, "running", "running", name)


def checked(service: ServiceProcess) -> None:
    """Ledger, read store and Docker say the same."""
    found = service.check()
    assert found.returncode == 0, found.stdout


def test_one_that_ends_by_itself_gives_everything_back(service: ServiceProcess) -> None:
    service.run("foo", 2, containerPorts=["80"], cmd=["sh", "-c", "sleep 1; exit 3"]).ok()
    row = becomes(service, "stopped", "exited")
    assert (row["exitCode"], row["oomKilled"]) == (3, False)
    assert row["finishedTime"].startswith("20")
    assert service.leases() == (0, 0)
    info = service.get("/replicaSet/foo").ok()["info"]
    assert (info["exitCode"], info["onExit"]) == (3, "none")
    line = service.cli("ps").stdout.splitlines()[1]
    assert "exited (3)" in line
    assert "with exit code 3" in service.cli("info", "foo").stdout
    assert service.call("PATCH", "/replicaSet/foo/restart").ok() == {"containerName": "foo-2"}
    becomes(service, "stopped", "exited")
    checked(service)


def test_one_that_ends_before_its_run_has_ended_is_noticed(service: ServiceProcess) -> None:
    service.run("foo", 1, cmd=["true"]).ok()
    assert becomes(service, "stopped", "exited")["exitCode"] == 0
    assert service.leases() == (0, 0)
    checked(service)


def test_want_of_memory_is_told(service: ServiceProcess) -> None:
    script = "sleep 1; tail /dev/zero"
    service.run("foo", 1, memory="16MB", cmd=["sh", "-c", script]).ok()
    row = becomes(service, "stopped", "exited")
    assert (row["exitCode"], row["oomKilled"]) == (137, True)
    assert "exited (137, out of memory)" in service.cli("ps").stdout


def test_killed_by_a_person_it_is_stopped(service: ServiceProcess, dockerd: PrivateDockerd) -> None:
    service.run("foo", 1).ok()
    docker(dockerd, "kill", "foo-1")
    assert becomes(service, "stopped", "exited")["exitCode"] == 137
    assert service.leases() == (0, 0)
    checked(service)


def test_removed_by_a_person_its_disk_is_gone_and_older_ones_are_not(
    service: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    service.run("foo", 1, containerPorts=["80"]).ok()
    service.shell("foo", "echo one > /root/v")
    service.call("PATCH", "/replicaSet/foo", {}).ok()
    docker(dockerd, "rm", "-f", "foo-2")
    becomes(service, "stopped", "removed")
    assert service.leases() == (0, 0)
    assert "removed by somebody else" in service.cli("ps").stdout
    for method, path, body in (
        ("PATCH", "", {}),
        ("PATCH", "/restart", {}),
        ("POST", "/commit", {"newImageName": "mine:1"}),
    ):
        answer = service.call(method, f"/replicaSet/foo{path}", body)
        assert answer.code == 1102, answer
    rolled = service.call("PATCH", "/replicaSet/foo/rollback", {"version": 1}).ok()
    assert rolled == {"containerName": "foo-3"}
    assert service.shell("foo", "cat /root/v") == "one\n"
    checked(service)


def test_a_new_image_or_a_deletion_is_a_way_out(
    service: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    service.run("foo", 1).ok()
    service.call("POST", "/replicaSet/foo/commit", {"newImageName": "mine:1"}).ok()
    docker(dockerd, "rm", "-f", "foo-1")
    becomes(service, "stopped", "removed")
    patched = service.call("PATCH", "/replicaSet/foo", {"imageName": "mine:1"}).ok()
    assert patched == {"containerName": "foo-2"}
    docker(dockerd, "rm", "-f", "foo-2")
    becomes(service, "stopped", "removed")
    service.call("DELETE", "/replicaSet/foo").ok()
    checked(service)


@pytest.mark.parametrize(("verb", "phase"), [("stop", "stopped"), ("pause", "paused")])
def test_what_is_not_to_run_is_stopped_again(
    service: ServiceProcess, dockerd: PrivateDockerd, verb: str, phase: str
) -> None:
    service.run("foo", 1).ok()
    service.call("PATCH", f"/replicaSet/foo/{verb}").ok()
    before = started_at(dockerd, "foo-1")
    docker(dockerd, "start", "foo-1")

    def is_still() -> bool:
        with dockerd.client() as client:
            state = client.api.inspect_container("foo-1")["State"]
        return bool(state["Status"] == "exited" and state["StartedAt"] != before)

    eventually(is_still)
    becomes(service, phase, "exited")
    checked(service)


def test_it_is_started_again_so_many_times(
    service: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    script = "echo run >> /root/runs; sleep 1; exit 4"
    body = {"cmd": ["sh", "-c", script], **KEEPS_ON, "maxRetries": 2}
    service.run("foo", 1, **body).ok()
    eventually(lambda: shown(service).get("retry"))
    assert service.leases() == (1, 0)
    row = becomes(service, "stopped", "exited")
    assert (row["exitCode"], "retry" in row) == (4, False)
    assert service.leases() == (0, 0)
    with dockerd.client() as client:
        chunks, _ = client.api.get_archive("foo-1", "/root/runs")
        assert b"".join(chunks).count(b"run\n") == 3
    checked(service)


def test_only_what_is_done_at_its_end_differs_and_the_container_stays(
    service: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    service.run("foo", 1).ok()
    before = started_at(dockerd, "foo-1")
    assert service.cli("patch", "foo", "--on-exit", "restart", "--max-retries", "3").returncode == 0
    assert started_at(dockerd, "foo-2") == before
    docker(dockerd, "kill", "foo-2")
    eventually(lambda: started_at(dockerd, "foo-2") != before)
    becomes(service, "running", "running")
    history = service.cli("history", "foo").stdout
    assert "onExit none→restart" in history
    checked(service)


def test_another_process_on_the_next_port(service: ServiceProcess) -> None:
    with socket.create_server(("127.0.0.1", service.port_first)):
        answer = service.run("foo", 1, containerPorts=["80"])
        assert answer.ok() == {"name": "foo-1"}
        row = shown(service)
        assert row["ports"] == [{"containerPort": "80/tcp", "hostPort": service.port_first + 1}]
        service.run("bar", containerPorts=["80"]).ok()
    assert shown(service, "bar")["ports"][0]["hostPort"] == service.port_first + 2
    (operation,) = [
        o for o in service.get("/operations").ok()["operations"] if o["name"] == "foo"
    ]
    texts = [step["text"] for step in operation["steps"]]
    assert any("has another process" in text and "in use" in text for text in texts), texts
    checked(service)


def stop_and_start(dockerd: PrivateDockerd) -> None:
    """As `systemctl restart docker`."""
    dockerd.halt()
    dockerd.start()


def kill_and_start(dockerd: PrivateDockerd) -> None:
    """As after a crash of the daemon."""
    dockerd.kill()
    dockerd.start()


@pytest.mark.parametrize("restart", [stop_and_start, kill_and_start])
def test_what_ended_with_the_engine_runs_again_with_its_disk(
    service: ServiceProcess,
    dockerd: PrivateDockerd,
    restart: Callable[[PrivateDockerd], None],
) -> None:
    graceful = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]
    service.run("foo", 1, containerPorts=["80"], cmd=graceful).ok()
    service.run("bar", 1, **KEEPS_ON, maxRetries=1).ok()
    service.run("idle", 1).ok()
    service.call("PATCH", "/replicaSet/idle/pause").ok()
    service.shell("foo", "echo kept > /root/f")
    service.shell("bar", "echo kept > /root/f")
    before = {name: started_at(dockerd, f"{name}-1") for name in ("foo", "bar", "idle")}
    restart(dockerd)
    for name in ("foo", "bar"):
        runs_again(service, dockerd, name, before[name])
        assert service.shell(name, "cat /root/f") == "kept\n"
    assert started_at(dockerd, "idle-1") == before["idle"]
    assert shown(service, "idle")["phase"] == "paused"
    assert service.leases() == (3, 1)
    checked(service)


def test_what_ended_while_the_service_was_down_is_seen_at_its_start(
    service: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    service.run("foo", 1, cmd=["sh", "-c", "until [ -e /root/end ]; do sleep 0.1; done; exit 5"])
    service.run("bar", 1).ok()
    service.run("gone", 1).ok()
    service.kill()
    docker(dockerd, "exec", "foo-1", "touch", "/root/end")
    docker(dockerd, "rm", "-f", "gone-1")
    docker(dockerd, "wait", "foo-1")
    service.start()
    assert becomes(service, "stopped", "exited")["exitCode"] == 5
    becomes(service, "stopped", "removed", "gone")
    assert shown(service, "bar")["phase"] == "running"
    assert service.leases() == (1, 0)
    checked(service)


def test_a_host_that_was_restarted_has_everything_running_again(
    service: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    service.run("foo", 1, dataDisk={"size": "32MB"}).ok()
    service.shell("foo", "echo kept > /root/f; echo data > /root/foo-tmp/d")
    before = started_at(dockerd, "foo-1")
    service.kill()
    dockerd.halt()
    dockerd.start()
    service.start()
    runs_again(service, dockerd, "foo", before)
    assert service.shell("foo", "cat /root/f /root/foo-tmp/d") == "kept\ndata\n"
    assert service.leases() == (1, 0)
    checked(service)


def test_clean_up_leaves_nothing(service: ServiceProcess, dockerd: PrivateDockerd) -> None:
    """The tests' own end: a container that is to go on does not come back after it."""
    service.run("foo", 1, **KEEPS_ON).ok()
    service.stop()
    clean(dockerd, service.data_dir)
    with dockerd.client() as client:
        assert client.containers.list(all=True) == []
    service.start()
    becomes(service, "stopped", "removed")
