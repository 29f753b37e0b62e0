"""Patches of everything that a container is made of, and what a version says of the one before."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import Answer, ServiceProcess


@pytest.fixture(autouse=True)
def all_gone_again(shared: ServiceProcess) -> Iterator[None]:
    """Leave nothing to the next test, however this one ended."""
    yield
    for row in shared.get("/replicaSet").ok()["replicaSets"]:
        shared.call("DELETE", f"/replicaSet/{row['name']}").ok()
    for row in shared.get("/volumes").ok()["volumes"]:
        shared.call("DELETE", f"/volumes/{row['name']}").ok()


def patch(service: ServiceProcess, name: str, **fields: Any) -> Answer:
    return service.call("PATCH", f"/replicaSet/{name}", fields)


def inspected(dockerd: PrivateDockerd, name: str) -> dict[str, Any]:
    """A container as Docker shows it."""
    with dockerd.client() as client:
        attributes: dict[str, Any] = client.containers.get(name).attrs
    return attributes


def versions(service: ServiceProcess, name: str) -> dict[int, dict[str, Any]]:
    history = service.get(f"/replicaSet/{name}/history").ok()["history"]
    return {entry["version"]: entry for entry in history}


def test_all_at_once(shared: ServiceProcess, dockerd: PrivateDockerd, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "f").write_text("second\n")
    shared.run(
        "all",
        env=["A=1", "B=2"],
        cmd=["sleep", "1000"],
        containerPorts=["22"],
        binds=[{"src": str(tmp_path / "one"), "dest": d} for d in ("/a", "/b")],
        memory="64MB",
        pidsLimit=100,
    ).ok()
    shared.shell("all", "echo mine > /root/f")
    patched = patch(
        shared,
        "all",
        gpuPatch={"gpuCount": 1},
        env=["A=one", "C=3", "B"],
        cmd=["sleep", "2000"],
        containerPorts=["80", "22"],
        binds=[
            {"src": str(tmp_path / "two"), "dest": "/a"},
            {"src": "", "dest": "/b"},
            {"src": str(tmp_path / "one"), "dest": "/c"},
        ],
        memory="0",
        pidsLimit=50,
    )
    assert patched.ok() == {"containerName": "all-2"}
    assert shared.shell("all", "cat /root/f /a/f") == "mine\nsecond\n"
    found = inspected(dockerd, "all-2")
    env, host = found["Config"]["Env"], found["HostConfig"]
    assert {"A=one", "C=3"} <= set(env)
    assert not [entry for entry in env if entry.startswith("B=")]
    assert found["Config"]["Cmd"] == ["sleep", "2000"]
    assert {mount["Target"] for mount in host["Mounts"]} == {"/a", "/c"}
    assert (host["Memory"], host["PidsLimit"]) == (0, 50)
    ports = {port: one[0]["HostPort"] for port, one in host["PortBindings"].items()}
    assert ports["22/tcp"] == str(shared.port_first), "a port that is kept keeps its host port"
    assert set(ports) == {"22/tcp", "80/tcp"}
    info = shared.get("/replicaSet/all").ok()["info"]
    assert info["hostConfig"]["PidsLimit"] == 50
    fields = [change["field"] for change in versions(shared, "all")[2]["changed"]]
    assert fields == [
        *("gpuCount", "memory", "pidsLimit", "cmd", "containerPorts"),
        *("env.A", "env.B", "env.C", "binds./a", "binds./b", "binds./c"),
    ]
    assert patch(shared, "all", cmd=[], containerPorts=[]).ok() == {"containerName": "all-3"}
    found = inspected(dockerd, "all-3")
    assert found["Config"]["Cmd"] == ["sh"]
    assert not found["HostConfig"]["PortBindings"]
    assert shared.leases() == (1, 0)


def test_limits_are_changed_in_place(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    shared.run("limits", memory="64MB").ok()
    shared.shell("limits", "echo mine > /root/f")
    before = inspected(dockerd, "limits-1")
    patched = patch(shared, "limits", memory="128MB", pidsLimit=64).ok()
    assert patched == {"containerName": "limits-2"}
    after = inspected(dockerd, "limits-2")
    assert (after["Id"], after["State"]["Pid"]) == (before["Id"], before["State"]["Pid"])
    assert (after["HostConfig"]["Memory"], after["HostConfig"]["PidsLimit"]) == (128 << 20, 64)
    first = versions(shared, "limits")[1]
    assert (first["diskWith"], first["diskKept"], first["diskGone"]) == (2, False, "")
    assert patch(shared, "limits", pidsLimit=0).ok() == {"containerName": "limits-3"}
    taken = inspected(dockerd, "limits-3")
    assert taken["Id"] != before["Id"], "Docker cannot take a limit away"
    assert not taken["HostConfig"]["PidsLimit"]
    assert shared.shell("limits", "cat /root/f") == "mine\n"
    assert versions(shared, "limits")[1]["diskKept"], "with that of version 2"


def test_another_image(shared: ServiceProcess) -> None:
    shared.run("image").ok()
    shared.shell("image", "echo old > /root/f")
    saved = {"newImageName": "other:v1"}
    shared.call("POST", "/replicaSet/image/commit", saved).ok()
    shared.shell("image", "echo new > /root/f; touch /root/late")
    assert patch(shared, "image", imageName="other:v1").ok() == {"containerName": "image-2"}
    assert shared.shell("image", "cat /root/f; ls /root") == "old\nf\n"
    assert versions(shared, "image")[2]["changed"] == [
        {"field": "imageName", "old": "busybox:test", "new": "other:v1"}
    ]
    shared.call("PATCH", "/replicaSet/image/rollback", {"version": 1}).ok()
    assert shared.shell("image", "cat /root/f; ls /root") == "new\nf\nlate\n"
    third = versions(shared, "image")[3]
    assert third["rolledBackTo"] == 1
    assert third["changed"][0]["new"] == "busybox:test"
    refused = shared.get("/replicaSet/image/diff?from=2&to=3")
    refused.refused(1110, 422)
    assert patch(shared, "image", imageName="nowhere.invalid/x:1").status == 422
    assert shared.shell("image", "cat /root/f") == "new\n", "it is as it was"


def test_what_is_refused_changes_nothing(shared: ServiceProcess) -> None:
    shared.run("firm", env=["A=1"]).ok()
    rows: list[tuple[dict[str, Any], int, int, str]] = [
        ({"env": ["NOBODY"]}, 1007, 422, "NOBODY is not set"),
        ({"env": ["A=1"]}, 1009, 422, "like this already"),
        ({"env": ["CONTAINER_VERSION"]}, 1000, 400, "env[0]"),
        ({"binds": [{"src": "", "dest": "/x"}]}, 1007, 422, "nothing is mounted at /x"),
        ({"binds": [{"src": "bar-1", "dest": "/x"}]}, 1007, 404, "no volume bar-1"),
        ({"pidsLimit": 0}, 1009, 422, "like this already"),
        ({"cpus": -1}, 1000, 400, "cpus"),
    ]
    for fields, code, status, word in rows:
        patch(shared, "firm", **fields).refused(code, status, word)
    assert list(versions(shared, "firm")) == [1]


def test_the_command_line(shared: ServiceProcess) -> None:
    def said(*args: str) -> str:
        done = shared.cli(*args)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    said("run", "foo", "-i", "busybox:test", "--pids", "64", "-e", "A=1", "--", "sleep", "1000")
    said("exec", "foo", "--", "sh", "-c", "echo 12345 > /root/tool; rm /bin/wget")
    flags = ("-g", "1", "-e", "B=2", "--unset", "A", "--pids", "0", "--no-cmd")
    assert said("patch", "foo", *flags) == "foo-2 is running\n"
    assert said("diff", "foo@1", "foo@2").splitlines() == [
        "gpuCount   0 → 1",
        "pidsLimit  64 → (none)",
        "cmd        sleep 1000 → (none)",
        "env.A      1 → (none)",
        "env.B      (none) → 2",
        "the files are the same",
    ]
    said("exec", "foo", "--", "sh", "-c", "echo more >> /root/tool; rm /bin/ls; mkdir /root/new")
    compared = said("diff", "foo@1").splitlines()[5:]
    assert {"C /root/tool  11B", "D /bin/ls", "A /root/new  0B"} <= set(compared)
    assert compared[-1].endswith(" deleted")
    assert "gpuCount 0→1, pidsLimit 64→none, cmd, env.A, env.B" in said("history", "foo")
    node = json.loads(said("info", "--json"))
    assert node["diskDetail"] in said("info")


def test_what_a_commit_cannot_carry_is_named(tmp_path: Path, dockerd: PrivateDockerd) -> None:
    with serving(tmp_path / "data", dockerd, flags=["--system-disk", "commit"]) as service:
        service.run("foo").ok()
        service.shell("foo", "echo mine > /root/f")
        answer = patch(service, "foo", gpuPatch={"gpuCount": 1}).ok()
        assert "sockets" in answer["notCarried"]
        assert service.shell("foo", "cat /root/f") == "mine\n"
        done = service.cli("patch", "foo", "--gpus", "2")
        assert (done.returncode, done.stdout) == (0, "foo-3 is running\n")
        assert done.stderr.startswith("not carried: sockets; ")
        in_place = patch(service, "foo", pidsLimit=64).ok()
        assert in_place == {"containerName": "foo-4"}, "nothing was carried"
        service.shell("foo", "touch /root/late")
        files = service.get("/replicaSet/foo/diff?from=1").ok()["files"]
        assert [file["path"] for file in files["listed"] if file["kind"] == "added"] == [
            "/root/late"
        ]
