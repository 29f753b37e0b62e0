"""Bad input: its code, an honest status, a text that names the field; and nothing came of it.

One service for all of it: a request that does no harm leaves nothing for the next to trip over.
"""

import socket
from http import HTTPStatus
from typing import Any

import pytest

from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import Answer, ServiceProcess

TEN_KB = "a" * 10_240
GOOD = {"imageName": "busybox:test", "replicaSetName": "foo"}
BODY_BYTES_MAX = 1 << 20

BIND = {"src": "/tmp", "dest": "/mnt"}
NEST = b'{"imageName":' + b"[" * 10_000 + b"]" * 10_000 + b"}"
DEEP = b'{"a":' * 10_000 + b"1" + b"}" * 10_000

# What a run is refused for: the fields that are bad, the code, the field that the text names.
BAD_RUNS: list[tuple[str, dict[str, Any], int, str]] = [
    ("image of a wrong type", {"imageName": 7}, 1000, "imageName"),
    ("name of a wrong type", {"replicaSetName": ["foo"]}, 1000, "replicaSetName"),
    ("name is null", {"replicaSetName": None}, 1000, "replicaSetName"),
    ("count is a text", {"gpuCount": "1"}, 1000, "gpuCount"),
    ("count is broken", {"gpuCount": 1.5}, 1000, "gpuCount"),
    ("count is a truth", {"gpuCount": True}, 1000, "gpuCount"),
    ("env is a text", {"env": "A=1"}, 1000, "env"),
    ("env of numbers", {"env": [1]}, 1000, "env[0]"),
    ("cmd is a text", {"cmd": "sleep"}, 1000, "cmd"),
    ("binds is an object", {"binds": BIND}, 1000, "binds"),
    ("bind without dest", {"binds": [{"src": "/tmp"}]}, 1000, "binds[0].dest"),
    ("unknown field", {"gpucount": 1}, 1000, "gpucount"),
    ("unknown field inside", {"binds": [{**BIND, "mode": "ro"}]}, 1000, "binds[0].mode"),
    ("name empty", {"replicaSetName": ""}, 1002, "replicaSetName"),
    ("name with a slash", {"replicaSetName": "a/b"}, 1000, "replicaSetName"),
    ("name with a dot", {"replicaSetName": "a.b"}, 1000, "replicaSetName"),
    ("name with a star", {"replicaSetName": "a*"}, 1000, "replicaSetName"),
    ("name with a blank", {"replicaSetName": "a b"}, 1000, "replicaSetName"),
    ("name with a greater-than", {"replicaSetName": ">"}, 1000, "replicaSetName"),
    ("name with a newline", {"replicaSetName": "foo\n"}, 1000, "replicaSetName"),
    ("name with a NUL", {"replicaSetName": "foo\0"}, 1000, "replicaSetName"),
    ("name with an umlaut", {"replicaSetName": "föö"}, 1000, "replicaSetName"),
    ("name of 10 kB", {"replicaSetName": TEN_KB}, 1000, "replicaSetName"),
    ("name with a dash", {"replicaSetName": "foo-1"}, 1003, "replicaSetName"),
    ("image empty", {"imageName": ""}, 1001, "imageName"),
    ("image with a blank", {"imageName": "busy box"}, 1000, "imageName"),
    ("image of 10 kB", {"imageName": TEN_KB}, 1000, "imageName"),
    ("port 0", {"containerPorts": ["0"]}, 1000, "containerPorts[0]"),
    ("port 70000", {"containerPorts": ["22", "70000"]}, 1000, "containerPorts[1]"),
    ("port twice", {"containerPorts": ["22", "80", "22"]}, 1000, "containerPorts[2]"),
    ("port twice, spelled otherwise", {"containerPorts": ["22", "022/tcp"]}, 1000, "Ports[1]"),
    ("port is a word", {"containerPorts": ["ssh"]}, 1000, "containerPorts[0]"),
    ("port negative", {"containerPorts": [-1]}, 1000, "containerPorts[0]"),
    ("env without =", {"env": ["A=1", "B"]}, 1000, "env[1]"),
    ("env without a key", {"env": ["=1"]}, 1000, "env[0]"),
    ("env with a NUL", {"env": ["A=\0"]}, 1000, "env[0]"),
    ("env of the service", {"env": ["NVIDIA_VISIBLE_DEVICES=all"]}, 1000, "env[0]"),
    ("bind to /", {"binds": [{"src": "/tmp", "dest": "/"}]}, 1000, "binds[0].dest"),
    ("bind to // /.", {"binds": [{"src": "/tmp", "dest": "//./"}]}, 1000, "binds[0].dest"),
    ("bind of /", {"binds": [{"src": "/", "dest": "/mnt"}]}, 1000, "binds[0].src"),
    ("bind with ..", {"binds": [{"src": "/tmp/../etc", "dest": "/mnt"}]}, 1000, "binds[0].src"),
    ("bind to no path", {"binds": [{"src": "/tmp", "dest": "mnt"}]}, 1000, "binds[0].dest"),
    ("bind of no version", {"binds": [{"src": "bar", "dest": "/mnt"}]}, 1027, "binds[0].src"),
    ("two binds to one path", {"binds": [BIND, BIND]}, 1000, "binds[1].dest"),
    (
        "two binds to one path, spelled otherwise",
        {"binds": [BIND, {"src": "/srv", "dest": "/mnt/"}]},
        1000,
        "binds[1].dest",
    ),
    ("count negative", {"gpuCount": -1}, 1012, "gpuCount"),
    ("data disk -1GB", {"dataDisk": {"size": "-1GB"}}, 1000, "dataDisk.size"),
    ("memory 1e999GB", {"memory": "1e999GB"}, 1000, "memory"),
    ("shm 20XB", {"shmSize": "20XB"}, 1029, "shmSize"),
    ("cpus negative", {"cpus": -1}, 1000, "cpus"),
    ("cpus a text", {"cpus": "2"}, 1000, "cpus"),
    ("label of the service", {"labels": {"gpuledger.owner": "me"}}, 1000, "labels"),
    ("storage from two places", {"fileStorage": {}}, 1000, "fileStorage"),
]

