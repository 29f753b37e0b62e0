"""Kept system disks: the newest stay, pinned ones stay, and the others can be had no more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import at_rest, serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

KEEP = 2


@pytest.fixture
def carry() -> str:
    """How system disks are carried."""
    return "upper"


@pytest.fixture
def keeping(carry: str, tmp_path: Path, dockerd: PrivateDockerd) -> Iterator[ServiceProcess]:
    """A service that keeps two earlier versions."""
    flags = ["--keep-revisions", str(KEEP), "--system-disk", carry]
    with serving(tmp_path / "data", dockerd, flags=flags) as running:
        yield running


def versions(service: ServiceProcess) -> dict[int, dict[str, Any]]:
    history = service.get("/replicaSet/foo/history").ok()["history"]
    return {entry["version"]: entry for entry in history}


def kept(service: ServiceProcess) -> list[int]:
    """The versions that can be had back, oldest first."""
    return sorted(number for number, entry in versions(service).items() if entry["diskKept"])


def renew(service: ServiceProcess, times: int) -> None:
    for _ in range(times):
        service.call("PATCH", "/replicaSet/foo", {}).ok()


def pin(service: ServiceProcess, version: int, verb: str = "pin") -> None:
    answer = service.call("PATCH", f"/replicaSet/foo/{verb}", {"version": version})
    assert answer.ok() is None


@pytest.mark.parametrize(
    ("carry", "stay_unpinned"),
    # Kept by commit, version 1 is by then the image that the container lies on.
    [("upper", [5, 6]), ("commit", [1, 6])],
)
def test_the_newest_and_the_pinned_stay(
    keeping: ServiceProcess, stay_unpinned: list[int]
) -> None:
    keeping.run("foo").ok()
    keeping.shell("foo", "echo first > /root/f")
    renew(keeping, 1)
    pin(keeping, 1)
    keeping.shell("foo", "echo later > /root/f")
    renew(keeping, 4)
    eventually(lambda: kept(keeping) == [1, 4, 5])
    found = versions(keeping)
    assert [n for n, entry in found.items() if entry["pinned"]] == [1]
    assert found[1]["diskBytes"] > 0
    for number in (2, 3):
        assert found[number]["diskGone"] == f"{KEEP} newer ones are kept"
        assert found[number]["diskBytes"] is None
        for verb in ("rollback", "pin"):
            body = {"version": number}
            refused = keeping.call("PATCH", f"/replicaSet/foo/{verb}", body)
            refused.refused(1102, 422, "not kept any more", "1, 4, 5")
        refused = keeping.get(f"/replicaSet/foo/diff?from={number}")
        refused.refused(1102, 422, f"{KEEP} newer ones are kept")
    keeping.call("PATCH", "/replicaSet/foo/rollback", {"version": 1}).ok()
    assert keeping.shell("foo", "cat /root/f") == "first\n"

    pin(keeping, 1, "unpin")
    eventually(lambda: kept(keeping) == stay_unpinned)
    at_rest(keeping)
    before = versions(keeping)
    keeping.crash()
    assert versions(keeping) == before
    assert keeping.check().returncode == 0


def test_what_cannot_be_pinned(keeping: ServiceProcess) -> None:
    pinning = keeping.call("PATCH", "/replicaSet/foo/pin", {"version": 1})
    pinning.refused(1108, 404, "foo")
    keeping.run("foo").ok()
    for verb, code in (("pin", 1108), ("unpin", 1109)):
        path = f"/replicaSet/foo/{verb}"
        keeping.call("PATCH", path, {"version": 9}).refused(code, 404, "no version 9")
        keeping.call("PATCH", path, {"version": -1}).refused(1020, 400, "version")
    pin(keeping, 1)
    pin(keeping, 1)
    assert versions(keeping)[1]["pinned"]
    assert "in use, pinned" in keeping.cli("history", "foo").stdout
    renew(keeping, 1)
    assert " pinned " in keeping.cli("history", "foo").stdout
    done = keeping.cli("pin", "foo", "9")
    assert (done.returncode, "code 1108" in done.stderr) == (4, True)
    assert keeping.cli("unpin", "foo", "1").stdout == "foo-1 is pinned no more\n"
    assert not versions(keeping)[1]["pinned"]
