"""The disks as a user has them: what was installed stays, what was deleted stays so."""

from collections.abc import Iterator

import pytest

from events.outcomes import SnapshotRemoved
from events.replica_sets import BindMoved
from tests.e2e.conftest import serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

WRITER = "i=0; while [ ! -e /root/foo-tmp/stop ]; do i=$((i+1)); echo $i >> /root/foo-tmp/log; done"


@pytest.fixture(scope="module", params=["upper", "commit"])
def shared(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    dockerd: PrivateDockerd,
) -> Iterator[ServiceProcess]:
    """A service for the whole file, once for each way to carry a system disk."""
    flags = ["--system-disk", request.param, "--keep-revisions", "3"]
    # It grows under whoever writes to it, whatever rights the service has.
    flags += ["--volume-file-system", "xfs"]
    with serving(tmp_path_factory.mktemp("shared") / "data", dockerd, flags=flags) as running:
        yield running


@pytest.fixture(autouse=True)
def all_gone_again(shared: ServiceProcess) -> Iterator[None]:
    """Leave nothing to the next test, however this one ended."""
    yield
    for row in shared.get("/replicaSet").ok()["replicaSets"]:
        shared.call("DELETE", f"/replicaSet/{row['name']}").ok()
    for row in shared.get("/volumes").ok()["volumes"]:
        shared.call("DELETE", f"/volumes/{row['name']}").ok()


def patch(service: ServiceProcess, name: str, **fields: object) -> str:
    """The container that took the place of the one before."""
    answer = service.call("PATCH", f"/replicaSet/{name}", fields).ok()
    return str(answer["containerName"])


def gpus(service: ServiceProcess, name: str) -> int:
    return len(service.get(f"/replicaSet/{name}").ok()["info"]["gpus"])


def test_all_the_ways_of_a_container(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    shared.run("foo", 1, dataDisk={"size": "320MB"}, env=["A=1", "PATH=/bin:/own"]).ok()
    shared.shell("foo", "echo tool > /bin/tool; rm /bin/wget; ln /bin/tool /opt-tool")
    shared.shell("foo", "echo kept > /root/foo-tmp/kept")

    assert patch(shared, "foo", gpuPatch={"gpuCount": 2}) == "foo-2"
    assert (gpus(shared, "foo"), shared.leases()[0]) == (2, 2)
    seen = "cat /bin/tool /root/foo-tmp/kept; ls /bin/wget 2>&1 | wc -l; stat -c %h /opt-tool"
    assert shared.shell("foo", seen) == "tool\nkept\n1\n2\n"
    shared.shell("foo", "rm /bin/tool /opt-tool; echo second > /root/second")

    assert patch(shared, "foo", gpuPatch={"gpuCount": 0}, env=["B=2", "PATH"]) == "foo-3"
    assert shared.leases()[0] == 0
    assert shared.shell("foo", "ls /bin/tool 2>&1 | wc -l; cat /root/second") == "1\nsecond\n"
    env = shared.shell("foo", "env")
    assert "A=1\n" in env
    assert "B=2\n" in env
    assert "/own" not in env

    writing = shared.begin("POST", "/replicaSet/foo/execute", {"cmd": ["sh", "-c", WRITER]})
    eventually(lambda: int(shared.shell("foo", "wc -l < /root/foo-tmp/log || echo 0")) > 10)
    assert shared.call("PATCH", "/volumes/foo/size", {"size": "640MB"}).ok()["size"] == "640MB"
    blocks = shared.shell("foo", "df -Pm /root/foo-tmp | tail -n 1").split()
    assert int(blocks[1]) > 500
    shared.shell("foo", "touch /root/foo-tmp/stop")
    shared.ended(writing)
    numbers = shared.shell("foo", "cat /root/foo-tmp/log").split()
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)], "the writer's lines are whole"

    answer = shared.call("PATCH", "/replicaSet/foo/rollback", {"version": 1}).ok()
    assert answer["containerName"] == "foo-4"
    assert gpus(shared, "foo") == 1
    assert shared.shell("foo", seen) == "tool\nkept\n1\n2\n"
    assert shared.shell("foo", "ls /root/second 2>&1 | wc -l; echo $PATH") == "1\n/bin:/own\n"
    assert "B=2" not in shared.shell("foo", "env")
    assert shared.call("PATCH", "/replicaSet/foo/rollback", {"version": 3}).ok()
    assert shared.shell("foo", "cat /root/second; echo $B") == "second\n2\n"
    assert shared.check().returncode == 0


