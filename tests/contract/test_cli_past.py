"""The command line asked about the past: `--at` of every reading command, and `diff` of points."""

from collections.abc import Iterator

import pytest

from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer

THEN = "2026-01-02T03:04:05+02:00"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        rig = Rig(server)
        for args in (("run", "foo", "--image", "a"), ("volume", "create", "bar", "1GB")):
            assert rig(*args).exit_code == 0
        server.world.queries.clear()
        yield rig


@pytest.mark.parametrize(
    "args",
    [
        ("ps",),
        ("info", "foo"),
        ("history", "foo"),
        ("diff", "foo@1", "foo@1", "--no-files"),
        ("gpus",),
        ("ports",),
        ("volume", "ls"),
        ("volume", "info", "bar"),
        ("volume", "history", "bar"),
        ("explain", "foo"),
    ],
)
def test_every_read_is_about_then(rig: Rig, args: tuple[str, ...]) -> None:
    now = rig(*args)
    assert now.exit_code == 0, now.output
    assert {query.get("at") for query in rig.world.queries} == {None}
    rig.world.queries.clear()
    then = rig(*args, "--at", THEN)
    assert then.exit_code == 0, then.output
    assert {query.get("at") for query in rig.world.queries} == {THEN}


def test_an_empty_point_is_not_now(rig: Rig) -> None:
    assert rig("ps", "--at", "").exit_code == 0  # the contract server refuses nothing
    assert [query["at"] for query in rig.world.queries] == [""]


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("op", "x", "--wait", "--at", "3"), "--wait"),
        (("gpus", "--at", "3", "quarantine", "0", "--why", "x"), "quarantine"),
        (("diff", "foo@1", "--at", "3"), "--no-files"),
        (("diff", "3", "9", "--at", "3"), "leave --at out"),
        (("diff", "3", "foo@1"), "is none"),
        (("stop", "foo", "--at", "3"), "No such option"),
    ],
)
def test_what_is_not_about_the_past(rig: Rig, args: tuple[str, ...], word: str) -> None:
    refused = rig(*args)
    assert (refused.exit_code, rig.world.queries) == (2, [])
    assert word in refused.output


def test_diff_of_points(rig: Rig) -> None:
    rig.world.changes = {
        "from": 3,
        "to": 9,
        "gpus": [],
        "ports": [{"name": "40000", "how": "removed", "changes": [change("holder", "foo-1", "")]}],
        "replicaSets": [
            {
                "name": "foo",
                "how": "changed",
                "changes": [change("version", "1", "2"), change("env.A", "", "1")],
            }
        ],
        "volumes": [],
    }
    shown = rig("diff", "3", "9").stdout.splitlines()
    assert [line.split() for line in shown] == [
        ["WHAT", "NAME", "FIELD", "BEFORE", "AFTER"],
        ["replica", "set", "foo", "changed", "version", "1", "2"],
        ["env.A", "-", "1"],
        ["port", "40000", "removed", "holder", "foo-1", "-"],
    ]
    assert rig.world.queries[-1] == {"from": "3", "to": "9"}
    assert rig.data("diff", THEN)["to"] == 9
    assert rig.world.queries[-1] == {"from": THEN}


def test_diff_of_the_same_point(rig: Rig) -> None:
    assert rig("diff", "0", "0").stdout == "nothing differs between 0 and 0\n"


def change(field: str, old: str, new: str) -> dict[str, str]:
    return {"field": field, "old": old, "new": new}