# Bodies that are no run at all; the text names the body as a whole.
BAD_BODIES: list[tuple[str, bytes, int]] = [
    ("nothing", b"", 400),
    ("not JSON", b"imageName=busybox", 400),
    ("half of it", b'{"imageName": "busy', 400),
    ("two of it", b'{"imageName": "a", "replicaSetName": "foo"} {}', 400),
    ("a list", b'[{"imageName": "busybox:test"}]', 400),
    ("null", b"null", 400),
    ("a text", b'"foo"', 400),
    ("invalid UTF-8", b'{"imageName": "\xff\xfe", "replicaSetName": "foo"}', 400),
    ("half a surrogate pair", b'{"imageName": "\\ud800", "replicaSetName": "foo"}', 400),
    ("not a number", b'{"gpuCount": NaN}', 400),
    ("a number beyond all", b'{"cpus": 1e999}', 400),
    ("lists 10,000 deep", NEST, 400),
    ("objects 10,000 deep", DEEP, 400),
    ("over the limit", b'{"imageName": "' + b"a" * BODY_BYTES_MAX + b'"}', 413),
]

# Every other route that takes something: method, path, body, code, the field in the text.
BAD_CALLS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", "/volumes", {"name": "bar", "size": "-1GB"}, 1000, "size"),
    ("POST", "/volumes", {"name": "bar", "size": "1e999GB"}, 1000, "size"),
    ("POST", "/volumes", {"name": "bar", "size": "9999999TB"}, 1000, "size"),
    ("POST", "/volumes", {"name": "bar", "size": "0GB"}, 1000, "size"),
    ("POST", "/volumes", {"name": "bar", "size": "20XB"}, 1029, "size"),
    ("POST", "/volumes", {"name": "bar", "size": "20"}, 1029, "size"),
    ("POST", "/volumes", {"name": "bar", "size": 20}, 1000, "size"),
    ("POST", "/volumes", {"name": "bar"}, 1000, "size"),
    ("POST", "/volumes", {"name": "", "size": "20GB"}, 1024, "name"),
    ("POST", "/volumes", {"name": "a-b", "size": "20GB"}, 1031, "name"),
    ("POST", "/volumes", {"name": "/bar", "size": "20GB"}, 1032, "name"),
    ("POST", "/volumes", {"name": TEN_KB, "size": "20GB"}, 1000, "name"),
    ("PATCH", "/volumes/bar/size", {"size": "20XB"}, 1029, "size"),
    ("PATCH", "/volumes/a.b/size", {"size": "20GB"}, 1000, "name"),
    ("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": -1}}, 1012, "gpuPatch.gpuCount"),
    ("PATCH", "/replicaSet/foo", {"gpuPatch": {}}, 1000, "gpuPatch.gpuCount"),
    ("PATCH", "/replicaSet/foo", {"gpuPatch": 2}, 1000, "gpuPatch"),
    ("PATCH", "/replicaSet/foo", {"gpuCount": 2}, 1000, "gpuCount"),
    ("PATCH", "/replicaSet/foo", {"volumePatch": {"newBind": BIND}}, 1000, "volumePatch.oldBind"),
    ("PATCH", "/replicaSet/foo-1", {}, 1003, "name"),
    ("PATCH", "/replicaSet/foo/rollback", {"version": -1}, 1020, "version"),
    ("PATCH", "/replicaSet/foo/rollback", {"version": "1"}, 1000, "version"),
    ("PATCH", "/replicaSet/foo/rollback", {}, 1000, "version"),
    ("PATCH", "/replicaSet/a*/stop", {}, 1000, "name"),
    ("PATCH", "/replicaSet/a%2Fb/pause", {}, 1000, "name"),
    ("PATCH", "/replicaSet/a%20b/restart", {}, 1000, "name"),
    ("PATCH", "/replicaSet/a%00b/continue", {}, 1000, "name"),
    ("DELETE", "/replicaSet/foo-1", {}, 1003, "name"),
    ("DELETE", "/replicaSet/a%FFb", {}, 1000, "name"),
    ("POST", "/replicaSet/foo/execute", {"cmd": []}, 1000, "cmd"),
    ("POST", "/replicaSet/foo/execute", {"cmd": ["a\0"]}, 1000, "cmd[0]"),
    ("POST", "/replicaSet/foo/execute", {"cmd": ["ls"], "workDir": "tmp"}, 1000, "workDir"),
    ("POST", "/replicaSet/foo/commit", {"newImageName": ""}, 1001, "newImageName"),
    ("POST", "/replicaSet/foo/commit", {"newImageName": "A b"}, 1000, "newImageName"),
    ("GET", "/replicaSet/a.b", {}, 1000, "name"),
    ("GET", "/replicaSet/foo-1/history", {}, 1003, "name"),
    ("GET", "/operations?limit=0", {}, 1000, "limit"),
    ("GET", "/operations?before=x", {}, 1000, "before"),
]


