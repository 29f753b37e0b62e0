"""kill -9 between any two commands: all is as it was, byte for byte, and nothing is lent twice."""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import at_rest
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import Answer, ServiceProcess, eventually, is_alive

READ_STORE = "read.db"

# The commands of a tour: what each asks, and which commands go before it.
REPLICA_SET_COMMANDS: dict[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    "patch": ("PATCH", "", {"gpuPatch": {"gpuCount": 2}}, ()),
    "execute": ("POST", "/execute", {"cmd": ["sh", "-c", "exit 3"]}, ()),
    "commit": ("POST", "/commit", {"newImageName": "kept:v1"}, ()),
    "pause": ("PATCH", "/pause", {}, ()),
    "continue": ("PATCH", "/continue", {}, ("pause",)),
    "stop": ("PATCH", "/stop", {}, ()),
    "restart": ("PATCH", "/restart", {}, ("stop",)),
    "rollback": ("PATCH", "/rollback", {"version": 1}, ("patch",)),
    "delete": ("DELETE", "", {}, ("patch",)),
}
# What is leased after the command by a container that asked for one GPU and one port.
LEASED = {"patch": (2, 1), "stop": (0, 0), "delete": (0, 0)}
RUNS_AFTER = {"patch", "execute", "commit", "continue", "restart", "rollback"}


def command(service: ServiceProcess, verb: str) -> Answer:
    """Send one of REPLICA_SET_COMMANDS."""
    method, path, body, _ = REPLICA_SET_COMMANDS[verb]
    return service.call(method, f"/replicaSet/{verb}1{path}", body)


def crash_and_compare(service: ServiceProcess) -> None:
    """kill -9 and start: every answer is the same, and the ledger agrees with Docker."""
    at_rest(service)
    before, seq = service.answers(), service.last_seq()
    service.crash()
    assert service.answers() == before
    assert service.last_seq() == seq
    checked = service.check()
    assert checked.returncode == 0, checked.stdout


@pytest.fixture(autouse=True)
def all_gone_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave nothing to the next test of the shared service, however this one ended."""
    yield
    if "shared" in request.fixturenames:
        shared: ServiceProcess = request.getfixturevalue("shared")
        for row in shared.get("/replicaSet").ok()["replicaSets"]:
            shared.call("DELETE", f"/replicaSet/{row['name']}").ok()


def test_after_a_run(shared: ServiceProcess) -> None:
    shared.run("foo", 2, containerPorts=["22"], env=["A=1"], cmd=["sleep", "1000"]).ok()
    crash_and_compare(shared)
    assert shared.leases() == (2, 1)
    assert "A=1" in shared.shell("foo", "env")
    # The same name, GPUs and ports are not to be had a second time.
    shared.run("foo").refused(1008, 409)
    shared.run("bar", 3).refused(1013, 409, "3 GPUs asked for, 2 free")
    shared.run("bar", 2, containerPorts=["22"]).ok()
    assert shared.leases() == (4, 2)
    assert shared.check().returncode == 0


@pytest.mark.parametrize("verb", list(REPLICA_SET_COMMANDS))
def test_after_a_command(shared: ServiceProcess, dockerd: PrivateDockerd, verb: str) -> None:
    name = f"{verb}1"
    shared.run(name, 1, containerPorts=["22"]).ok()
    shared.shell(name, "echo mine > /root/f")
    for earlier in REPLICA_SET_COMMANDS[verb][3]:
        method, path, body, _ = REPLICA_SET_COMMANDS[earlier]
        shared.call(method, f"/replicaSet/{name}{path}", body).ok()
    command(shared, verb).ok()
    with dockerd.client() as client:
        before = {c.name: (c.id, c.status) for c in client.containers.list(all=True)}

    crash_and_compare(shared)

    with dockerd.client() as client:
        after = {c.name: (c.id, c.status) for c in client.containers.list(all=True)}
    assert after == before
    assert shared.leases() == LEASED.get(verb, (1, 1))
    if verb in RUNS_AFTER:
        assert shared.shell(name, "cat /root/f") == "mine\n"
    if verb == "delete":
        assert shared.get(f"/replicaSet/{name}").code == 1016
        assert len(shared.get(f"/replicaSet/{name}/history").ok()["history"]) == 2


def test_after_the_commands_of_a_volume(shared: ServiceProcess) -> None:
    shared.call("POST", "/volumes", {"name": "disk", "size": "32MB"}).ok()
    crash_and_compare(shared)
    shared.run("user", binds=[{"src": "disk-1", "dest": "/data"}]).ok()
    shared.shell("user", "echo precious > /data/f")
    shared.call("PATCH", "/volumes/disk/size", {"size": "64MB"}).ok()
    crash_and_compare(shared)
    assert shared.shell("user", "cat /data/f") == "precious\n"
    assert shared.get("/volumes/disk").ok()["info"]["opt"]["DriverOpts"] == {"size": "64MB"}
    shared.call("DELETE", "/replicaSet/user").ok()
    shared.call("DELETE", "/volumes/disk").ok()
    crash_and_compare(shared)
    assert shared.get("/volumes/disk").code == 1033
    assert list((shared.data_dir / "volumes").glob("disk*")) == []


def with_some_history(service: ServiceProcess) -> None:
    """Names with a past, present ones and deleted ones, refused and failed commands."""
    service.run("foo", 1, containerPorts=["22"]).ok()
    service.shell("foo", "echo mine > /root/f")
    service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 2}}).ok()
    service.run("bar", 1, dataDisk={"size": "32MB"}).ok()
    service.call("PATCH", "/replicaSet/bar/pause").ok()
    service.run("gone", 1).ok()
    service.call("DELETE", "/replicaSet/gone").ok()
    assert service.run("never", 1, cmd=["/no/such"]).code == 1004
    assert service.run("greedy", 4).code == 1013
    service.call("POST", "/volumes", {"name": "spare", "size": "32MB"}).ok()


def garble(path: Path, how: str) -> None:
    """Do to the read store what a full disk, a bad one or a person may do to it."""
    if how == "deleted":
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()
    elif how == "garbage":
        path.write_bytes(b"this is no database\n" * 1_000)
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:5_000])
    elif how == "a page of noise":
        content = bytearray(path.read_bytes())
        content[4_096:8_192] = bytes(range(256)) * 16
        path.write_bytes(content)


def test_the_read_store_can_be_lost(service: ServiceProcess) -> None:
    with_some_history(service)
    before = service.answers()
    for how in ("deleted", "garbage", "cut off", "a page of noise"):
        service.stop()
        garble(service.data_dir / READ_STORE, how)
        service.start()
        assert service.answers() == before, how
    assert service.check().returncode == 0
    # It is not only shown, it also counts: one GPU is left.
    service.run("more", 2).refused(1013, 409, "2 GPUs asked for, 1 free")
    service.run("more", 1).ok()


def rows_of(path: Path) -> list[str]:
    """Everything in the read store, as SQL."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def answers_at(
    service: ServiceProcess, seq: int, paths: Collection[str]
) -> dict[str, bytes]:
    """The same as `answers`, as of a record; the node itself has no past."""
    found = {"/node": service.page("/api/v1/node").content}
    for path in set(paths) - found.keys():
        mark = "&" if "?" in path else "?"
        found[path] = service.page(f"/api/v1{path}{mark}at={seq}").content
    return found