def test_who_binds_a_volume_binds_its_next_version(shared: ServiceProcess) -> None:
    shared.call("POST", "/volumes", {"name": "bar", "size": "320MB"}).ok()
    shared.run("user", 0, binds=[{"src": "bar-1", "dest": "/data"}]).ok()
    shared.shell("user", "echo mine > /data/f")
    shared.call("PATCH", "/volumes/bar/size", {"size": "640MB"}).ok()
    mounts = shared.get("/replicaSet/user").ok()["info"]["hostConfig"]["Mounts"]
    assert [mount["Source"] for mount in mounts] == ["bar-2"]
    assert shared.shell("user", "cat /data/f") == "mine\n"
    patch(shared, "user")
    assert shared.shell("user", "cat /data/f") == "mine\n"
    shared.call("PATCH", "/replicaSet/user/rollback", {"version": 1}).ok()
    mounts = shared.get("/replicaSet/user").ok()["info"]["hostConfig"]["Mounts"]
    assert [mount["Source"] for mount in mounts] == ["bar-2"]
    moved = [e for record in shared.records() for e in record.events if isinstance(e, BindMoved)]
    assert [(e.old, e.new) for e in moved if e.name == "user"] == [("bar-1", "bar-2")]


def test_limits_change_in_place(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    shared.run("limits", 2, memory="64MB").ok()
    shared.shell("limits", "echo mine > /dev/shm/f")
    with dockerd.client() as client:
        before = client.containers.get("limits-1").id
        assert patch(shared, "limits", memory="256MB", cpus=0.5, pidsLimit=77) == "limits-2"
        container = client.containers.get("limits-2")
    assert container.id == before
    host_config = container.attrs["HostConfig"]
    assert (host_config["Memory"], host_config["NanoCpus"]) == (256 << 20, 500_000_000)
    assert host_config["PidsLimit"] == 77
    assert shared.shell("limits", "cat /dev/shm/f") == "mine\n", "the container was not restarted"
    assert shared.leases()[0] == 2

    # What was one container is had back as one: with the limits that it had then.
    shared.shell("limits", "echo later > /root/later")
    patch(shared, "limits", gpuPatch={"gpuCount": 1})
    shared.call("PATCH", "/replicaSet/limits/rollback", {"version": 1}).ok()
    info = shared.get("/replicaSet/limits").ok()["info"]
    assert (info["containerName"], info["hostConfig"]["Memory"]) == ("limits-4", 64 << 20)
    assert shared.shell("limits", "cat /root/later") == "later\n"

    assert patch(shared, "limits", memory="0") == "limits-5"
    with dockerd.client() as client:
        assert client.containers.get("limits-5").id != before
        assert client.containers.get("limits-5").attrs["HostConfig"]["Memory"] == 0
    assert shared.check().returncode == 0


def test_another_image_begins_anew_and_the_old_disk_is_kept(
    shared: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    shared.run("other", 1, containerPorts=["22"]).ok()
    shared.shell("other", "echo mine > /root/f")
    shared.call("POST", "/replicaSet/other/commit", {"newImageName": "other:1"}).ok()
    shared.shell("other", "echo later > /root/later")
    patch(shared, "other", imageName="other:1", containerPorts=["22", "80"])
    assert shared.shell("other", "cat /root/f; ls /root/later 2>&1 | wc -l") == "mine\n1\n"
    assert shared.leases() == (1, 2)
    shared.call("PATCH", "/replicaSet/other/rollback", {"version": 1}).ok()
    assert shared.shell("other", "cat /root/later") == "later\n"
    assert shared.leases() == (1, 1)


def test_the_oldest_go_and_the_pinned_stay(shared: ServiceProcess) -> None:
    shared.run("old", 0).ok()
    shared.shell("old", "echo first > /root/f")
    patch(shared, "old", gpuPatch={"gpuCount": 1})
    shared.call("PATCH", "/replicaSet/old/pin", {"version": 1}).ok()
    for count in (2, 3, 4, 3):
        patch(shared, "old", gpuPatch={"gpuCount": count})

    def kept() -> dict[int, bool]:
        history = shared.get("/replicaSet/old/history").ok()["history"]
        return {version["version"]: version["diskKept"] for version in history}

    eventually(lambda: not kept()[2])
    assert kept() == {6: False, 5: True, 4: True, 3: True, 2: False, 1: True}
    events = [event for record in shared.records() for event in record.events]
    removed = [e for e in events if isinstance(e, SnapshotRemoved) and e.name == "old"]
    assert [(event.revision, event.why) for event in removed] == [(2, "3 newer ones are kept")]
    refused = shared.call("PATCH", "/replicaSet/old/rollback", {"version": 2})
    refused.refused(1102, 422, "3 newer ones are kept", "1, 3, 4, 5")
    shared.call("PATCH", "/replicaSet/old/rollback", {"version": 1}).ok()
    assert shared.shell("old", "cat /root/f") == "first\n"
    assert shared.check().returncode == 0
