"""The command line against the real service: what a person types all day, and what scripts read."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.codec import read_time
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess

Done = subprocess.CompletedProcess[str]


@pytest.fixture(autouse=True)
def all_gone_again(shared: ServiceProcess) -> Iterator[None]:
    """Leave nothing to the next test, however this one ended."""
    yield
    for row in shared.get("/replicaSet").ok()["replicaSets"]:
        shared.call("DELETE", f"/replicaSet/{row['name']}").ok()
    for row in shared.get("/volumes").ok()["volumes"]:
        shared.call("DELETE", f"/volumes/{row['name']}").ok()


def said(service: ServiceProcess, *args: str) -> str:
    """What a command that succeeds prints; nothing on stderr."""
    done = service.cli(*args)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def data_of(service: ServiceProcess, *args: str) -> Any:
    """What a command prints for scripts."""
    return json.loads(said(service, *args, "--json"))


def fails(done: Done, code: int, *words: str) -> None:
    """It ended with this exit code, silent on stdout, one line with these words on stderr."""
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith("error: "), done
    assert len(done.stderr.splitlines()) == 1, done
    for word in words:
        assert word in done.stderr, done


def test_a_day_with_a_container(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    run = ("run", "foo", "-i", "busybox:test", "-g", "2", "-p", "22", "-e", "A=1", "--cpus", "0.5")
    assert said(shared, *run, "-l", "team=x", "--", "sleep", "1000") == "foo-1 is running\n"
    heading, row = said(shared, "ps").splitlines()
    assert heading.split() == ["NAME", "VER", "PHASE", "GPUS", "PORTS", "IMAGE", "AGE"]
    assert row.split()[:4] == ["foo", "1", "running", "2"]
    with dockerd.client() as client:
        container = client.containers.get("foo-1")
    assert container.labels["team"] == "x"
    assert container.attrs["HostConfig"]["NanoCpus"] == 500_000_000
    assert "sleep 1000" in said(shared, "info", "foo")

    assert said(shared, "exec", "foo", "--", "sh", "-c", "echo $A; echo mine > /root/f") == "1\n"
    failed = shared.cli("exec", "foo", "-w", "/root", "--", "sh", "-c", "pwd; echo bad >&2; exit 7")
    assert (failed.returncode, failed.stdout, failed.stderr) == (7, "/root\n", "bad\n")

    assert said(shared, "patch", "foo", "--gpus", "3") == "foo-2 is running\n"
    assert said(shared, "exec", "foo", "--", "cat", "/root/f") == "mine\n"
    assert said(shared, "commit", "foo", "mine:v1") == "saved as mine:v1\n"
    assert said(shared, "pause", "foo") == "foo is paused\n"
    assert said(shared, "continue", "foo") == "foo is running\n"
    assert said(shared, "rollback", "foo", "1") == "foo-3 is running\n"
    assert said(shared, "stop", "foo") == "foo is stopped\n"
    assert said(shared, "restart", "foo") == "foo-4 is running\n"
    lines = said(shared, "history", "foo").splitlines()[1:]
    assert [line.removeprefix("*").split()[0] for line in lines] == ["4", "3", "2", "1"]
    assert [line.startswith("*") for line in lines] == [True, False, False, False]
    history = data_of(shared, "history", "foo")["history"]
    assert [entry["version"] for entry in history] == [4, 3, 2, 1]
    assert said(shared, "rm", "foo") == "foo is deleted\n"
    assert len(said(shared, "ps").splitlines()) == 1
    assert shared.leases() == (0, 0)


def test_volumes(shared: ServiceProcess) -> None:
    assert said(shared, "volume", "create", "bar", "32MB") == "bar-1 has 32MB\n"
    assert said(shared, "run", "user", "-i", "busybox:test", "-b", "bar-1:/data") != ""
    said(shared, "exec", "user", "--", "sh", "-c", "echo precious > /data/f")
    assert said(shared, "volume", "resize", "bar", "64MB") == "bar-2 has 64MB\n"
    assert said(shared, "exec", "user", "--", "cat", "/data/f") == "precious\n"
    assert said(shared, "volume", "ls").splitlines()[1].split()[:3] == ["bar", "bar-2", "64MB"]
    assert "64MB" in said(shared, "volume", "info", "bar")
    assert len(said(shared, "volume", "history", "bar").splitlines()) == 3
    moved = ("--old-bind", "bar-1:/data", "--new-bind", "bar-2:/data")
    assert said(shared, "patch", "user", *moved) == "user-2 is running\n"
    fails(shared.cli("volume", "rm", "bar"), 1, "used by user", "code 1103")
    fails(shared.cli("volume", "resize", "bar", "64MB"), 1, "code 1028")
    said(shared, "rm", "user")
    assert said(shared, "volume", "rm", "bar") == "bar is deleted\n"
    fails(shared.cli("volume", "info", "bar"), 4, "there is no volume bar", "code 1033")


def test_gpus_and_ports(shared: ServiceProcess) -> None:
    text = said(shared, "gpus")
    assert "SIMULATED" in text
    assert len([line for line in text.splitlines() if "free" in line.split()]) == 4
    said(shared, "run", "card", "-i", "busybox:test", "-g", "1", "-p", "22")
    assert "card-1" in said(shared, "gpus")
    size = shared.port_last - shared.port_first + 1
    ports = said(shared, "ports")
    assert ports.startswith(f"{size - 1} free of {shared.port_first}-{shared.port_last}\n")
    assert "22/tcp" in ports
    gpus = data_of(shared, "gpus")
    assert sum(gpus["gpus"].values()) == 1
    assert data_of(shared, "ports")["ports"]["AvailableCount"] == size - 1


def test_a_bill_is_by_dockers_own_times(shared: ServiceProcess, dockerd: PrivateDockerd) -> None:
    said(shared, "price", "set", "gpu", "3600", "--currency", "EUR", "--from", "2020-01-01")
    said(shared, "run", "billed", "-i", "busybox:test", "-g", "1", "--memory", "64MB")
    said(shared, "pause", "billed")
    with dockerd.client() as client:
        seen = client.containers.get("billed-1").attrs["State"]
    said(shared, "rm", "billed")
    data = data_of(shared, "bill", "--group-by", "name")
    lines = {line["meter"]: line for line in data["lines"] if line["group"] == {"name": "billed"}}
    begun_us, ended_us = read_time(seen["StartedAt"]), read_time(seen["FinishedAt"])
    assert begun_us is not None
    assert ended_us is not None
    assert lines["memory"]["exact"] == str((ended_us - begun_us) << 26)
    ran = [line for line in lines["gpu"]["records"] if line == lines["memory"]["records"][0]]
    assert (len(ran), lines["gpu"]["notes"]) == (1, {"paused": 1})
    # At one currency a second the amount is the time, kept time and all.
    assert lines["gpu"]["amount"] == lines["gpu"]["seconds"]
    assert int(lines["gpu"]["exact"]) > ended_us - begun_us
    assert "GPU kept while paused (1)" in said(shared, "bill", "--group-by", "name")


def test_json_of_every_read(shared: ServiceProcess) -> None:
    started = data_of(shared, "run", "script", "-i", "busybox:test")
    assert started == {"name": "script-1"}
    assert data_of(shared, "ps")["replicaSets"][0]["name"] == "script"
    assert data_of(shared, "info", "script")["info"]["containerName"] == "script-1"
    assert data_of(shared, "volume", "ls") == {"volumes": []}
    assert data_of(shared, "version")["service"]
    executed = shared.cli("exec", "--json", "script", "--", "sh", "-c", "echo out; exit 3")
    assert executed.returncode == 3
    assert json.loads(executed.stdout)["stdout"] == "out\n"
    # Before the command or behind it, the flag means the same.
    assert shared.cli("--json", "ps").stdout == shared.cli("ps", "--json").stdout


def test_detached_and_followed(shared: ServiceProcess) -> None:
    operation = said(shared, "run", "later", "-i", "busybox:test", "--detach").strip()
    shown = said(shared, "op", operation, "--wait")
    assert "succeeded" in shown
    assert "later-1 started" in shown
    detached = said(shared, "run", "bad", "-i", "busybox:test", "-d", "--", "/no/such").strip()
    fails(shared.cli("op", detached, "--wait"), 1, "No such file or directory", "code 1004")


def test_refusals_have_exit_codes(shared: ServiceProcess) -> None:
    said(shared, "run", "there", "-i", "busybox:test", "-g", "1")
    fails(shared.cli("run", "there", "-i", "busybox:test"), 1, "exists as there-1", "code 1008")
    fails(shared.cli("run", "b", "-i", "busybox:test", "-g", "9"), 1, "9 GPUs", "3 free", "1013")
    fails(shared.cli("run", "a-b", "-i", "busybox:test"), 1, "dash", "code 1003")
    fails(shared.cli("run", "bad", "-i", "busybox:test", "--", "/no/such"), 1, "No such file")
    fails(shared.cli("run", "bad", "-i", "nowhere.invalid/x:1"), 1, "nowhere.invalid/x:1")
    fails(shared.cli("rollback", "there", "9"), 4, "no version 9", "code 1021")
    for args in (["info", "no"], ["history", "no"], ["stop", "no"], ["rm", "no"], ["op", "no"]):
        fails(shared.cli(*args), 4, "no")
    for args in (["run"], ["run", "there"], ["explode"], ["patch", "there", "--gpus", "x"]):
        assert shared.cli(*args).returncode == 2
    bad_bind = shared.cli("run", "b", "-i", "busybox:test", "-b", "nonsense")
    assert (bad_bind.returncode, "--bind" in bad_bind.stderr) == (2, True)


def test_nobody_there(shared: ServiceProcess, tmp_path: Path) -> None:
    nobody = ("--server", "http://127.0.0.1:9")
    for args in (["ps"], ["run", "foo", "-i", "busybox:test"], ["exec", "foo", "--", "true"]):
        fails(shared.cli(*nobody, *args), 3, "no gpuledger at http://127.0.0.1:9")
    dead = ServiceProcess(tmp_path / "data", f"unix://{tmp_path}/nobody.sock")
    with dead as service:
        fails(service.cli("run", "foo", "-i", "busybox:test"), 3, "Docker", "code 1104")
        assert service.cli("ps").returncode == 0


def test_check_and_help(shared: ServiceProcess) -> None:
    said(shared, "run", "foo", "-i", "busybox:test", "-g", "1")
    checked = shared.check()
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == f"{shared.last_seq()} records: no difference\n"
    report = json.loads(shared.cli("check", *shared.common_flags, "--json").stdout)
    assert report == {"records": shared.last_seq(), "differences": []}
    shown = said(shared, "--help")
    for command in (
        *("serve", "rebuild", "check", "run", "ps", "info", "history", "patch", "exec", "commit"),
        *("rollback", "stop", "restart", "pause", "continue", "rm", "volume", "gpus", "ports"),
    ):
        assert command in shown
    bad = shared.cli("serve", "--gpus", "many")
    assert bad.returncode == 2
    assert "--gpus" in bad.stderr
