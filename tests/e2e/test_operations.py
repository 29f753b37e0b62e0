"""Every operation of the contract on a real engine, and what a person would expect of each."""

from pathlib import Path

import pytest

from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess


def test_a_container_from_run_to_delete(service: ServiceProcess, dockerd: PrivateDockerd) -> None:
    assert service.run(
        "foo", 2, containerPorts=["22"], env=["COLOUR=blue"], cmd=["sleep", "1000"]
    ).ok() == {"name": "foo-1"}
    assert service.leases() == (2, 1)
    info = service.get("/replicaSet/foo").ok()["info"]
    assert (info["version"], info["containerName"]) == (1, "foo-1")
    binding = {"HostIp": "", "HostPort": str(service.port_first)}
    assert info["hostConfig"]["PortBindings"] == {"22/tcp": [binding]}
    environment = service.shell("foo", "env")
    assert "COLOUR=blue" in environment
    assert "CONTAINER_VERSION=1" in environment
    with dockerd.client() as client:
        container = client.containers.get("foo-1")
        assert container.attrs["HostConfig"]["Init"] is True
        assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "no"
        assert container.labels["gpuledger.name"] == "foo"
        assert container.labels["gpuledger.node"] == "test"
    assert service.call("DELETE", "/replicaSet/foo").ok() is None
    assert service.leases() == (0, 0)
    assert service.get("/replicaSet/foo").code == 1016
    assert service.get("/replicaSet/nobody/history").code == 1017
    assert len(service.get("/replicaSet/foo/history").ok()["history"]) == 1
    with dockerd.client() as client:
        assert client.containers.list(all=True) == []
        assert [t for i in client.images.list() for t in i.tags] == ["busybox:test"]


def test_a_patch_changes_what_was_patched_and_nothing_else(service: ServiceProcess) -> None:
    service.run("foo", 1, containerPorts=["22"], env=["A=1"]).ok()
    service.shell("foo", "echo mine > /root/.profile; ln -s /root/.profile /etc/p; rm /bin/wget")
    before = service.get("/replicaSet/foo").ok()["info"]
    patched = service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 3}}).ok()
    assert patched == {"containerName": "foo-2"}
    assert service.shell("foo", "cat /etc/p; ls /bin/wget 2>&1 || true").splitlines() == [
        "mine",
        "ls: /bin/wget: No such file or directory",
    ]
    after = service.get("/replicaSet/foo").ok()["info"]
    assert after["hostConfig"]["PortBindings"] == before["hostConfig"]["PortBindings"]
    assert "A=1" in after["config"]["Env"]
    assert service.leases() == (3, 1)
    assert service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 3}}).code == 1009
    assert service.call("PATCH", "/replicaSet/foo", {}).ok() == {"containerName": "foo-3"}
    service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 0}}).ok()
    assert service.leases() == (0, 1)
    assert service.shell("foo", "cat /root/.profile; echo $CONTAINER_VERSION") == "mine\n4\n"


def test_rollback_brings_back_spec_and_system_disk(service: ServiceProcess) -> None:
    service.run("foo", 0).ok()
    service.shell("foo", "echo one > /root/v")
    service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 2}}).ok()
    service.shell("foo", "echo two > /root/v; touch /root/late")
    rolled = service.call("PATCH", "/replicaSet/foo/rollback", {"version": 1}).ok()
    assert rolled == {"containerName": "foo-3"}
    assert service.shell("foo", "cat /root/v; ls /root") == "one\nv\n"
    assert service.leases() == (0, 0)
    service.call("PATCH", "/replicaSet/foo/rollback", {"version": 2}).ok()
    assert service.shell("foo", "cat /root/v; ls /root") == "two\nlate\nv\n"
    assert service.leases() == (2, 0)
    for version, code in ((4, 1022), (9, 1021), (-1, 1020)):
        answer = service.call("PATCH", "/replicaSet/foo/rollback", {"version": version})
        assert answer.code == code, answer
    history = service.get("/replicaSet/foo/history").ok()["history"]
    assert [entry["version"] for entry in history] == [4, 3, 2, 1]


def test_stop_gives_back_and_pause_keeps(service: ServiceProcess) -> None:
    service.run("foo", 2, containerPorts=["80"]).ok()
    service.shell("foo", "echo kept > /root/f")
    assert service.call("PATCH", "/replicaSet/foo/pause").ok() is None
    assert service.leases() == (2, 1)
    assert service.call("POST", "/replicaSet/foo/execute", {"cmd": ["true"]}).code == 1006
    service.call("PATCH", "/replicaSet/foo/continue").ok()
    assert service.shell("foo", "cat /root/f; echo $CONTAINER_VERSION") == "kept\n1\n"
    assert service.call("PATCH", "/replicaSet/foo/stop").ok() is None
    assert service.leases() == (0, 0)
    refused = service.call("PATCH", "/replicaSet/foo/continue")
    assert (refused.code, refused.status) == (1019, 409)
    assert service.call("PATCH", "/replicaSet/foo/pause").code == 1018
    service.run("greedy", 3).ok()
    assert service.call("PATCH", "/replicaSet/foo/restart").code == 1013
    service.call("DELETE", "/replicaSet/greedy").ok()
    restarted = service.call("PATCH", "/replicaSet/foo/restart").ok()
    assert restarted == {"containerName": "foo-2"}
    assert service.shell("foo", "cat /root/f") == "kept\n"
    service.call("PATCH", "/replicaSet/foo/stop").ok()
    service.call("DELETE", "/replicaSet/foo").ok()
    assert service.leases() == (0, 0)