@pytest.fixture(autouse=True)
def nothing_came_of_it(shared: ServiceProcess, dockerd: PrivateDockerd) -> Any:
    """After each test the ledger ends where it did, Docker has nothing, and nothing is leased."""
    before = shared.last_seq()
    yield
    assert shared.last_seq() == before
    assert shared.leases() == (0, 0)
    with dockerd.client() as client:
        assert client.containers.list(all=True) == []
        assert client.volumes.list() == []


@pytest.mark.parametrize(
    ("fields", "code", "field"), [case[1:] for case in BAD_RUNS], ids=[c[0] for c in BAD_RUNS]
)
def test_a_bad_run(shared: ServiceProcess, fields: dict[str, Any], code: int, field: str) -> None:
    answer = shared.call("POST", "/replicaSet", {**GOOD, **fields})
    answer.refused(code, 400, field)
    assert len(answer.msg) < 300
    assert answer.data["reason"] == "bad_request"


def test_a_run_without_its_names(shared: ServiceProcess) -> None:
    shared.call("POST", "/replicaSet", {"imageName": "a"}).refused(1002, 400, "replicaSetName")
    shared.call("POST", "/replicaSet", {"replicaSetName": "a"}).refused(1001, 400, "imageName")


@pytest.mark.parametrize("count", [5, 1_000_000, 10**30])
def test_more_gpus_than_there_are(shared: ServiceProcess, count: int) -> None:
    answer = shared.run("foo", count)
    answer.refused(1013, 409, "GPUs")
    assert answer.data["reason"] == "gpus_exhausted"


