"""`gpuledger explain`: what it asks for, and how the answer reads."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer

EXPLANATION: dict[str, Any] = {
    "seq": 9,
    "answer": [{"text": "foo is foo-1, by run", "seq": 3}, {"text": "it may be lent", "seq": None}],
    "chain": [
        {
            "seq": 3,
            "time": "2026-01-02T03:04:05.000006Z",
            "actor": "ci",
            "tenant": "",
            "kind": "replica_set",
            "name": "foo",
            "verb": "run",
            "says": ["run of foo was accepted", "GPU 0 lent to foo-1"],
            "decidedFrom": [
                {"text": "GPU 0: taken, nobody has it", "seq": None},
                {"text": "GPU 1: bar-1 has it", "seq": 2},
            ],
            "operationId": "o",
            "outcome": "succeeded",
            "endedSeq": 7,
            "cause": None,
        },
        {
            "seq": 7,
            "time": "2026-01-02T03:04:06.000006Z",
            "actor": "executor",
            "says": ["the operation succeeded"],
            "cause": 3,
        },
    ],
    "older": True,
}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        server.world.explanation = EXPLANATION
        yield Rig(server)


def test_how_it_reads(rig: Rig) -> None:
    lines = rig("explain", "foo").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in lines[:3]] == [
        ["RECORD", "ANSWER"],
        ["3", "foo is foo-1, by run"],
        ["-", "it may be lent"],
    ]
    assert lines[4].split() == ["RECORD", "TIME", "BY", "WHAT"]
    first, last = lines[5].split(maxsplit=4), lines[10].split(maxsplit=4)
    assert first == ["3", "2026-01-02", "03:04:05Z", "ci", "run of foo was accepted"]
    assert [line.strip() for line in lines[6:10]] == [
        "GPU 0 lent to foo-1",
        "<- GPU 0: taken, nobody has it",
        "<- GPU 1: bar-1 has it (record 2)",
        "-> succeeded, record 7",
    ]
    assert last == ["7", "2026-01-02", "03:04:06Z", "executor", "the operation succeeded"]
    assert [line.strip() for line in lines[11:]] == [
        "<- record 3",
        "there are older records about it; --all --limit N shows the newest N",
    ]


@pytest.mark.parametrize(
    ("args", "path"),
    [
        (("foo",), "replicaSet/foo"),
        (("foo@2",), "replicaSet/foo@2"),
        (("set", "gpu"), "replicaSet/gpu"),
        (("volume", "bar"), "volume/bar"),
        (("gpu", "3"), "gpu/3"),
        (("port", "40001"), "port/40001"),
        (("op", "0197"), "operation/0197"),
        (("seq", "4711"), "record/4711"),
    ],
)
def test_what_is_asked_for(rig: Rig, args: tuple[str, ...], path: str) -> None:
    assert rig.data("explain", *args) == EXPLANATION
    assert rig.world.requests[-1][:2] == ("GET", f"/api/v1/explain/{path}")
    assert rig.world.queries[-1] == {}
    assert rig("explain", *args, "--all", "--limit", "7", "--at", "5").exit_code == 0
    assert rig.world.queries[-1] == {"all": "1", "limit": "7", "at": "5"}


@pytest.mark.parametrize(
    ("args", "words"), [(("gpu",), "explain gpu NAME"), (("box", "foo"), "none of set, volume")]
)
def test_what_makes_no_sense(rig: Rig, args: tuple[str, ...], words: str) -> None:
    refused = rig("explain", *args)
    assert (refused.exit_code, rig.world.requests) == (2, [])
    assert words in " ".join(refused.output.replace("│", " ").split())
