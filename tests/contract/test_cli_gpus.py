"""`gpuledger gpus`: who has which, which are not lent and why; quarantine and restore."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer
from tests.kit.contract_world import CREATED, uuid_of

ILL = "XID 79 (the GPU fell off the bus)"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        yield Rig(server)


def shown(rig: Rig, index: int, **details: Any) -> list[str]:
    """The words of a GPU's row, and the lines below the table."""
    rig.world.gpus_shown[uuid_of(index)] = details
    _note, _heading, *lines = rig("gpus").stdout.splitlines()
    return [lines[index], *lines[4:]]


def test_quarantine_by_uuid_and_restore_by_index(rig: Rig) -> None:
    done = rig("gpus", "quarantine", uuid_of(2), "--why", "fan noise")
    assert (done.exit_code, done.stdout) == (0, "GPU 2 is not lent any more\n"), done.output
    assert rig.world.quarantined == {uuid_of(2): "fan noise"}
    row, why = shown(rig, 2)
    assert row.split()[-2:] == ["quarantined", uuid_of(2)]
    since = CREATED.strftime("%Y-%m-%d %H:%M:%SZ")
    assert why == f"GPU 2: fan noise, quarantined by hand since {since}"
    assert rig.data("gpus")["gpus"][uuid_of(2)] == 1
    assert rig("gpus", "restore", "2").stdout == "GPU 2 is lent again\n"
    assert rig.world.quarantined == {}


@pytest.mark.parametrize(
    ("details", "used_by", "below"),
    [
        (
            {
                "holder": "foo-1",
                "health": "sick",
                "quarantine": "policy",
                "why": ILL,
                "ailments": [{"cause": "xid", "message": ILL}, {"cause": "ecc", "message": "ECC"}],
            },
            "foo-1 (sick, quarantined)",
            [f"GPU 1: {ILL}; ECC, quarantined by itself"],
        ),
        (
            {"occupants": [4711], "why": "process 4711 of the host is on it"},
            "busy",
            ["GPU 1: process 4711 of the host is on it"],
        ),
        ({"present": False, "holder": "foo-1"}, "foo-1 (GPU not seen)", []),
        ({"present": False}, "GPU not seen", []),
        ({}, "free", []),
    ],
)
def test_the_list_says_what_is_wrong(
    rig: Rig, details: dict[str, Any], used_by: str, below: list[str]
) -> None:
    row, *lines = shown(rig, 1, **details)
    assert f"  {used_by}  " in row
    assert lines == below


@pytest.mark.parametrize("which", ["9", "GPU-nowhere", "quarantine"])
def test_no_such_gpu(rig: Rig, which: str) -> None:
    failed = rig("gpus", "restore", which)
    assert (failed.exit_code, failed.stdout) == (4, "")
    assert f"there is no GPU {which}" in failed.stderr


def test_an_index_that_two_have_is_not_guessed(rig: Rig) -> None:
    rig.world.gpus_shown[uuid_of(1)] = {"index": 0}
    failed = rig("gpus", "restore", "0")
    assert failed.exit_code == 2
    assert uuid_of(1) in failed.stderr
    rig.world.gpus_shown[uuid_of(1)]["present"] = False
    assert rig("gpus", "restore", "0").exit_code == 0


def test_a_quarantine_needs_a_reason(rig: Rig) -> None:
    failed = rig("gpus", "quarantine", "0")
    assert failed.exit_code == 2
    assert "--why" in failed.stderr


def test_options_stand_before_or_after(rig: Rig) -> None:
    for args in (("gpus", "--json"), ("--json", "gpus")):
        assert rig(*args).stdout.startswith("{")