def test_more_ports_than_there_are(shared: ServiceProcess) -> None:
    ports = [str(port) for port in range(1, 52)]
    shared.run("foo", containerPorts=ports).refused(1014, 409, "51 ports")


def test_a_bind_of_a_missing_volume(shared: ServiceProcess) -> None:
    answer = shared.run("foo", binds=[{"src": "bar-1", "dest": "/mnt"}])
    answer.refused(1004, 404, "bar-1")
    assert answer.data["reason"] == "volume_not_found"


@pytest.mark.parametrize(
    ("body", "status"), [case[1:] for case in BAD_BODIES], ids=[c[0] for c in BAD_BODIES]
)
@pytest.mark.parametrize("path", ["/replicaSet", "/volumes"])
def test_a_body_that_is_none(shared: ServiceProcess, path: str, body: bytes, status: int) -> None:
    answer = shared.call("POST", path, content=body)
    assert (answer.code, answer.status) == (1000, status), answer
    assert answer.msg
    assert len(answer.msg) < 300


@pytest.mark.parametrize(("method", "path", "body", "code", "field"), BAD_CALLS)
def test_a_bad_call(
    shared: ServiceProcess, method: str, path: str, body: dict[str, Any], code: int, field: str
) -> None:
    shared.call(method, path, body).refused(code, 400, field)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("PATCH", "/replicaSet/foo", 1007),
        ("PATCH", "/replicaSet/foo/stop", 1010),
        ("PATCH", "/replicaSet/foo/restart", 1011),
        ("PATCH", "/replicaSet/foo/pause", 1018),
        ("PATCH", "/replicaSet/foo/continue", 1019),
        ("DELETE", "/replicaSet/foo", 1005),
        ("GET", "/replicaSet/foo", 1016),
        ("GET", "/replicaSet/foo/history", 1017),
        ("DELETE", "/volumes/foo", 1025),
        ("GET", "/volumes/foo", 1033),
        ("GET", "/volumes/foo/history", 1034),
        ("GET", "/operations/foo", 1106),
    ],
)
def test_a_name_that_is_not_there(
    shared: ServiceProcess, method: str, path: str, code: int
) -> None:
    shared.call(method, path).refused(code, 404, "foo")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/replicaSets", HTTPStatus.NOT_FOUND),
        ("POST", "/replicaSet/foo/explode", HTTPStatus.NOT_FOUND),
        ("GET", "/", HTTPStatus.NOT_FOUND),
        ("PUT", "/replicaSet", HTTPStatus.METHOD_NOT_ALLOWED),
        ("POST", "/replicaSet/foo/stop", HTTPStatus.METHOD_NOT_ALLOWED),
        ("DELETE", "/resources/gpus", HTTPStatus.METHOD_NOT_ALLOWED),
        ("GET", "/replicaSet/foo/stop", HTTPStatus.METHOD_NOT_ALLOWED),
    ],
)
def test_no_such_route(shared: ServiceProcess, method: str, path: str, status: int) -> None:
    shared.call(method, path).refused(1107, status, "/api/v1")


def test_an_idempotency_key_that_is_none(shared: ServiceProcess) -> None:
    for key in ("", "a b", "k" * 256):
        answer = shared.call("POST", "/replicaSet", GOOD, {"Idempotency-Key": key})
        answer.refused(1000, 400, "Idempotency-Key")


def test_a_body_that_is_not_compressed_as_it_says(shared: ServiceProcess) -> None:
    headers = {"Content-Encoding": "gzip", "Connection": "close"}
    answer = shared.call("POST", "/replicaSet", GOOD, headers)
    assert (answer.code, answer.status) == (1000, 400), answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /api/v1/replicaSet/" + TEN_KB.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost: a\r\nX-Long: " + TEN_KB.encode() + b"\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nHost a\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /api/v1/replicaSet HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/replicaSet HTTP/1.1\r\nHost: a\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["long path", "long header", "no colon", "nonsense", "length -1", "bad chunk"],
)
def test_what_is_no_http(shared: ServiceProcess, request_: bytes) -> None:
    host, _, port = shared.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request_)
        answer = connection.recv(65536)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")), answer


def test_it_is_well_after_all_that(shared: ServiceProcess) -> None:
    assert shared.page("/readyz").status_code == 200
    assert isinstance(shared.get("/replicaSet"), Answer)
