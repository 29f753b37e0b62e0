"""Debug copies on a real engine: the files of then, nothing of now, and nothing left afterwards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.labels import LABEL_DEBUG_OF
from service.adapters.upper_store import STORE_FOLDER
from tests.e2e.conftest import IMAGE, at_rest, serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess


@pytest.fixture(params=["upper", "commit"])
def carrying(
    request: pytest.FixtureRequest, tmp_path: Path, dockerd: PrivateDockerd
) -> Iterator[ServiceProcess]:
    """A service, once for each way to carry a system disk."""
    flags = ["--system-disk", request.param]
    with serving(tmp_path / "data", dockerd, flags=flags) as running:
        yield running


def remains(dockerd: PrivateDockerd) -> dict[str, set[str]]:
    """What is there of ours on the engine: containers, images, volumes, kept directories."""
    with dockerd.client() as client:
        images = client.images.list(all=True)
        return {
            "containers": {one.name for one in client.containers.list(all=True)},
            "images": {tag for one in images for tag in one.tags},
            "image ids": {one.id for one in images},
            "volumes": {one.name for one in client.volumes.list()},
            "layers": {path.name for path in (dockerd.data_root / "overlay2").iterdir()},
            "kept": {path.name for path in (dockerd.data_root / STORE_FOLDER).glob("*/*")},
        }


def debug(service: ServiceProcess, version: int, **more: Any) -> dict[str, Any]:
    """The answer of a debug of foo."""
    body = {"version": version, "as": "bug", **more}
    answer: dict[str, Any] = service.call("POST", "/replicaSet/foo/debug", body).ok()
    return answer


def test_a_copy_of_what_was_and_of_what_is(
    carrying: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    begun = remains(dockerd)  # other tests may have left kept disks on the engine
    foo = {"dataDisk": {"size": "32MB"}, "containerPorts": ["22"], "onExit": "restart"}
    carrying.run("foo", 1, **foo).ok()
    carrying.shell("foo", "echo data > /root/foo-tmp/data")
    carrying.call("PATCH", "/replicaSet/foo", {"env": ["A=2"]}).ok()
    carrying.shell("foo", "echo second > /second; rm /bin/wget")
    carrying.call("PATCH", "/replicaSet/foo", {}).ok()
    carrying.shell("foo", "echo third > /third; echo changed > /second")
    at_rest(carrying)
    before, leases = remains(dockerd), carrying.leases()
    shown = carrying.page("/api/v1/replicaSet/foo/history").content

    assert debug(carrying, 2) == {"name": "bug-1", "debugOf": "foo@2"}
    seen = "cat /second; ls /third /bin/wget 2>/dev/null; echo $A; cat /root/foo-tmp/data"
    assert carrying.shell("bug", seen) == "second\n2\ndata\n"
    assert "Read-only" in carrying.shell("bug", "touch /root/foo-tmp/mine 2>&1 || true")
    carrying.shell("bug", "echo debugged > /second")
    with dockerd.client() as client:
        attrs = client.containers.get("bug-1").attrs
    assert attrs["Config"]["Labels"][LABEL_DEBUG_OF] == "foo@2"
    assert not attrs["HostConfig"]["PortBindings"]
    assert carrying.leases() == leases
    rows = carrying.get("/replicaSet?debugOf=foo@2").ok()["replicaSets"]
    assert [(row["name"], row["debugOf"]) for row in rows] == [("bug", "foo@2")]
    assert carrying.get("/replicaSet?debugOf=foo@3").ok()["replicaSets"] == []
    assert carrying.get("/replicaSet/bug").ok()["info"]["debugOf"] == "foo@2"
    assert "running, copy of foo@2" in carrying.cli("ps").stdout
    refused = carrying.call("PATCH", "/replicaSet/bug", {"gpuPatch": {"gpuCount": 1}})
    refused.refused(1126, 422, "bug is a debug copy of foo@2")
    carrying.call("PATCH", "/replicaSet/bug/restart").ok()
    assert carrying.shell("bug", "cat /second") == "debugged\n"
    assert carrying.check().returncode == 0

    carrying.call("DELETE", "/replicaSet/bug").ok()
    assert remains(dockerd) == before
    assert carrying.page("/api/v1/replicaSet/foo/history").content == shown
    assert carrying.shell("foo", "cat /second /third") == "changed\nthird\n"

    live = debug(carrying, 3, gpuCount=1, cmd=["sleep", "600"])
    assert live["debugOf"] == "foo@3"
    assert "sockets" in live["notCarried"]
    assert carrying.shell("bug", "cat /second /third") == "changed\nthird\n"
    assert carrying.leases() == (leases[0] + 1, leases[1])
    carrying.call("DELETE", "/replicaSet/foo").ok()
    assert carrying.shell("bug", "cat /third") == "third\n"
    carrying.call("PATCH", "/replicaSet/bug/pause").ok()
    carrying.call("PATCH", "/replicaSet/bug/continue").ok()
    carrying.call("POST", "/replicaSet/foo/debug", {"version": 2, "as": "bag"}).refused(
        1125, 404, "foo was deleted"
    )
    carrying.call("DELETE", "/replicaSet/bug").ok()
    carrying.call("DELETE", "/volumes/foo").ok()
    left = remains(dockerd)
    assert left["images"] == {IMAGE}
    assert all(left[what] == begun[what] for what in ("containers", "volumes", "kept")), left
    assert carrying.check().returncode == 0
