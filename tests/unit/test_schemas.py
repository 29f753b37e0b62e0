"""Bodies to commands: what is bad is refused with its code, and the field is named."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from service.web import schemas
from service.web import schemas_checks as check
from service.web.problems import BadRequest
from service.web.schemas import DiskPaths

DISKS = DiskPaths()
SMALLEST = {"imageName": "ubuntu:24.04", "replicaSetName": "foo"}

Parse = Callable[[bytes], Any]


def run(body: bytes) -> Any:
    return schemas.parse_run(body, DISKS)


def patch(body: bytes) -> Any:
    return schemas.parse_patch("foo", body)


def rollback(body: bytes) -> Any:
    return schemas.parse_rollback("foo", body)


def debug(body: bytes) -> Any:
    return schemas.parse_debug("foo", body)


def pin(body: bytes) -> Any:
    return schemas.parse_pin("foo", body)


def unpin(body: bytes) -> Any:
    return schemas.parse_unpin("foo", body)


def commit(body: bytes) -> Any:
    return schemas.parse_commit("foo", body)


def execute(body: bytes) -> Any:
    return schemas.parse_execute("foo", body)


def resize(body: bytes) -> Any:
    return schemas.parse_resize_volume("bar", body)


create = schemas.parse_create_volume


def refused(parse: Parse, body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(body)
    problem = caught.value.problem
    assert problem.field
    assert len(problem.message) < 400, "what was sent is not sent back whole"
    return caught.value


def bind(src: str = "bar-1", dest: str = "/data") -> dict[str, str]:
    return {"src": src, "dest": dest}


# What is added to the smallest body of a run, the code, the field that the answer names.
BAD_RUNS: list[tuple[dict[str, Any], int, str]] = [
    ({"imageName": ""}, 1001, "imageName"),
    ({"imageName": "UPPER CASE"}, 1000, "imageName"),
    ({"imageName": "a" * 10_000}, 1000, "imageName"),
    ({"imageName": 7}, 1000, "imageName"),
    ({"imageName": "x\0"}, 1000, "imageName"),
    ({"replicaSetName": ""}, 1002, "replicaSetName"),
    ({"replicaSetName": "fo-o"}, 1003, "replicaSetName"),
    ({"replicaSetName": "foo/bar"}, 1000, "replicaSetName"),
    ({"replicaSetName": "/foo"}, 1000, "replicaSetName"),
    ({"replicaSetName": "foo.bar"}, 1000, "replicaSetName"),
    ({"replicaSetName": "foo*"}, 1000, "replicaSetName"),
    ({"replicaSetName": "foo bar"}, 1000, "replicaSetName"),
    ({"replicaSetName": "foo>"}, 1000, "replicaSetName"),
    ({"replicaSetName": "füü"}, 1000, "replicaSetName"),
    ({"replicaSetName": "_foo"}, 1000, "replicaSetName"),
    ({"replicaSetName": "foo\n"}, 1000, "replicaSetName"),
    ({"replicaSetName": "f" * 64}, 1000, "replicaSetName"),
    ({"replicaSetName": "f" * 10_000}, 1000, "replicaSetName"),
    ({"replicaSetName": None}, 1000, "replicaSetName"),
    ({"gpuCount": -1}, 1012, "gpuCount"),
    ({"gpuCount": "2"}, 1000, "gpuCount"),
    ({"gpuCount": 1.5}, 1000, "gpuCount"),
    ({"gpuCount": True}, 1000, "gpuCount"),
    ({"gpuCount": 1025}, 1013, "gpuCount"),
    ({"gpuCount": 10**30}, 1013, "gpuCount"),
    ({"containerPorts": ["0"]}, 1000, "containerPorts[0]"),
    ({"containerPorts": [0]}, 1000, "containerPorts[0]"),
    ({"containerPorts": ["70000"]}, 1000, "containerPorts[0]"),
    ({"containerPorts": [70000]}, 1000, "containerPorts[0]"),
    ({"containerPorts": [-22]}, 1000, "containerPorts[0]"),
    ({"containerPorts": ["22", "22"]}, 1000, "containerPorts[1]"),
    ({"containerPorts": ["22", "22/tcp"]}, 1000, "containerPorts[1]"),
    ({"containerPorts": [22, "022"]}, 1000, "containerPorts[1]"),
    ({"containerPorts": ["22/icmp"]}, 1000, "containerPorts[0]"),
    ({"containerPorts": ["22-30"]}, 1000, "containerPorts[0]"),
    ({"containerPorts": ["٢٢"]}, 1000, "containerPorts[0]"),
    ({"containerPorts": [""]}, 1000, "containerPorts[0]"),
    ({"containerPorts": "22"}, 1000, "containerPorts"),
    ({"containerPorts": [str(p) for p in range(1, 130)]}, 1000, "containerPorts"),
    ({"env": ["NOEQUALS"]}, 1000, "env[0]"),
    ({"env": ["A=1", "=v"]}, 1000, "env[1]"),
    ({"env": ["A=\0"]}, 1000, "env[0]"),
    ({"env": ["CONTAINER_VERSION=9"]}, 1000, "env[0]"),
    ({"env": ["NVIDIA_VISIBLE_DEVICES=all"]}, 1000, "env[0]"),
    ({"env": [1]}, 1000, "env[0]"),
    ({"env": {"A": "1"}}, 1000, "env"),
    ({"env": [f"K{n}=v" for n in range(513)]}, 1000, "env"),
    ({"env": ["A=" + "x" * 70_000]}, 1000, "env"),
    ({"cmd": ["a\0b"]}, 1000, "cmd[0]"),
    ({"cmd": ["x"] * 513}, 1000, "cmd"),
    ({"cmd": ["x" * 70_000]}, 1000, "cmd"),
    ({"cmd": "sleep 1"}, 1000, "cmd"),
    ({"binds": [bind(dest="/")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(dest="//")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(dest="/.")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(dest="data")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(dest="")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(dest="/a/../b")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(dest="/a\0b")]}, 1000, "binds[0].dest"),
    ({"binds": [bind(dest="/" + "x" * 600)]}, 1000, "binds[0].dest"),
    ({"binds": [bind(src="/")]}, 1000, "binds[0].src"),
    ({"binds": [bind(src="/srv/../etc")]}, 1000, "binds[0].src"),
    ({"binds": [bind(src="")]}, 1000, "binds[0].src"),
    ({"binds": [bind(src="../x")]}, 1000, "binds[0].src"),
    ({"binds": [bind(src="bar")]}, 1027, "binds[0].src"),
    ({"binds": [bind(src="my-bar")]}, 1027, "binds[0].src"),
    ({"binds": [bind(src="bar-0")]}, 1027, "binds[0].src"),
    ({"binds": [bind(), bind(src="/srv")]}, 1000, "binds[1].dest"),
    ({"binds": [bind(), bind(src="/srv", dest="/data/")]}, 1000, "binds[1].dest"),
    ({"binds": [{"src": "bar-1"}]}, 1000, "binds[0].dest"),
    ({"binds": [{**bind(), "ro": True}]}, 1000, "binds[0].ro"),
    ({"binds": [bind(dest=f"/d{n}") for n in range(65)]}, 1000, "binds"),
    ({"binds": [bind(dest="/root/foo-tmp")], "dataDisk": {"size": "1GB"}}, 1000, "binds[0].dest"),
    (
        {"binds": [bind(dest="/root/foo-fs")], "fileStorage": {"hostPath": "/srv"}},
        1000,
        "binds[0].dest",
    ),
    ({"dataDisk": {"size": "20XB"}}, 1029, "dataDisk.size"),
    ({"dataDisk": {"size": "1MB"}}, 1000, "dataDisk.size"),
    ({"dataDisk": {}}, 1000, "dataDisk.size"),
    ({"fileStorage": {}}, 1000, "fileStorage"),
    (
        {"fileStorage": {"hostPath": "/srv", "nfs": {"server": "a", "path": "/b"}}},
        1000,
        "fileStorage",
    ),
    ({"fileStorage": {"hostPath": "/"}}, 1000, "fileStorage.hostPath"),
    ({"fileStorage": {"hostPath": "srv"}}, 1000, "fileStorage.hostPath"),
    (
        {"fileStorage": {"nfs": {"server": "a,soft", "path": "/b"}}},
        1000,
        "fileStorage.nfs.server",
    ),
    ({"fileStorage": {"nfs": {"server": "a", "path": "b"}}}, 1000, "fileStorage.nfs.path"),
    (
        {"fileStorage": {"nfs": {"server": "a", "path": "/b", "options": "ro,addr=1.2.3.4"}}},
        1000,
        "fileStorage.nfs.options",
    ),
    (
        {"fileStorage": {"nfs": {"server": "a", "path": "/b", "options": "ro; rm"}}},
        1000,
        "fileStorage.nfs.options",
    ),
    ({"cpus": 0}, 1000, "cpus"),
    ({"cpus": -1}, 1000, "cpus"),
    ({"cpus": 5000}, 1000, "cpus"),
    ({"cpus": "2"}, 1000, "cpus"),
    ({"memory": "1MB"}, 1000, "memory"),
    ({"memory": "4XB"}, 1029, "memory"),
    ({"memory": 4096}, 1000, "memory"),
    ({"shmSize": "0GB"}, 1000, "shmSize"),
    ({"shmSize": "-1GB"}, 1000, "shmSize"),
    ({"shmSize": "0"}, 1029, "shmSize"),
    ({"memory": "0"}, 1029, "memory"),
    ({"pidsLimit": 0}, 1000, "pidsLimit"),
    ({"pidsLimit": -1}, 1000, "pidsLimit"),
    ({"onExit": "always"}, 1000, "onExit"),
    ({"secretEnv": ["=v"]}, 1000, "secretEnv[0]"),
    ({"env": ["A=" + "x" * 40_000], "secretEnv": ["B=" + "x" * 40_000]}, 1000, "env"),
    ({"onGpuLost": "stop"}, 1000, "onGpuLost"),
    ({"maxRetries": -1}, 1000, "maxRetries"),
    ({"maxRetries": 1001}, 1000, "maxRetries"),
    ({"maxRetries": "3"}, 1000, "maxRetries"),
    ({"pidsLimit": 4_194_305}, 1000, "pidsLimit"),
    ({"pidsLimit": 10**30}, 1000, "pidsLimit"),
    ({"pidsLimit": "512"}, 1000, "pidsLimit"),
    ({"labels": {"gpuledger.owner": "me"}}, 1000, "labels"),
    ({"labels": {"": "x"}}, 1000, "labels"),
    ({"labels": {"a\n": "x"}}, 1000, "labels"),
    ({"labels": {"k" * 200: "x"}}, 1000, "labels"),
    ({"labels": {"a": "x" * 600}}, 1000, "labels"),
    ({"labels": {"a": 1}}, 1000, "labels[...]"),
    ({"labels": {str(n): "" for n in range(65)}}, 1000, "labels"),
    ({"gpus": 2}, 1000, "gpus"),
    ({"restartPolicy": "always"}, 1000, "restartPolicy"),
]


@pytest.mark.parametrize(("extra", "code", "field"), BAD_RUNS)
def test_a_bad_run_is_refused_with_code_and_field(
    extra: dict[str, Any], code: int, field: str
) -> None:
    problem = refused(run, msgspec.json.encode({**SMALLEST, **extra})).problem
    assert (problem.code, problem.field) == (code, field)
    assert problem.field in problem.message
    assert problem.status == (409 if code == 1013 else 400)


@pytest.mark.parametrize(
    ("parse", "body", "code", "field"),
    [
        (run, {"replicaSetName": "foo"}, 1001, "imageName"),
        (run, {"imageName": "a"}, 1002, "replicaSetName"),
        (patch, {"gpuPatch": {"gpuCount": -1}}, 1012, "gpuPatch.gpuCount"),
        (patch, {"gpuPatch": {"gpuCount": 5000}}, 1013, "gpuPatch.gpuCount"),
        (patch, {"gpuPatch": {}}, 1000, "gpuPatch.gpuCount"),
        (patch, {"gpuPatch": 2}, 1000, "gpuPatch"),
        (patch, {"volumePatch": {"oldBind": bind()}}, 1000, "volumePatch.newBind"),
        (
            patch,
            {"volumePatch": {"oldBind": bind(), "newBind": bind(src="bar")}},
            1027,
            "volumePatch.newBind.src",
        ),
        (
            patch,
            {"volumePatch": {"oldBind": bind(), "newBind": bind(dest="/")}},
            1000,
            "volumePatch.newBind.dest",
        ),
        (rollback, {"version": -1}, 1020, "version"),
        (rollback, {"version": 10**12}, 1000, "version"),
        (rollback, {"version": "1"}, 1000, "version"),
        (rollback, {}, 1000, "version"),
        (debug, {"version": -1, "as": "bug"}, 1020, "version"),
        (debug, {"as": "bug"}, 1000, "version"),
        (debug, {"version": 1}, 1000, "as"),
        (debug, {"version": 1, "as": ""}, 1002, "as"),
        (debug, {"version": 1, "as": "b-g"}, 1003, "as"),
        (debug, {"version": 1, "as": "bug", "gpuCount": -1}, 1012, "gpuCount"),
        (debug, {"version": 1, "as": "bug", "cmd": ["a\0"]}, 1000, "cmd[0]"),
        (debug, {"version": 1, "as": "bug", "containerPorts": ["22"]}, 1000, "containerPorts"),
        (pin, {"version": -1}, 1020, "version"),
        (pin, {}, 1000, "version"),
        (unpin, {"version": -1}, 1020, "version"),
        (unpin, {"version": 10**12}, 1000, "version"),
        (unpin, {"version": 1, "why": ""}, 1000, "why"),
        (commit, {"newImageName": ""}, 1001, "newImageName"),
        (commit, {}, 1001, "newImageName"),
        (commit, {"newImageName": "No Image"}, 1000, "newImageName"),
        (commit, {"newImageName": "sha256:" + "a" * 64}, 1000, "newImageName"),
        (commit, {"newImageName": "x@sha256:" + "a" * 64}, 1000, "newImageName"),
        (commit, {"newImageName": "gpuledger/snapshot:foo-1-op"}, 1000, "newImageName"),
        (commit, {"newImageName": "docker.io/gpuledger/snapshot"}, 1000, "newImageName"),
        (commit, {"newImageName": "index.docker.io/gpuledger/snapshot:a"}, 1000, "newImageName"),
        (execute, {}, 1000, "cmd"),
        (execute, {"cmd": []}, 1000, "cmd"),
        (execute, {"cmd": ["a\0"]}, 1000, "cmd[0]"),
        (execute, {"cmd": ["ls"], "workDir": "root"}, 1000, "workDir"),
        (create, {"size": "1GB"}, 1024, "name"),
        (create, {"name": "", "size": "1GB"}, 1024, "name"),
        (create, {"name": "ba-r", "size": "1GB"}, 1031, "name"),
        (create, {"name": "/bar", "size": "1GB"}, 1032, "name"),
        (create, {"name": "ba/r", "size": "1GB"}, 1000, "name"),
        (create, {"name": "b.r", "size": "1GB"}, 1000, "name"),
        (create, {"name": "b" * 64, "size": "1GB"}, 1000, "name"),
        (create, {"name": "bar"}, 1000, "size"),
        (create, {"name": "bar", "size": ""}, 1000, "size"),
        (create, {"name": "bar", "size": "-1GB"}, 1000, "size"),
        (create, {"name": "bar", "size": "1e999GB"}, 1000, "size"),
        (create, {"name": "bar", "size": "20XB"}, 1029, "size"),
        (create, {"name": "bar", "size": "20"}, 1029, "size"),
        (create, {"name": "bar", "size": "15MB"}, 1000, "size"),
        (create, {"name": "bar", "size": "9999999TB"}, 1000, "size"),
        (create, {"name": "bar", "size": 20}, 1000, "size"),
        (resize, {"size": "0GB"}, 1000, "size"),
        (resize, {"size": "1KB"}, 1000, "size"),
        (resize, {"size": "20QB"}, 1029, "size"),
        (resize, {"size": "1GB", "name": "x"}, 1000, "name"),
    ],
)
def test_other_bad_bodies(parse: Parse, body: dict[str, Any], code: int, field: str) -> None:
    problem = refused(parse, msgspec.json.encode(body)).problem
    assert (problem.code, problem.field) == (code, field)


@pytest.mark.parametrize(
    "parse", [run, patch, rollback, debug, pin, commit, execute, create, resize]
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"7",
        b"nonsense",
        b'{"imageName": "\xff\xfe"}',
        b"\xff",
        b'{"imageName": "\\ud800"}',
        b"[" * 10_000,
        b'{"a":' * 10_000,
        b'{"binds":' + b"[" * 10_000,
        b'{"labels":' + b'{"a":' * 10_000,
        b'{"cmd":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b"9" * 100_000,
    ],
)
def test_what_is_no_such_json_is_1000(parse: Parse, body: bytes) -> None:
    problem = refused(parse, body).problem
    assert (problem.code, problem.status) == (1000, 400)


def test_what_stands_behind_the_body_is_1000() -> None:
    problem = refused(run, msgspec.json.encode(SMALLEST) + b" {}").problem
    assert (problem.code, problem.field) == (1000, "body")


def test_a_misspelt_field_is_shown_shortened() -> None:
    body = msgspec.json.encode({**SMALLEST, "x" * 10_000: 1})
    assert len(refused(run, body).problem.field) <= 64


def test_every_value_that_is_shown_is_shown_shortened() -> None:
    assert len(check.shown("x" * 10_000)) < 60
    assert "\n" not in check.shown("a\nb")
