"""The command line against the contract, over real HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.command_line import Rig, nobody
from tests.kit.contract_server import ContractServer
from tests.kit.contract_world import PORT_FIRST, uuid_of

SINCE = "2026-01-02T03:04:05.000000Z"
RETRY = {"attempt": 2, "dueTime": "2026-01-02T03:04:09Z"}
"""An ended container that is to be started again."""


def bind(src: str, dest: str) -> dict[str, str]:
    return {"src": src, "dest": dest}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        yield Rig(server)


@pytest.fixture
def foo(rig: Rig) -> Rig:
    return rig.with_foo()


def test_run_sends_everything_in_the_contracts_words(rig: Rig) -> None:
    result = rig(
        *("run", "foo", "-i", "busybox:1", "-g", "1", "-b", "bar-1:/data", "-b", "/srv:/srv"),
        *("-e", "A=b=c", "-p", "22", "-p", "53/udp", "--cpus", "1.5", "--memory", "4GB"),
        *("--shm-size", "1GB", "--pids", "64", "-l", "team=vision", "--data-disk", "20GB"),
        *("--secret-env", "S=1"),
        *("--on-exit", "restart", "--max-retries", "3", "--on-gpu-lost", "restart"),
        *("--file-storage", "nas:/export", "--", "sh", "-c", "sleep 1"),
    )
    assert (result.exit_code, result.stdout) == (0, "foo-1 is running\n"), result.output
    assert rig.world.requests[0] == (
        "POST",
        "/api/v1/replicaSet",
        {
            "replicaSetName": "foo",
            "imageName": "busybox:1",
            "gpuCount": 1,
            "binds": [{"src": "bar-1", "dest": "/data"}, {"src": "/srv", "dest": "/srv"}],
            "env": ["A=b=c"],
            "secretEnv": ["S=1"],
            "cmd": ["sh", "-c", "sleep 1"],
            "containerPorts": ["22", "53/udp"],
            "cpus": 1.5,
            "memory": "4GB",
            "shmSize": "1GB",
            "pidsLimit": 64,
            "onExit": "restart",
            "maxRetries": 3,
            "onGpuLost": "restart",
            "labels": {"team": "vision"},
            "dataDisk": {"size": "20GB"},
            "fileStorage": {"nfs": {"server": "nas", "path": "/export"}},
        },
    )


def test_ps_shows_a_line_for_each(foo: Rig) -> None:
    foo("run", "zoo", "--image", "registry.example.org/" + "long/" * 20 + "name:1")
    heading, first, second = foo("ps").stdout.splitlines()
    assert heading.split() == ["NAME", "VER", "PHASE", "GPUS", "PORTS", "IMAGE", "AGE"]
    assert first.split() == ["foo", "1", "running", "2", f"{PORT_FIRST}->22", "busybox", "2h"]
    assert "long/" * 20 + "name:1" in second


@pytest.mark.parametrize(
    ("ended", "phase"),
    [
        ({"phase": "stopped", "container": "exited"}, "stopped"),
        ({"phase": "stopped", "container": "exited", "exitCode": 3}, "exited (3)"),
        ({"phase": "stopped", "exitCode": 0}, "exited (0)"),
        (
            {"phase": "stopped", "exitCode": 137, "oomKilled": True},
            "exited (137, out of memory)",
        ),
        ({"phase": "running", "exitCode": 1, "retry": RETRY}, "exited (1), retry 2"),
        ({"phase": "stopped", "container": "removed"}, "removed by somebody else"),
        ({"gpuAccessLostTime": SINCE}, "running, no access to its GPUs"),
        ({"gpuAccessLostTime": SINCE, "retry": RETRY}, "running, no access to its GPUs, retry 2"),
    ],
)
def test_ps_tells_of_what_ended_by_itself(foo: Rig, ended: dict[str, Any], phase: str) -> None:
    foo.world.sets["foo"].end = ended
    assert f"foo   1    {phase}  " in foo("ps").stdout.splitlines()[1]


def test_info_tells_how_and_when_it_ended_and_when_it_is_started_again(foo: Rig) -> None:
    assert "ended" not in foo("info", "foo").stdout
    foo.world.sets["foo"].end = {
        "exitCode": 137,
        "oomKilled": True,
        "finishedTime": "2026-01-02T03:04:05.123456789Z",
        "retry": RETRY,
    }
    lines = [line.split(maxsplit=1) for line in foo("info", "foo").stdout.splitlines()]
    assert ["ended", "2026-01-02 03:04:05Z with exit code 137, out of memory"] in lines
    assert ["retry", "2, at 2026-01-02 03:04:09Z"] in lines
    foo.world.sets["foo"].end = {"gpuAccessLostTime": SINCE}
    told = "the kernel does not let it use them, since 2026-01-02 03:04:05Z"
    assert told in foo("info", "foo").stdout


def test_ps_reads_every_page(foo: Rig) -> None:
    foo.world.page = 2
    for name in ("a", "b", "c", "d"):
        foo("run", name, "--image", "busybox")
    data = foo.data("ps")
    assert [row["name"] for row in data["replicaSets"]] == ["a", "b", "c", "d", "foo"]


def test_info_shows_what_runs_and_what_it_holds(foo: Rig) -> None:
    policies = ("--on-exit", "restart", "--max-retries", "3", "--on-gpu-lost", "restart")
    foo("run", "bar", "--image", "busybox", "--pids", "64", *policies)
    text = foo("info", "foo").stdout
    assert "foo-1" in text
    assert uuid_of(0) in text
    assert f"{PORT_FIRST} -> 22/tcp" in text
    lines = [line.split() for line in foo("info", "bar").stdout.splitlines()]
    assert ["processes", "64", "at", "most"] in lines
    again = ["started", "again,", "3", "times", "in", "a", "row", "at", "most"]
    assert ["it", "ends", *again] in lines
    assert ["GPUs", "lost", *again] in lines


def test_info_without_a_name_shows_the_service(foo: Rig) -> None:
    lines = [line.split(maxsplit=1) for line in foo("info").stdout.splitlines()]
    assert [" ".join(line) for line in lines] == [
        f"service {foo.server.url}",
        "node rig",
        "owner test",
        "gpuledger 9.8.7",
        "docker 26.1.5",
        "GPUs four GPUs",
        "handed over   not at all: they are simulated",
        "system disks  carried as directories (overlay2 on xfs)",
        "volumes loop devices",
    ]
    foo.world.simulated = False
    assert "as CDI devices" in foo("info").stdout
    assert foo.data("info")["diskDetail"] == "carried as directories (overlay2 on xfs)"


@pytest.mark.parametrize(
    ("args", "body"),
    [
        ((), {}),
        (("--gpus", "0"), {"gpuPatch": {"gpuCount": 0}}),
        (
            ("--old-bind", "a-1:/a", "--new-bind", "b-1:/a"),
            {"volumePatch": {"oldBind": bind("a-1", "/a"), "newBind": bind("b-1", "/a")}},
        ),
        (("-i", "other:2"), {"imageName": "other:2"}),
        (("-e", "A=1", "-e", "B=x=y", "--unset", "C"), {"env": ["A=1", "B=x=y", "C"]}),
        (("--", "sleep", "1"), {"cmd": ["sleep", "1"]}),
        (("--no-cmd",), {"cmd": []}),
        (("-p", "22", "-p", "53/udp"), {"containerPorts": ["22", "53/udp"]}),
        (("--no-ports",), {"containerPorts": []}),
        (
            ("-b", "bar-1:/data", "--unbind", "/old"),
            {"binds": [bind("bar-1", "/data"), bind("", "/old")]},
        ),
        (
            ("--cpus", "1.5", "--memory", "4GB", "--shm-size", "1GB", "--pids", "64"),
            {"cpus": 1.5, "memory": "4GB", "shmSize": "1GB", "pidsLimit": 64},
        ),
        (
            ("--cpus", "0", "--memory", "0", "--shm-size", "0", "--pids", "0"),
            {"cpus": 0, "memory": "0", "shmSize": "0", "pidsLimit": 0},
        ),
    ],
)
def test_patch_sends_only_what_is_given(
    foo: Rig, args: tuple[str, ...], body: dict[str, Any]
) -> None:
    result = foo("patch", "foo", *args)
    assert (result.exit_code, result.stdout) == (0, "foo-2 is running\n"), result.output
    sent = [body for method, _path, body in foo.world.requests if method == "PATCH"]
    assert sent == [body]


def test_what_could_not_come_along_is_said_beside_the_answer(foo: Rig) -> None:
    foo.world.not_carried = ["sockets", "xattrs, and ACLs"]
    for args in (("patch", "foo"), ("rollback", "foo", "1"), ("restart", "foo")):
        result = foo(*args)
        assert result.exit_code == 0
        assert result.stderr == "not carried: sockets; xattrs, and ACLs\n"
        assert result.stdout.endswith(" is running\n")
    foo("patch", "foo", "-d")
    newest = list(foo.world.operations)[-1]
    assert "notCarried sockets; xattrs, and ACLs" in foo("op", newest).stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("stop", "foo"), "foo is stopped"),
        (("restart", "foo"), "foo-2 is running"),
        (("pause", "foo"), "foo is paused"),
        (("continue", "foo"), "foo is running"),
        (("commit", "foo", "mine:1"), "saved as mine:1"),
        (("pin", "foo", "1"), "foo-1 is pinned"),
        (("unpin", "foo", "1"), "foo-1 is pinned no more"),
        (("rm", "foo"), "foo is deleted"),
    ],
)
def test_every_change_says_what_came_of_it(foo: Rig, args: tuple[str, ...], said: str) -> None:
    result = foo(*args)
    assert (result.exit_code, result.stdout) == (0, f"{said}\n"), result.output


def test_volumes(rig: Rig) -> None:
    assert rig("volume", "create", "bar", "20GB").stdout == "bar-1 has 20GB\n"
    assert rig("volume", "resize", "bar", "30GB").stdout == "bar-2 has 30GB\n"
    heading, row = rig("volume", "ls").stdout.splitlines()
    assert heading.split() == ["NAME", "IN", "DOCKER", "SIZE", "AGE"]
    assert row.split() == ["bar", "bar-2", "30GB", "2h"]
    assert "30GB" in rig("volume", "info", "bar").stdout
    rows = [line.split()[::3] for line in rig("volume", "history", "bar").stdout.splitlines()]
    assert rows == [["VERSION"], ["2", "30GB"], ["1", "20GB"]]
    assert rig("volume", "rm", "bar").stdout == "bar is deleted\n"
    assert rig.data("volume", "ls") == {"volumes": []}


def test_gpus_say_when_they_are_simulated(foo: Rig) -> None:
    text = foo("gpus").stdout
    assert text.splitlines()[0] == "These GPUs are SIMULATED: containers get none."
    assert [line.split()[-2] for line in text.splitlines()[2:]] == [
        "foo-1",
        "foo-1",
        "free",
        "free",
    ]
    foo.world.simulated = False
    assert "SIMULATED" not in foo("gpus").stdout


def test_ports(foo: Rig) -> None:
    free, _heading, row = foo("ports").stdout.splitlines()
    assert free == "99 free of 40000-40099"
    assert row.split() == ["40000", "22/tcp", "foo-1"]


def test_detach_gives_the_operation_at_once(rig: Rig) -> None:
    rig.world.polls_to_finish = 3
    detached = rig("run", "foo", "--image", "busybox", "-d")
    assert (detached.exit_code, detached.stdout) == (0, "op1\n")
    assert "running" in rig("op", "op1").stdout
    waited = rig("op", "op1", "--wait")
    assert "succeeded" in waited.stdout
    assert "container created" in waited.stdout


def test_version_names_both_sides(rig: Rig) -> None:
    assert rig.data("version")["service"] == "9.8.7"
    assert "out of reach" in rig("version", server=nobody()).stdout


def test_options_stand_before_or_after(rig: Rig) -> None:
    nobody_there = nobody()
    for args in (
        ("--server", rig.server.url, "--json", "volume", "ls"),
        ("volume", "--server", rig.server.url, "--json", "ls"),
        ("volume", "ls", "--server", rig.server.url.removeprefix("http://"), "--json"),
    ):
        result = rig(*args, server=nobody_there)
        assert json.loads(result.stdout) == {"volumes": []}


@pytest.mark.parametrize(
    ("args", "exit_code", "message"),
    [
        (("patch", "foo", "--gpus", "9"), 1, "error: 9 GPUs asked for, 4 free (code 1013)"),
        (("run", "foo", "--image", "x"), 1, "error: foo exists (code 1008)"),
        (("pin", "foo", "9"), 4, "error: foo has no version 9 (code 1108)"),
        (("diff", "foo@1", "foo@9"), 4, "error: foo has no version 9 (code 1017)"),
        (("info", "nix"), 4, "error: there is no replica set nix (code 1016)"),
        (("info", "../volumes"), 4, "error: there is no replica set ../volumes (code 1016)"),
        (("op", "nix"), 4, "error: no such operation (code 1106)"),
    ],
)
def test_a_refusal_is_one_line_and_an_exit_code(
    foo: Rig, args: tuple[str, ...], exit_code: int, message: str
) -> None:
    result = foo(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", f"{message}\n")


def test_an_operation_that_fails_later(rig: Rig) -> None:
    rig.world.fails = {"code": 1004, "reason": "image_not_found", "message": "no image nix"}
    result = rig("run", "foo", "--image", "nix")
    assert (result.exit_code, result.stderr) == (1, "error: no image nix (code 1004)\n")


def test_docker_out_of_reach_is_3(foo: Rig) -> None:
    foo.world.away = True
    result = foo("stop", "foo")
    assert (result.exit_code, result.stderr) == (3, "error: Docker does not answer (code 1104)\n")


def test_a_lost_reply_is_asked_for_again(rig: Rig) -> None:
    rig.world.replies_to_lose = 2
    assert rig("run", "foo", "--image", "busybox").exit_code == 0
    posts = [path for method, path, _body in rig.world.requests if method == "POST"]
    assert len(posts) == 3
    assert len(rig.world.operations) == 1


def test_replies_that_stay_lost_are_given_up(rig: Rig) -> None:
    rig.world.replies_to_lose = 100
    result = rig("ps")
    assert (result.exit_code, len(rig.world.requests)) == (3, 4)
    assert "does not answer any more" in result.stderr


def test_exec_is_the_command(foo: Rig) -> None:
    result = foo("exec", "foo", "--workdir", "/tmp", "--", "pwd")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "/tmp\n", "")
    result = foo("exec", "foo", "--", "fail", "42", "it is broken")
    assert (result.exit_code, result.stdout, result.stderr) == (42, "", "it is broken\n")
    result = foo("exec", "foo", "--json", "--", "echo", "--json")
    assert json.loads(result.stdout)["stdout"] == "--json\n"


def test_what_is_no_gpuledger_is_said_to_be_none(rig: Rig) -> None:
    rig.world.foreign = True
    result = rig("ps")
    expected = f"error: what answers at {rig.server.url} is no gpuledger (HTTP 200)\n"
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", expected)


@pytest.mark.parametrize("command", ["ps", "stop"])
def test_nobody_there(rig: Rig, command: str) -> None:
    nobody_there = nobody()
    result = rig(command, *(["foo"] if command == "stop" else []), server=nobody_there)
    expected = f"error: no gpuledger at {nobody_there}; start it with: gpuledger serve\n"
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", expected)