def test_stop_rebuild_and_start(service: ServiceProcess) -> None:
    with_some_history(service)
    before, child, records = service.answers(), service.nats_pid, service.last_seq()
    assert service.stop() == 0
    eventually(lambda: not is_alive(child))

    store = service.data_dir / READ_STORE
    rows = rows_of(store)
    for _ in range(2):
        rebuilt = service.cli("rebuild", *service.common_flags)
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert rebuilt.stdout.startswith(f"{records} records in ")
        assert rows_of(store) == rows
    checked = service.cli("check", *service.common_flags)
    assert (checked.returncode, checked.stdout) == (0, f"{records} records: no difference\n")

    service.start()
    assert service.answers() == before
    assert service.shell("foo", "cat /root/f") == "mine\n"
    assert service.answers() != before  # the command has an operation
    assert answers_at(service, records, before) == before
    assert service.stop() == 0
    service.start()


def test_check_finds_what_differs(service: ServiceProcess, dockerd: PrivateDockerd) -> None:
    service.run("foo", 1).ok()
    service.run("bar", 1).ok()
    assert service.check().returncode == 0
    service.stop()  # it would notice
    with dockerd.client() as client:
        client.containers.get("foo-1").remove(force=True)
    checked = service.cli("check", *service.common_flags)
    assert checked.returncode == 1
    assert "foo-1 is gone" in checked.stdout
    assert "bar" not in checked.stdout
    with closing(sqlite3.connect(service.data_dir / READ_STORE)) as connection, connection:
        connection.execute("UPDATE gpus SET holder = NULL WHERE holder = 'bar'")
    checked = service.cli("check", *service.common_flags)
    assert checked.returncode == 1
    assert "read store, gpus" in checked.stdout
    service.start()


def test_two_services_never_share_a_data_directory(service: ServiceProcess) -> None:
    service.run("foo", 1).ok()
    second = service.serve_in_vain()
    assert second.returncode != 0
    lines = [line for line in second.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, second.stderr
    assert "another gpuledger runs on this data directory" in lines[0]
    assert second.stdout == ""
    rebuild = service.cli("rebuild", *service.common_flags)
    assert rebuild.returncode != 0
    service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 2}}).ok()
    assert service.check().returncode == 0
