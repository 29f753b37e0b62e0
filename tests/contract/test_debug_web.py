"""Debug copies over HTTP and on the command line: asked for, told from others, found again."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from events.values import Bind
from projections.state import ReplicaSet
from service.domain.commands import DebugReplicaSet
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import replica_set, revision, spec
from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer
from tests.kit.web_site import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """With foo, and two debug copies."""
    async with Site() as site:
        add(site, "bag", "foo@1")
        add(site, "bug", "foo@3")
        add(site, "bxg", "bug@1")
        add(site, "foo", "")
        yield site


def add(site: Site, name: str, debug_of: str) -> None:
    one: ReplicaSet = replica_set(name=name, debug_of=debug_of)
    made_of = spec(binds=(Bind("/data", "/data", read_only=bool(debug_of)),))
    site.reads.sets[name] = one
    site.reads.versions[name] = [revision(name=name, debug_of=debug_of, spec=made_of)]


async def names(site: Site, query: str) -> list[str]:
    answer = await site.get(f"/api/v1/replicaSet{query}")
    assert answer.status == 200, answer.body
    return [row["name"] for row in answer.data["replicaSets"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["bag", "bug", "bxg", "foo"]),
        ("?debugOf=foo", ["bag", "bug"]),
        ("?debugOf=foo@3", ["bug"]),
        ("?debugOf=foo@2", []),
        ("?debugOf=fo", []),
        ("?debugOf=foo&limit=1", ["bag"]),
        ("?debugOf=foo&after=bag", ["bug"]),
    ],
)
async def test_the_copies_of_one_are_found(site: Site, query: str, expected: list[str]) -> None:
    assert await names(site, query) == expected


@pytest.mark.parametrize("text", ["", "foo@", "@3", "foo@0", "foo@x", "f-o", "foo-3", "a@1@2"])
async def test_what_is_no_version_is_not_searched_for(site: Site, text: str) -> None:
    answer = await site.get(f"/api/v1/replicaSet?debugOf={text}")
    assert (answer.status, answer.code, answer.data["field"]) == (400, 1000, "debugOf")


async def test_a_copy_says_of_what(site: Site) -> None:
    rows = {r["name"]: r for r in (await site.get("/api/v1/replicaSet")).data["replicaSets"]}
    assert rows["bug"]["debugOf"] == "foo@3"
    assert "debugOf" not in rows["foo"]
    info = (await site.get("/api/v1/replicaSet/bug")).data["info"]
    assert info["debugOf"] == "foo@3"
    assert info["config"]["Labels"]["gpuledger.debug-of"] == "foo@3"
    assert info["hostConfig"]["Mounts"][0]["ReadOnly"]
    history = (await site.get("/api/v1/replicaSet/bug/history")).data["history"]
    assert history[0]["status"]["debugOf"] == "foo@3"
    assert "debugOf" not in (await site.get("/api/v1/replicaSet/foo")).data["info"]


async def test_a_copy_is_asked_for_by_its_own_name(site: Site) -> None:
    body = {"version": 3, "as": "new", "cmd": ["sleep", "9"]}
    answer = await site.send("POST", "/api/v1/replicaSet/foo/debug", json=body)
    assert answer.data == {"name": "bug-1", "debugOf": "foo@3"}
    (sent,) = site.intake.submitted
    assert sent.command == DebugReplicaSet("new", "foo", 3, cmd=("sleep", "9"))
    assert sent.request == body


@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [
        (Reason.REPLICA_SET_NOT_FOUND, 1125, 404),
        (Reason.REVISION_NOT_FOUND, 1125, 404),
        (Reason.REPLICA_SET_EXISTS, 1008, 409),
        (Reason.SYSTEM_DISK_GONE, 1102, 422),
        (Reason.OPERATION_IN_PROGRESS, 1100, 409),
        (Reason.DEBUG_COPY, 1126, 422),
    ],
)
async def test_refusals(site: Site, reason: Reason, code: int, status: int) -> None:
    site.intake.answers.append(Rejected(reason, "why"))
    body = {"version": 3, "as": "new"}
    answer = await site.send("POST", "/api/v1/replicaSet/foo/debug", json=body)
    assert (answer.status, answer.code, answer.json["msg"]) == (status, code, "why")


@pytest.fixture
def foo() -> Iterator[Rig]:
    """A rig with a replica set."""
    with ContractServer() as server:
        rig = Rig(server)
        assert rig("run", "foo", "--image", "busybox").exit_code == 0
        yield rig


def body_of(foo: Rig) -> Any:
    """What the last command sent."""
    return next(body for method, _, body in reversed(foo.world.requests) if method == "POST")


def test_the_command_that_makes_one(foo: Rig) -> None:
    done = foo("debug", "foo@1", "--as", "bug")
    assert done.stdout == "bug-1 is running, a debug copy of foo@1\n"
    assert body_of(foo) == {"version": 1, "as": "bug"}
    foo("debug", "foo@1", "--as", "bag", "--gpus", "2", "--", "sleep", "infinity")
    expected = {"version": 1, "as": "bag", "gpuCount": 2, "cmd": ["sleep", "infinity"]}
    assert body_of(foo) == expected


@pytest.mark.parametrize("text", ["foo", "foo@", "foo@x", "@1", "foo@0", "foo-1"])
def test_a_version_has_to_be_named(foo: Rig, text: str) -> None:
    done = foo("debug", text, "--as", "bug")
    assert done.exit_code == 2
    assert "names no version" in done.output


def test_a_copy_is_told_from_others(foo: Rig) -> None:
    foo("debug", "foo@1", "--as", "bug")
    bug, plain = foo("ps").stdout.splitlines()[1:]
    assert "running, copy of foo@1" in bug
    assert "copy" not in plain
    assert "debug copy  of foo@1" in foo("info", "bug").stdout
    foo("ps", "--debug-of", "foo@1")
    assert foo.world.queries[-1] == {"debugOf": "foo@1"}
