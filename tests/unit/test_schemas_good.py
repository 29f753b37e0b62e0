"""Bodies to commands: what is good becomes the command that it says."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from events.values import Bind, Nfs
from service.domain.commands import (
    BindAt,
    BindChange,
    CreateVolume,
    DebugReplicaSet,
    ExecuteInReplicaSet,
    PatchReplicaSet,
    PinRevision,
    ResizeVolume,
    RollBackReplicaSet,
    UnpinRevision,
)
from service.web import schemas
from service.web import schemas_fields as limits
from service.web.schemas import DiskPaths
from service.web.schemas_requests import PatchBody

DISKS = DiskPaths()
SMALLEST = {"imageName": "ubuntu:24.04", "replicaSetName": "foo"}

Parse = Callable[[bytes], Any]


def run(body: bytes) -> Any:
    return schemas.parse_run(body, DISKS)


def patch(body: bytes) -> Any:
    return schemas.parse_patch("foo", body)


def rollback(body: bytes) -> Any:
    return schemas.parse_rollback("foo", body)


def pin(body: bytes) -> Any:
    return schemas.parse_pin("foo", body)


def unpin(body: bytes) -> Any:
    return schemas.parse_unpin("foo", body)


def debug(body: bytes) -> Any:
    return schemas.parse_debug("foo", body)


def execute(body: bytes) -> Any:
    return schemas.parse_execute("foo", body)


def resize(body: bytes) -> Any:
    return schemas.parse_resize_volume("bar", body)


create = schemas.parse_create_volume


def bind(src: str = "bar-1", dest: str = "/data") -> dict[str, str]:
    return {"src": src, "dest": dest}


def test_the_smallest_run() -> None:
    command, raw = run(msgspec.json.encode(SMALLEST))
    assert (command.name, command.spec.image) == ("foo", "ubuntu:24.04")
    assert command.spec.gpu_count == 0
    assert (command.spec.on_exit, command.spec.max_retries) == ("none", 0)
    assert command.data_disk_bytes is None
    assert raw == SMALLEST


def test_a_run_with_everything() -> None:
    body = {
        **SMALLEST,
        "gpuCount": 2,
        "binds": [bind("bar-3", "/data/"), bind("/srv//x", "/x")],
        "env": ["A=1", "B="],
        "secretEnv": ["Z=2", "Y="],
        "cmd": ["sleep", "infinity"],
        "containerPorts": ["22", "53/udp", 8080],
        "cpus": 1.5,
        "memory": "4GB",
        "shmSize": "512MB",
        "pidsLimit": 4_194_304,
        "onExit": "restart",
        "maxRetries": 1000,
        "onGpuLost": "restart",
        "labels": {"team": "vision"},
        "dataDisk": {"size": "1.5GB"},
        "fileStorage": {"nfs": {"server": "10.0.0.7", "path": "/export", "options": "ro"}},
    }
    command, raw = run(msgspec.json.encode(body))
    spec = command.spec
    assert raw == body
    assert command.data_disk_bytes == 3 << 29
    assert spec.gpu_count == 2
    assert spec.binds == (
        Bind("", "/root/foo-fs", Nfs("10.0.0.7", "/export", "ro")),
        Bind("bar-3", "/data"),
        Bind("/srv/x", "/x"),
    )
    assert spec.env == ("A=1", "B=", "Z=2", "Y=")
    assert spec.secret_env == ("Y", "Z")
    assert spec.cmd == ("sleep", "infinity")
    assert spec.container_ports == ("22/tcp", "53/udp", "8080/tcp")
    assert (spec.nano_cpus, spec.memory_bytes, spec.shm_bytes) == (1_500_000_000, 4 << 30, 1 << 29)
    assert spec.pids_limit == 4_194_304
    assert (spec.on_exit, spec.max_retries) == ("restart", 1000)
    assert spec.on_gpu_lost == "restart"
    assert spec.labels == {"team": "vision"}


def test_the_disks_are_where_the_settings_say() -> None:
    body = {**SMALLEST, "fileStorage": {"hostPath": "/srv/shared"}}
    command, _ = schemas.parse_run(msgspec.json.encode(body), DiskPaths("/tmp", "/shared"))
    assert command.spec.binds == (Bind("/srv/shared", "/shared"),)


def test_null_is_as_good_as_left_out() -> None:
    """Clients written in Go send null for an empty list."""
    fields = ("binds", "env", "cmd", "containerPorts", "labels", "dataDisk", "pidsLimit", "onExit")
    command, _ = run(msgspec.json.encode({**SMALLEST, **dict.fromkeys(fields)}))
    assert command == run(msgspec.json.encode(SMALLEST))[0]
    every_field = [field.encode_name for field in msgspec.structs.fields(PatchBody)]
    body = msgspec.json.encode(dict.fromkeys(every_field))
    assert patch(body)[0] == PatchReplicaSet("foo")


@pytest.mark.parametrize(
    ("parse", "body", "command"),
    [
        (patch, {}, PatchReplicaSet("foo")),
        (patch, {"gpuPatch": {"gpuCount": 0}}, PatchReplicaSet("foo", gpu_count=0)),
        (
            patch,
            {"volumePatch": {"oldBind": bind(), "newBind": bind("bar-2")}},
            PatchReplicaSet("foo", bind=BindChange(Bind("bar-1", "/data"), Bind("bar-2", "/data"))),
        ),
        (
            patch,
            {"cpus": 2, "memory": "1GB", "shmSize": "1MB"},
            PatchReplicaSet("foo", nano_cpus=2 * 10**9, memory_bytes=1 << 30, shm_bytes=1 << 20),
        ),
        (
            patch,
            {"cpus": 0, "memory": "0", "shmSize": "0", "pidsLimit": 0},
            PatchReplicaSet("foo", nano_cpus=0, memory_bytes=0, shm_bytes=0, pids_limit=0),
        ),
        (patch, {"onGpuLost": "restart"}, PatchReplicaSet("foo", on_gpu_lost="restart")),
        (
            patch,
            {"onExit": "none", "maxRetries": 0},
            PatchReplicaSet("foo", on_exit="none", max_retries=0),
        ),
        (
            patch,
            {"env": ["A=1", "B"], "secretEnv": ["Z=2", "C="]},
            PatchReplicaSet("foo", env=("A=1", "B", "Z=2", "C="), secret_env=("C", "Z")),
        ),
        (
            patch,
            {"imageName": "other:2", "pidsLimit": 1, "env": ["A=b=c", "B=", "C"]},
            PatchReplicaSet("foo", image="other:2", pids_limit=1, env=("A=b=c", "B=", "C")),
        ),
        (
            patch,
            {"cmd": ["sh"], "containerPorts": [22, "53/udp"]},
            PatchReplicaSet("foo", cmd=("sh",), container_ports=("22/tcp", "53/udp")),
        ),
        (
            patch,
            {"cmd": [], "containerPorts": []},
            PatchReplicaSet("foo", cmd=(), container_ports=()),
        ),
        (patch, {"env": [], "binds": []}, PatchReplicaSet("foo")),
        (
            patch,
            {"binds": [bind("bar-1", "/data/"), bind("", "/x"), bind("/srv", "/s")]},
            PatchReplicaSet(
                "foo", binds=(BindAt("bar-1", "/data"), BindAt("", "/x"), BindAt("/srv", "/s"))
            ),
        ),
        (
            patch,
            {
                "gpuPatch": {"gpuCount": 2},
                "volumePatch": {"oldBind": bind(), "newBind": bind("bar-2", "/other")},
                "binds": [bind("bar-3")],
            },
            PatchReplicaSet(
                "foo",
                gpu_count=2,
                bind=BindChange(Bind("bar-1", "/data"), Bind("bar-2", "/other")),
                binds=(BindAt("bar-3", "/data"),),
            ),
        ),
        (pin, {"version": 3}, PinRevision("foo", 3)),
        (unpin, {"version": 3}, UnpinRevision("foo", 3)),
        (rollback, {"version": 3}, RollBackReplicaSet("foo", 3)),
        (rollback, {"version": 0}, RollBackReplicaSet("foo", 0)),
        (debug, {"version": 3, "as": "bug"}, DebugReplicaSet("bug", "foo", 3)),
        (
            debug,
            {"version": 3, "as": "bug", "gpuCount": 1, "cmd": ["sleep", "9"]},
            DebugReplicaSet("bug", "foo", 3, 1, ("sleep", "9")),
        ),
        (debug, {"version": 3, "as": "bug", "cmd": []}, DebugReplicaSet("bug", "foo", 3, cmd=())),
        (debug, {"version": 3, "as": "bug", "cmd": None}, DebugReplicaSet("bug", "foo", 3)),
        (execute, {"cmd": ["ls"]}, ExecuteInReplicaSet("foo", ("ls",))),
        (
            execute,
            {"cmd": ["ls"], "workDir": "/root/"},
            ExecuteInReplicaSet("foo", ("ls",), "/root"),
        ),
        (execute, {"cmd": ["ls"], "workDir": "/"}, ExecuteInReplicaSet("foo", ("ls",), "/")),
        (create, {"name": "bar", "size": "20gb"}, CreateVolume("bar", 20 << 30)),
        (resize, {"size": "16MB"}, ResizeVolume("bar", 16 << 20)),
    ],
)
def test_good_bodies(parse: Parse, body: dict[str, Any], command: object) -> None:
    assert parse(msgspec.json.encode(body)) == (command, body)


def test_the_largest_run_that_is_allowed_fits_in_a_record() -> None:
    """It stands in its record twice: as it was asked, and as the spec."""
    texts = limits.ENV_BYTES_MAX + limits.CMD_BYTES_MAX
    binds = limits.BINDS_MAX * 2 * limits.PATH_BYTES_MAX
    labels = limits.LABELS_MAX * (limits.LABEL_KEY_BYTES_MAX + limits.LABEL_VALUE_BYTES_MAX)
    assert 2 * (texts + binds + labels) < 480 * 1024
