"""The command line with a contract server to talk to."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.testing import CliRunner, Result

from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from tests.kit.contract_server import ContractServer
from tests.kit.contract_world import CREATED, World
from tests.kit.host_ports import free_port

NOW_S = CREATED.timestamp() + 7_200
"""Everything that the server shows is two hours old."""


class Rig:
    """A server and a command line that talks to it."""

    def __init__(self, server: ContractServer) -> None:
        self.server = server
        self._keys = 0

    @property
    def world(self) -> World:
        return self.server.world

    def __call__(self, *args: str, server: str | None = None) -> Result:
        env = {"GPULEDGER_SERVER": server or self.server.url}
        surroundings = Surroundings(env, "rig", False, lambda: NOW_S, self._new_key)
        return CliRunner().invoke(build_app(), list(args), obj=surroundings)

    def with_foo(self) -> "Rig":
        """This one, once there is a replica set that has two GPUs and a port."""
        made = self("run", "foo", "--image", "busybox", "--gpus", "2", "--port", "22")
        assert made.exit_code == 0, made.output
        return self

    def data(self, *args: str) -> Any:
        """What a command prints with --json."""
        result = self(*args, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    @contextmanager
    def started(self, *args: str, **env: str) -> Iterator["subprocess.Popen[str]"]:
        """The command as a process of its own; killed on leaving, should it still run."""
        with subprocess.Popen(
            [sys.executable, "-m", "service", *args],
            env={**os.environ, "GPULEDGER_SERVER": self.server.url, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def process(self, *args: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """The same, and its end awaited."""
        with self.started(*args, **env) as process:
            stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(args, process.returncode, stdout, stderr)

    def _new_key(self) -> str:
        self._keys += 1
        return f"key-{self._keys}"


def nobody() -> str:
    """An address where nobody listens, nor will."""
    return f"http://127.0.0.1:{free_port()}"
