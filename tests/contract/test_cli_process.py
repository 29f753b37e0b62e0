"""The command line as a process of its own: exit codes, streams, signals, start-up time."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        yield Rig(server)


@pytest.fixture
def foo(rig: Rig) -> Rig:
    return rig.with_foo()


def test_as_a_process(foo: Rig) -> None:
    listed = foo.process("ps", "--json")
    assert listed.returncode == 0, listed.stderr
    assert json.loads(listed.stdout)["replicaSets"][0]["name"] == "foo"
    executed = foo.process("exec", "foo", "--", "fail", "7", "oh no")
    assert (executed.returncode, executed.stdout, executed.stderr) == (7, "", "oh no\n")
    refused = foo.process("rm", "nix")
    assert (refused.returncode, refused.stdout) == (4, "")
    assert foo.process("serve", "--portRange", "9-1").returncode == 2


def test_interrupted_while_waiting_the_operation_goes_on(rig: Rig) -> None:
    rig.world.polls_to_finish = 1_000_000
    with rig.started("run", "foo", "--image", "busybox") as waiting:
        begun = time.monotonic()
        while len(rig.world.requests) < 3:
            assert time.monotonic() < begun + 60, "it never asked for its operation"
            time.sleep(0.01)
        waiting.send_signal(signal.SIGINT)
        stdout, stderr = waiting.communicate(timeout=60)
    assert (waiting.returncode, stdout) == (130, "")
    assert stderr == "the operation goes on: gpuledger op op1\n"


def test_completion_offers_the_names_there_are(foo: Rig) -> None:
    words = {
        "_GPULEDGER_COMPLETE": "complete_bash",
        "COMP_WORDS": "gpuledger stop f",
        "COMP_CWORD": "2",
    }
    offered = foo.process(**words)
    assert offered.stdout.split() == ["foo"]


def test_it_starts_quickly(foo: Rig) -> None:
    """A person types it all day. By its own time, as test machines are busy with others' work."""
    took_s = []
    for _ in range(3):
        before_s = spent_s()
        assert foo.process("ps").returncode == 0
        took_s.append(spent_s() - before_s)
    assert min(took_s) < 1.5


def spent_s() -> float:
    """What processes that have ended took of a processor."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_table_that_is_not_shown_costs_no_heavy_import() -> None:
    # Where click is installed, as the tests' tools have it, httpx loads a command line of its own.
    without = "sys.modules['click'] = None"
    code = f"import sys; {without}; import service.cli.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    ).stdout.split()
    assert not {"aiohttp", "docker", "nats", "opentelemetry", "rich", "uvloop"} & set(loaded)
