"""The command line against the contract, over real HTTP."""

import json
from collections.abc import Iterator

import pytest

from tests.kit.command_line import Rig, nobody
from tests.kit.contract_server import ContractServer
from tests.kit.contract_world import PORT_FIRST, uuid_of


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        yield Rig(server)


@pytest.fixture
def foo(rig: Rig) -> Rig:
    """A rig with a replica set that has two GPUs and a port."""
    result = rig("run", "foo", "--image", "busybox", "--gpus", "2", "--port", "22")
    assert result.exit_code == 0, result.output
    return rig


def test_run_sends_everything_in_the_contracts_words(rig: Rig) -> None:
    result = rig(
        *("run", "foo", "-i", "busybox:1", "-g", "1", "-b", "bar-1:/data", "-b", "/srv:/srv"),
        *("-e", "A=b=c", "-p", "22", "-p", "53/udp", "--cpus", "1.5", "--memory", "4GB"),
        *("--shm-size", "1GB", "-l", "team=vision", "--data-disk", "20GB"),
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
            "cmd": ["sh", "-c", "sleep 1"],
            "containerPorts": ["22", "53/udp"],
            "cpus": 1.5,
            "memory": "4GB",
            "shmSize": "1GB",
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


def test_ps_reads_every_page(foo: Rig) -> None:
    foo.world.page = 2
    for name in ("a", "b", "c", "d"):
        foo("run", name, "--image", "busybox")
    data = foo.data("ps")
    assert [row["name"] for row in data["replicaSets"]] == ["a", "b", "c", "d", "foo"]


def test_info_and_history(foo: Rig) -> None:
    foo("patch", "foo", "--gpus", "1")
    foo("rollback", "foo", "1")
    text = foo("info", "foo").stdout
    assert "foo-3" in text
    assert uuid_of(0) in text
    assert f"{PORT_FIRST} -> 22/tcp" in text
    rows = [line.split() for line in foo("history", "foo").stdout.splitlines()]
    day = ["2026-01-02", "03:04:05Z"]
    assert rows == [
        ["VERSION", "CREATED", "BY", "GPUS", "IMAGE", "DISK"],
        ["*", "3", *day, "rollback", "2", "busybox", "in", "use"],
        ["2", *day, "patch", "1", "busybox", "kept"],
        ["1", *day, "run", "2", "busybox", "kept"],
    ]


def test_the_history_outlives_its_replica_set(foo: Rig) -> None:
    foo("rm", "foo")
    assert [line.split()[0] for line in foo("history", "foo").stdout.splitlines()[1:]] == ["1"]


def test_patch_sends_only_what_is_given(foo: Rig) -> None:
    bodies = []
    for args in ((), ("--gpus", "0"), ("--old-bind", "a-1:/a", "--new-bind", "b-1:/a")):
        assert foo("patch", "foo", *args).exit_code == 0
        bodies.append([body for method, _path, body in foo.world.requests if method == "PATCH"][-1])
    old, new = {"src": "a-1", "dest": "/a"}, {"src": "b-1", "dest": "/a"}
    assert bodies == [
        {},
        {"gpuPatch": {"gpuCount": 0}},
        {"volumePatch": {"oldBind": old, "newBind": new}},
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("stop", "foo"), "foo is stopped"),
        (("restart", "foo"), "foo-2 is running"),
        (("pause", "foo"), "foo is paused"),
        (("continue", "foo"), "foo is running"),
        (("commit", "foo", "mine:1"), "saved as mine:1"),
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