def test_commit_saves_the_system_disk_as_an_image(service: ServiceProcess) -> None:
    service.run("foo", 1).ok()
    service.shell("foo", "echo saved > /root/f")
    committed = service.call("POST", "/replicaSet/foo/commit", {"newImageName": "mine:v1"}).ok()
    assert committed == {"imageName": "mine:v1"}
    service.run("bar", 0, imageName="mine:v1").ok()
    assert service.shell("bar", "cat /root/f") == "saved\n"


def test_execute_tells_output_and_exit_code(service: ServiceProcess) -> None:
    service.run("foo").ok()
    body = {"workDir": "/tmp", "cmd": ["sh", "-c", "pwd; echo bad >&2; exit 3"]}
    data = service.call("POST", "/replicaSet/foo/execute", body).ok()
    assert (data["stdout"], data["stderr"], data["exitCode"]) == ("/tmp\n", "bad\n", 3)
    missing = service.call("POST", "/replicaSet/foo/execute", {"cmd": ["no-such"]}).ok()
    assert missing["exitCode"] in (126, 127)


def test_a_volume_from_create_to_delete(service: ServiceProcess, tmp_path: Path) -> None:
    created = service.call("POST", "/volumes", {"name": "bar", "size": "32MB"}).ok()
    assert created == {"name": "bar-1", "size": "32MB"}
    service.run("foo", binds=[{"src": "bar-1", "dest": "/data"}]).ok()
    service.shell("foo", "echo precious > /data/f")
    full = service.call(
        "POST",
        "/replicaSet/foo/execute",
        {"cmd": ["sh", "-c", "dd if=/dev/zero of=/data/big bs=1M count=64 2>&1"]},
    ).ok()
    assert "No space left on device" in full["stdout"] + full["stderr"]
    service.shell("foo", "rm /data/big")
    resized = service.call("PATCH", "/volumes/bar/size", {"size": "96MB"}).ok()
    assert resized == {"name": "bar-2", "size": "96MB"}
    assert service.shell("foo", "cat /data/f") == "precious\n"
    service.shell("foo", "dd if=/dev/zero of=/data/big bs=1M count=64 2>&1")
    swapped = {
        "volumePatch": {
            "oldBind": {"src": "bar-1", "dest": "/data"},
            "newBind": {"src": "bar-2", "dest": "/data"},
        }
    }
    service.call("PATCH", "/replicaSet/foo", swapped).ok()
    assert service.shell("foo", "cat /data/f") == "precious\n"
    too_small = service.call("PATCH", "/volumes/bar/size", {"size": "40MB"})
    assert too_small.code == 1030, too_small
    assert service.shell("foo", "cat /data/f; ls /data") == "precious\nbig\nf\nlost+found\n"
    service.shell("foo", "rm /data/big")
    assert service.call("PATCH", "/volumes/bar/size", {"size": "40MB"}).ok()["name"] == "bar-3"
    assert service.call("PATCH", "/volumes/bar/size", {"size": "40MB"}).code == 1028
    assert service.call("DELETE", "/volumes/bar").status == 409
    service.call("DELETE", "/replicaSet/foo").ok()
    history = service.get("/volumes/bar/history").ok()["history"]
    assert [entry["version"] for entry in history] == [3, 2, 1]
    assert service.call("DELETE", "/volumes/bar").ok() is None
    assert service.get("/volumes/bar").code == 1033
    assert list((service.data_dir / "volumes").glob("bar*")) == []


@pytest.mark.parametrize("how", ["host", "data disk"])
def test_the_standard_disks(service: ServiceProcess, tmp_path: Path, how: str) -> None:
    if how == "host":
        shared = tmp_path / "shared"
        shared.mkdir()
        (shared / "f").write_text("from outside\n")
        service.run("foo", fileStorage={"hostPath": str(shared)}).ok()
        assert service.shell("foo", "cat /root/foo-fs/f") == "from outside\n"
        return
    service.run("foo", dataDisk={"size": "32MB"}).ok()
    service.shell("foo", "echo kept > /root/foo-tmp/f; echo gone > /root/g")
    service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 1}}).ok()
    service.call("PATCH", "/replicaSet/foo/rollback", {"version": 1}).ok()
    assert service.shell("foo", "cat /root/foo-tmp/f") == "kept\n"
    assert service.get("/volumes/foo").ok()["info"]["version"] == 1
