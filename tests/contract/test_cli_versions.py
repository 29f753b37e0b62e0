"""The command line on the versions of a replica set: history, diff."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer

DAY = ["2026-01-02", "03:04:05Z"]


@pytest.fixture
def foo() -> Iterator[Rig]:
    """A rig with a replica set that has two GPUs."""
    with ContractServer() as server:
        rig = Rig(server)
        result = rig("run", "foo", "--image", "busybox", "--gpus", "2")
        assert result.exit_code == 0, result.output
        yield rig


def shown(rig: Rig, version: int, **fields: Any) -> None:
    """Let the history of foo say this of a version."""
    found = rig.world.sets.get("foo") or rig.world.deleted["foo"]
    found.versions[version - 1].shown.update(fields)


def columns(rig: Rig, *names: str) -> list[tuple[str, ...]]:
    """These columns of the history, newest version first; cells are cut where headings stand."""
    heading, *lines = rig("history", "foo").stdout.splitlines()
    starts = sorted(heading.index(word) for word in heading.split())
    cells = []
    for name in names:
        start = heading.index(name)
        end = next((other for other in starts if other > start), None)
        cells.append([line[start:end].strip() for line in lines])
    return list(zip(*cells, strict=True))


def test_the_history_says_what_became_of_every_version(foo: Rig) -> None:
    foo("patch", "foo", "--gpus", "1")
    foo("rollback", "foo", "1")
    rows = [line.split() for line in foo("history", "foo").stdout.splitlines()]
    assert rows == [
        ["VERSION", "CREATED", "BY", "GPUS", "IMAGE", "DISK", "SIZE", "CHANGED"],
        ["*", "3", *DAY, "rollback", "2", "busybox", "in", "use", "-", "to", "1"],
        ["2", *DAY, "patch", "1", "busybox", "kept", "2MB", "gpuCount", "2→1"],
        ["1", *DAY, "run", "2", "busybox", "kept", "1MB", "-"],
    ]


@pytest.mark.parametrize(
    ("fields", "disk", "size"),
    [
        ({}, "kept", "1MB"),
        ({"diskBytes": 0}, "kept", "0B"),
        ({"pinned": True}, "pinned", "1MB"),
        ({"diskKept": False, "diskBytes": None, "diskGone": "too old"}, "gone", "-"),
        (
            {"diskKept": False, "diskBytes": None, "diskGone": "too old", "diskWith": 2},
            *("gone", "-"),
        ),
        ({"diskKept": False, "diskBytes": None, "diskWith": 2}, "with 2", "-"),
        ({"diskWith": 2}, "with 2", "-"),
        ({"diskKept": False, "diskBytes": None}, "in use", "-"),
    ],
)
def test_where_a_system_disk_is(foo: Rig, fields: dict[str, Any], disk: str, size: str) -> None:
    foo("patch", "foo")
    shown(foo, 1, **fields)
    assert columns(foo, "VERSION", "DISK", "SIZE")[1] == ("1", disk, size)


def test_a_version_that_runs_can_be_pinned(foo: Rig) -> None:
    assert foo("pin", "foo", "1").exit_code == 0
    assert columns(foo, "DISK") == [("in use, pinned",)]


def test_what_changed_stays_readable(foo: Rig) -> None:
    long = "registry.example.org/" + "x" * 60
    changes = [("imageName", "busybox", long), ("cpus", "", "1.5"), ("env.TOKEN", "old", "secret")]
    changes.append(("containerPorts", "22/tcp", "22/tcp, 80/tcp"))
    changes.append(("binds./data", "bar-1", ""))
    named = [dict(zip(("field", "old", "new"), change, strict=True)) for change in changes]
    shown(foo, 1, changed=named)
    cut = "registry.example.org/xxxxxxxx…"
    expected = (
        f"imageName busybox→{cut}, cpus none→1.5, env.TOKEN, containerPorts,"
        " binds./data bar-1→none"
    )
    assert columns(foo, "CHANGED") == [(expected,)]


def test_the_history_outlives_its_replica_set(foo: Rig) -> None:
    foo("rm", "foo")
    assert columns(foo, "VERSION") == [("1",)]


def file(path: str, kind: str = "added", size_bytes: int = 0) -> dict[str, Any]:
    return {"path": path, "kind": kind, "sizeBytes": size_bytes}


class TestDiff:
    def test_spec_and_files(self, foo: Rig) -> None:
        foo("patch", "foo", "--gpus", "1")
        foo.world.files = [
            file("/opt/a file", size_bytes=12 << 10),
            file("/etc/conf", "changed", 7),
            file("/bin/wget", "deleted"),
        ]
        result = foo("diff", "foo@1", "foo@2")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.splitlines() == [
            "gpuCount  2 → 1",
            "A /opt/a file  12KB",
            "C /etc/conf  7B",
            "D /bin/wget",
            "1 added, 1 changed, 1 deleted",
        ]
        assert foo.world.queries[-1] == {"from": "1", "to": "2"}

    @pytest.mark.parametrize("args", [("foo@1",), ("foo@1", "foo")])
    def test_against_the_current_version(self, foo: Rig, args: tuple[str, ...]) -> None:
        foo("patch", "foo")
        result = foo("diff", *args)
        assert result.stdout == "the specs are the same\nthe files are the same\n"
        assert foo.world.queries[-1] == {"from": "1"}

    def test_without_files(self, foo: Rig) -> None:
        foo("patch", "foo", "--gpus", "0")
        foo.world.files = [file("/a")]
        assert foo("diff", "foo@1", "--no-files").stdout == "gpuCount  2 → 0\n"
        assert foo.world.queries[-1] == {"from": "1", "files": "0"}
        assert foo.data("diff", "foo@1", "--no-files") == {
            "name": "foo",
            "from": 1,
            "to": 2,
            "spec": [{"field": "gpuCount", "old": "2", "new": "0"}],
            "files": None,
        }

    def test_what_is_not_there_on_one_side(self, foo: Rig) -> None:
        foo.world.sets["foo"].versions[0].body["memory"] = "4GB"
        foo("patch", "foo")
        foo.world.sets["foo"].versions[1].body["memory"] = ""
        assert foo("diff", "foo@1", "--no-files").stdout == "memory  4GB → (none)\n"

    def test_many_files_are_shown_when_asked_for(self, foo: Rig) -> None:
        foo.world.files = [file(f"/f{number}") for number in range(250)]
        foo.world.files_listed_max = 240
        lines = foo("diff", "foo@1").stdout.splitlines()
        assert len(lines) == 1 + 200 + 1
        summary = "250 added, 0 changed, 0 deleted"
        assert lines[-1] == f"{summary}; the first 200 are shown; --all shows more"
        lines = foo("diff", "foo@1", "--all").stdout.splitlines()
        assert len(lines) == 1 + 240 + 1
        assert lines[-1] == f"{summary}; the first 240 are shown"
        assert len(foo.data("diff", "foo@1")["files"]["listed"]) == 240

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("foo",), ("'foo' names no version", "foo@2")),
            (("foo", "foo@2"), ("'foo' names no version",)),
            (("foo@1", "bar@2"), ("foo and bar are two replica sets",)),
            (("foo@x",), ("the first is 'foo@x'", "NAME@VERSION")),
            (("foo@",), ("the first is 'foo@'",)),
            (("@1",), ("the first is '@1'",)),
            (("foo@1", "foo@two"), ("the second is 'foo@two'",)),
        ],
    )
    def test_what_cannot_be_meant(
        self, foo: Rig, args: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        asked = len(foo.world.requests)
        result = foo("diff", *args)
        said = " ".join(result.stderr.replace("│", " ").split())
        assert (result.exit_code, result.stdout) == (2, "")
        assert all(word in said for word in words), said
        assert len(foo.world.requests) == asked
