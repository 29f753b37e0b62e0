"""`gpuledger orphans`: what is there and in no record, and how to be rid of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer
from tests.kit.contract_world import CREATED

SINCE = CREATED.strftime("%Y-%m-%d %H:%M:%SZ")


def orphan(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"id": f"{kind}-{name}", "kind": kind, "name": name, **more}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        rig = Rig(server)
        rig.world.orphans += [
            orphan("container", "foo-7"),
            orphan("volume", "bar-1"),
            orphan("volume_disk", "bar", sizeBytes=3 << 20, removalTime=CREATED.isoformat()),
        ]
        yield rig


def names(rig: Rig) -> list[str]:
    return [one["name"] for one in rig.world.orphans]


def test_the_list(rig: Rig) -> None:
    heading, first, _, last = rig("orphans").stdout.splitlines()
    assert heading.split() == ["KIND", "NAME", "SIZE", "SINCE", "REMOVED", "AFTER"]
    assert first.split() == ["container", "foo-7", "-", *SINCE.split(), "never"]
    assert last.split() == ["volume", "disk", "bar", "3MB", *SINCE.split(), *SINCE.split()]
    assert [one["name"] for one in rig.data("orphans")["orphans"]] == names(rig)


def test_none_at_all(rig: Rig) -> None:
    rig.world.orphans.clear()
    for args in (("orphans",), ("orphans", "remove"), ("orphans", "remove", "--dry-run")):
        assert (rig(*args).exit_code, rig(*args).stdout) == (0, "no orphans\n")


def test_all_or_those_that_are_named_are_removed(rig: Rig) -> None:
    assert rig("orphans", "remove", "foo-7").stdout == "container foo-7 is removed\n"
    assert names(rig) == ["bar-1", "bar"]
    assert rig.data("orphans", "remove", "volume-bar-1") == {"removed": ["volume-bar-1"]}
    assert rig("orphans", "remove").stdout == "volume disk bar is removed\n"
    assert names(rig) == []


def test_a_dry_run_only_says_it(rig: Rig) -> None:
    said = rig("orphans", "remove", "--dry-run", "foo-7").stdout
    assert said == "container foo-7 would be removed\n"
    every = ["container-foo-7", "volume-bar-1", "volume_disk-bar"]
    assert rig.data("orphans", "remove", "--dry-run") == {"wouldBeRemoved": every}
    assert len(names(rig)) == 3


def test_no_such_orphan(rig: Rig) -> None:
    failed = rig("orphans", "remove", "foo-7", "nobody")
    assert (failed.exit_code, failed.stdout) == (4, "")
    assert "there is no orphan nobody" in failed.stderr
    assert len(names(rig)) == 3
