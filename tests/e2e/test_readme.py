"""The README's tour, word for word: each command prints what the README shows."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from tests.e2e.conftest import clean
from tests.kit.dockerd import PrivateDockerd
from tests.kit.service_process import ServiceProcess

README = Path(__file__).parents[2] / "README.md"
SERVED = "localhost:2378"


class Step(Struct):
    """A command of the tour and what it is shown to print."""

    command: str
    shown: list[str]


def tour() -> list[Step]:
    """The console blocks of the README, in order."""
    steps: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line[2:], []))
            else:
                steps[-1].shown.append(line)
    return steps


@pytest.fixture
def served(tmp_path: Path, dockerd: PrivateDockerd) -> Iterator[ServiceProcess]:
    dockerd.import_busybox_image("busybox:latest")
    with ServiceProcess(tmp_path / "data", dockerd.url) as service:
        yield service
    clean(dockerd, tmp_path / "data")


def test_the_tour_prints_what_it_shows(served: ServiceProcess, tmp_path: Path) -> None:
    steps = tour()
    assert len(steps) > 20
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "gpuledger"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m service "$@"\n')
    command.chmod(0o755)
    for step in steps:
        if step.command == "gpuledger check":
            served.kill()
            served.start()
        output = _run(served, tmp_path, step.command)
        assert _plain(output, served) == _plain("\n".join(step.shown), served), step.command


def _run(served: ServiceProcess, folder: Path, command: str) -> str:
    """What a command prints, as a terminal shows it: both streams."""
    environment = {
        **os.environ,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "GPULEDGER_SERVER": served.url,
        "GPULEDGER_DATA_DIR": str(served.data_dir),
        "GPULEDGER_DOCKER": served.docker,
        "GPULEDGER_NODE": "test",
    }
    command = command.replace(SERVED, served.url.removeprefix("http://"))
    done = subprocess.run(
        ["bash", "-c", command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=README.parent,
        timeout=120,
    )
    return done.stdout


def _plain(text: str, served: ServiceProcess) -> str:
    """Without what differs from run to run: instants, ages, sizes, record counts, ports, ids."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "INSTANT", text)
    text = re.sub(r"\b\d+s$", "AGE", text, flags=re.MULTILINE)
    text = re.sub(r"\b\d+KB +", "SIZE ", text)
    text = re.sub(r"refusal [0-9a-f-]{36}$", "refusal ID", text, flags=re.MULTILINE)
    text = re.sub(r"\b\d+ records", "N records", text)
    text = re.sub(r'"(EndPort|AvailableCount|StartPort)":\d+', r'"\1":N', text)
    return text.replace(str(served.port_first), "40000").strip()
