"""The commands that the real service dies in, each with what has to be there before."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tests.kit.service_process import ServiceProcess

Request = tuple[str, str, Any]
"""Method, path and body."""


class Task(Struct, frozen=True):
    """A command on a replica set `name`, or on the volume `name`v."""

    name: str
    set_up: Callable[[ServiceProcess, str], None]
    request: Callable[[str], Request]
    subject: str
    """How the subject of its record ends, with {} for the name."""
    carries: bool = False
    """It does other steps where system disks are carried by commit."""


def _nothing(service: ServiceProcess, name: str) -> None:
    """There is nothing yet."""


def _running(service: ServiceProcess, name: str) -> None:
    service.run(name, 1, containerPorts=["22"]).ok()
    service.shell(name, "echo mine > /root/mine; rm /bin/wget")


def _patched(service: ServiceProcess, name: str) -> None:
    _running(service, name)
    service.call("PATCH", f"/replicaSet/{name}", {"gpuPatch": {"gpuCount": 2}}).ok()


def _with_volume(service: ServiceProcess, name: str) -> None:
    service.call("POST", "/volumes", {"name": f"{name}v", "size": "48MB"}).ok()
    service.run(name, binds=[{"src": f"{name}v-1", "dest": "/data"}]).ok()
    service.shell(name, "echo mine > /data/mine")


def _run(name: str) -> Request:
    body = {"imageName": "busybox:test", "replicaSetName": name, "gpuCount": 1}
    return "POST", "/replicaSet", {**body, "containerPorts": ["22"], "dataDisk": {"size": "32MB"}}


def _commit(name: str) -> Request:
    return "POST", f"/replicaSet/{name}/commit", {"newImageName": f"saved:{name}"}


def _debug(name: str) -> Request:
    return "POST", f"/replicaSet/{name}/debug", {"version": 1, "as": f"{name}d"}


def _resize(size: str) -> Callable[[str], Request]:
    return lambda name: ("PATCH", f"/volumes/{name}v/size", {"size": size})


TASKS = (
    Task("run", _nothing, _run, "{}.run"),
    Task(
        "patch",
        _running,
        lambda name: ("PATCH", f"/replicaSet/{name}", {"gpuPatch": {"gpuCount": 2}}),
        "{}.patch",
        carries=True,
    ),
    Task("commit", _running, _commit, "{}.commit"),
    Task(
        "rollback",
        _patched,
        lambda name: ("PATCH", f"/replicaSet/{name}/rollback", {"version": 1}),
        "{}.rollback",
        carries=True,
    ),
    Task("debug", _patched, _debug, "{}d.debug", carries=True),
    Task("shrink", _with_volume, _resize("24MB"), "{}v.resize"),
    Task("grow", _with_volume, _resize("96MB"), "{}v.resize"),
    Task(
        "delete",
        _patched,
        lambda name: ("DELETE", f"/replicaSet/{name}", None),
        "{}.delete",
        carries=True,
    ),
)
