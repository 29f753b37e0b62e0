"""What people see: leases that were given back, options in any place, help that says what is
allowed, and outputs that cannot be written."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings_table import SETTINGS
from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer
from tests.kit.contract_world import PORT_FIRST, uuid_of


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        yield Rig(server)


@pytest.fixture
def foo(rig: Rig) -> Rig:
    return rig.with_foo()


def stopped_and(container: str) -> dict[str, Any]:
    return {"phase": "stopped", "container": container}


def test_what_is_stopped_has_no_gpus_and_ports(foo: Rig) -> None:
    foo.world.sets["foo"].end = stopped_and("exited")
    assert foo("ps").stdout.splitlines()[1].split()[2:5] == ["stopped", "0", "-"]
    text = foo("info", "foo").stdout
    assert "phase      stopped, GPUs and ports given back" in text
    assert uuid_of(0) not in text
    assert str(PORT_FIRST) not in text


@pytest.mark.parametrize("end", [stopped_and("running"), {"phase": "paused"}, {}])
def test_what_holds_its_gpus_and_ports_shows_them(foo: Rig, end: dict[str, Any]) -> None:
    foo.world.sets["foo"].end = end
    row = foo("ps").stdout.splitlines()[1].split()
    assert row[3:5] == ["2", f"{PORT_FIRST}->22"]
    assert uuid_of(0) in foo("info", "foo").stdout


def test_of_the_past_it_is_said_when_it_was_made_and_not_how_old_it_is_today(foo: Rig) -> None:
    foo("volume", "create", "bar", "1GB")
    for command in (("ps",), ("volume", "ls")):
        heading, row = foo(*command, "--at", "5").stdout.splitlines()[:2]
        assert heading.split()[-1] == "CREATED"
        assert row.endswith("2026-01-02 03:04:05Z")


@pytest.mark.parametrize(
    "args", [("price", "ls"), ("webhook", "ls"), ("volume", "ls"), ("gpus",), ("bill", "months")]
)
def test_options_of_a_group_stand_before_its_commands_too(rig: Rig, args: tuple[str, ...]) -> None:
    first, *rest = args
    assert rig(first, "--json", *rest).stdout.startswith("{")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_what_no_json_can_say_is_wrong_usage(foo: Rig, number: str) -> None:
    before = len(foo.world.requests)
    for args in (("run", "bar", "-i", "busybox"), ("patch", "foo")):
        assert foo(*args, f"--cpus={number}").exit_code == 2
    assert len(foo.world.requests) == before


@pytest.mark.parametrize("flag", ["--env", "--secret-env"])
def test_an_environment_without_a_value_is_refused_by_its_flag(rig: Rig, flag: str) -> None:
    for command in ("run", "patch"):
        image = ("--image", "i") if command == "run" else ()
        refused = rig(command, "foo", *image, flag, "FOO")
        assert (refused.exit_code, flag in refused.output) == (2, True)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_lead_elsewhere_is_wrong_usage(foo: Rig, name: str) -> None:
    foo("run", "stop", "--image", "busybox")
    before = len(foo.world.requests)
    for args in (("info", name), ("rm", name), ("stop", name), ("volume", "rm", name)):
        assert foo(*args).exit_code == 2
    assert len(foo.world.requests) == before


def test_help_of_serve_says_what_is_allowed(rig: Rig) -> None:
    words = " ".join(rig("serve", "--help").output.replace("│", " ").split())
    for setting in SETTINGS.values():
        assert " ".join(f"{setting.about}: {setting.allowed}".split()[:6]) in words


def test_https_where_http_is_spoken(foo: Rig) -> None:
    refused = foo("ps", server=foo.server.url.replace("http:", "https:"))
    assert refused.exit_code == 3
    assert "does it serve http?" in refused.output


def test_a_full_disk_behind_the_output_is_one_line(foo: Rig) -> None:
    for args in (["ps"], ["ps", "--json"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "service", *args],
                env={"GPULEDGER_SERVER": foo.server.url, "PYTHONPATH": ":".join(sys.path)},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
            )
        told = "error: the output cannot be written (No space left on device)\n"
        assert (done.returncode, done.stderr) == (1, told)


def test_without_an_output_it_does_what_it_is_told(foo: Rig) -> None:
    command = f"exec {sys.executable} -m service ps >&-"
    env = {"GPULEDGER_SERVER": foo.server.url, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        ["sh", "-c", command], env=env, stderr=subprocess.PIPE, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
