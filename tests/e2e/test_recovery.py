"""A host is lost: from a copy of its log another one is made that gives the same answers."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import IMAGE, clean
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess, eventually

KEPT = "gpuledger-snapshots"

TOLD = re.compile(rb'"createTime":"[^"]*"|"container":"(created|exited)"')
"""What two hosts may differ in: instants, and that one which stands still has never run."""

FIXED = ("/replicaSet", "/volumes", "/resources/gpus", "/resources/ports", "/volumes/bar/history")


@pytest.fixture
def other_host() -> Iterator[PrivateDockerd]:
    """An engine with nothing on it."""
    with PrivateDockerd() as engine:
        yield engine


def answers(service: ServiceProcess) -> dict[str, bytes]:
    return {path: TOLD.sub(b"", service.page(f"/api/v1{path}").content) for path in FIXED}


def furnish(service: ServiceProcess) -> None:
    """One that runs, on its second version, with a GPU, a port and a volume; one paused, one
    stopped."""
    service.call("POST", "/volumes", {"name": "bar", "size": "32MB"}).ok()
    binds = [{"src": "bar-1", "dest": "/data"}]
    service.run("foo", 1, containerPorts=["22"], binds=binds).ok()
    service.shell("foo", "echo data > /data/f && echo first > /root/f")
    service.call("PATCH", "/replicaSet/foo", {"gpuPatch": {"gpuCount": 2}}).ok()
    service.shell("foo", "sync && echo second > /root/f")
    service.run("quux", 1, containerPorts=["80"]).ok()
    service.call("PATCH", "/replicaSet/quux/pause").ok()
    service.run("qux", 1).ok()
    service.call("PATCH", "/replicaSet/qux/stop").ok()


def carry_over(old: PrivateDockerd, new: PrivateDockerd) -> None:
    """The image, with its content, and the kept system disks."""
    with old.client() as source, new.client() as target:
        target.images.load(b"".join(source.images.get(IMAGE).save(named=True)))
    shutil.rmtree(new.data_root / KEPT, ignore_errors=True)
    subprocess.run(["cp", "-a", old.data_root / KEPT, new.data_root / KEPT], check=True)


def restore(service: ServiceProcess, backup: Path, *flags: str) -> Any:
    return service.cli(*command(service, backup), *flags)


def command(service: ServiceProcess, backup: Path) -> tuple[str, ...]:
    ports = f"{service.port_first}-{service.port_last}"
    given = (*service.common_flags, "--gpus", "simulated:4", "--port-range", ports)
    return "restore", str(backup), *given


def killed_midway(service: ServiceProcess, backup: Path, engine: PrivateDockerd) -> None:
    """The recovery is killed when its first container is there."""
    args = [sys.executable, "-m", "service", *command(service, backup)]
    with engine.client() as client, subprocess.Popen(
        [*args, "--execute", "--accept-losses"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        eventually(lambda: client.api.containers(all=True) or process.poll() is not None)
        process.kill()
        assert process.wait() == -signal.SIGKILL


def plan_of(said: "subprocess.CompletedProcess[str]") -> dict[str, dict[str, Any]]:
    assert said.stdout, said.stderr
    return {step["name"]: step for step in json.loads(said.stdout)["plan"]}


def refused_names(service: ServiceProcess) -> list[str]:
    rows = service.page("/api/v1/audit?result=refused").json()["data"]["rows"]
    return [row["name"] for row in rows]


def test_another_host_gives_the_same_answers(
    service: ServiceProcess, dockerd: PrivateDockerd, other_host: PrivateDockerd, tmp_path: Path
) -> None:
    backup, new_dir = tmp_path / "backup", tmp_path / "new"
    furnish(service)
    flags = ["--data-dir", str(service.data_dir), "--node", "test"]
    service.call("PATCH", "/replicaSet/nix/stop").refused(1010, 404)
    eventually(lambda: refused_names(service))
    assert service.cli("backup", str(backup), *flags).returncode == 0
    before = answers(service)
    assert service.stop() == 0

    new = ServiceProcess(new_dir, other_host.url)
    # Nothing was carried over: all of it is told, and nothing is done.
    bare = restore(new, backup, "--execute", "--json")
    assert bare.returncode == 1
    assert not new_dir.exists()
    plan = plan_of(bare)
    assert plan["bar-1"]["losses"] == ["its disk is not here: its data is gone"]
    assert plan["foo-2"]["verdict"] == "cannot"
    assert "cannot be fetched" in plan["foo-2"]["losses"][-1]
    assert "no going back to version 1" in plan["foo-2"]["losses"][0]

    carry_over(dockerd, other_host)
    with dockerd.client() as client:
        client.containers.get("foo-2").remove(force=True)
    new_dir.mkdir()
    volumes = service.data_dir / "volumes"
    subprocess.run(["cp", "-a", "--sparse=always", volumes, new_dir / "volumes"], check=True)
    dry = restore(new, backup, "--execute", "--dry-run", "--json")
    plan = plan_of(dry)
    assert dry.returncode == 0
    assert plan["bar-1"]["verdict"] == "whole"
    kept = "its system disk begins as foo-1 left it: what was changed since is gone"
    assert plan["foo-2"]["losses"] == [kept]
    assert [path.name for path in new_dir.iterdir()] == ["volumes"]

    killed_midway(new, backup, other_host)
    done = restore(new, backup, "--execute", "--accept-losses")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recover of foo: done" in done.stdout
    try:
        with new:
            assert answers(new) == before
            assert refused_names(new) == ["nix"]
            assert new.shell("foo", "cat /data/f /root/f") == "data\nfirst\n"
            new.call("PATCH", "/replicaSet/quux/continue").ok()
            new.call("PATCH", "/replicaSet/foo/rollback", {"version": 1}).ok()
            checked = new.check()
            assert checked.returncode == 0, checked.stdout
        # What is there already is left as it is.
        again = restore(new, backup, "--execute", "--json")
        assert again.returncode == 0, again.stdout + again.stderr
        assert {step["verdict"] for step in plan_of(again).values()} == {"here"}
    finally:
        clean(other_host, new_dir)
