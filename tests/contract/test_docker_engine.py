"""What only the real engine's adapter can show: threads, sockets, GPUs' specifications."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.adapters.docker_engine import DockerEngine
from service.adapters.docker_info import engine_info
from service.errors import EngineRefused, EngineUnavailable
from service.ports import ExecOutcome
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import OWNER, body, clear
from tests.kit.fifo import Signal
from tests.kit.host_ports import free_port

OUTPUT_MAX = 1 << 20
SOON_S = 30.0
"""Less than a client of Docker waits by itself; the machine may be busy."""

YAML_SPEC = """---
cdiVersion: 0.5.0
containerEdits:
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- name: GPU-0a1b
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
kind: nvidia.com/gpu
"""


@pytest.fixture
async def engine(dockerd: PrivateDockerd) -> AsyncIterator[DockerEngine]:
    """With one thread per pool, so that a thread which is not given back shows."""
    made = DockerEngine(dockerd.url, owner=OWNER, pool_size=1)
    yield made
    await made.close()
    await asyncio.to_thread(clear, dockerd)


async def test_stdout_and_stderr_are_apart(engine: DockerEngine) -> None:
    await engine.create_container("c-1", body())
    await engine.start_container("c-1")
    cmd = ["sh", "-c", "pwd; echo problem >&2; exit 7"]
    outcome = await engine.execute("c-1", cmd, "/tmp", OUTPUT_MAX)
    assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (7, b"/tmp\n", b"problem\n")


async def test_much_output_is_counted_and_not_kept(engine: DockerEngine) -> None:
    await engine.create_container("c-1", body())
    await engine.start_container("c-1")
    cmd = ["sh", "-c", "yes | head -c 20000000"]
    outcome = await engine.execute("c-1", cmd, "", 1000)
    assert (outcome.exit_code, outcome.stdout_bytes) == (0, 20_000_000)
    assert outcome.stdout == b"y\n" * 500


async def _begin_endless(engine: DockerEngine, folder: Path) -> asyncio.Task[ExecOutcome]:
    """A command in the container c-1 that has begun and will not end by itself."""
    begun = Signal(folder / "begun")
    mount = {"Type": "bind", "Source": str(folder), "Target": "/shared"}
    await engine.create_container("c-1", body(Mounts=[mount]))
    await engine.start_container("c-1")
    cmd = ["sh", "-c", "echo > /shared/begun; sleep 600"]
    endless = asyncio.create_task(engine.execute("c-1", cmd, "", OUTPUT_MAX))
    await begun.wait()
    begun.close()
    return endless


async def test_a_caller_who_gives_up_frees_the_thread(engine: DockerEngine, tmp_path: Path) -> None:
    endless = await _begin_endless(engine, tmp_path)
    # The pool has one thread, so this waits as long as the first command is listened to.
    following = asyncio.create_task(engine.execute("c-1", ["true"], "", OUTPUT_MAX))
    endless.cancel()
    assert (await asyncio.wait_for(following, SOON_S)).exit_code == 0


async def test_an_endless_command_keeps_nobody_from_stopping(
    engine: DockerEngine, tmp_path: Path
) -> None:
    endless = await _begin_endless(engine, tmp_path)
    stopped = await engine.stop_container("c-1", 5)
    assert stopped is not None
    assert stopped.status == "exited"
    assert (await asyncio.wait_for(endless, SOON_S)).exit_code == 137


async def test_close_ends_what_is_listened_to(dockerd: PrivateDockerd, tmp_path: Path) -> None:
    engine = DockerEngine(dockerd.url, owner=OWNER)
    endless = await _begin_endless(engine, tmp_path)
    await engine.close()
    with pytest.raises(EngineUnavailable):
        await asyncio.wait_for(endless, SOON_S)
    await asyncio.to_thread(clear, dockerd)


async def test_a_port_of_a_host_process_is_taken(engine: DockerEngine) -> None:
    port = free_port()
    bindings = {"80/tcp": [{"HostPort": str(port)}]}
    await engine.create_container("c-1", body(PortBindings=bindings))
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(EngineRefused, match="address already in use") as refused:
            await engine.start_container("c-1")
        assert refused.value.reason == "port_taken"
    assert await engine.start_container("c-1")


async def test_a_missing_host_path_is_refused(engine: DockerEngine) -> None:
    mount = {"Type": "bind", "Source": "/no/such/path", "Target": "/x"}
    with pytest.raises(EngineRefused, match="/no/such/path") as refused:
        await engine.create_container("c-1", body(Mounts=[mount]))
    assert refused.value.reason == "mount_failed"


async def test_an_unknown_device_is_refused_at_start(engine: DockerEngine) -> None:
    request = {"Driver": "no-such-driver", "Capabilities": [["gpu"]]}
    await engine.create_container("c-1", body(DeviceRequests=[request]))
    with pytest.raises(EngineRefused, match="no-such-driver") as refused:
        await engine.start_container("c-1")
    assert refused.value.reason == "device_unavailable"


async def test_anonymous_volumes_go_with_their_container(engine: DockerEngine) -> None:
    await engine.create_container("c-1", {**body(), "Volumes": {"/scratch": {}}})
    assert len(await engine.list_volumes({})) == 1
    await engine.remove_container("c-1")
    assert await engine.list_volumes({}) == ()


async def test_removing_twice_at_once_is_removing(engine: DockerEngine) -> None:
    await engine.create_container("c-1", body())
    await engine.start_container("c-1")
    await asyncio.gather(engine.remove_container("c-1"), engine.remove_container("c-1"))
    assert await engine.inspect_container("c-1") is None


async def test_docker_need_not_be_there_at_first(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/d.sock", owner=OWNER)
    with pytest.raises(EngineUnavailable):
        await engine.ping()
    with pytest.raises(EngineUnavailable):
        await engine.create_container("c-1", body())
    await engine.close()


async def test_a_socket_that_never_answers_is_unavailable(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(f"{tmp_path}/d.sock")
        mute.listen()
        engine = DockerEngine(f"unix://{tmp_path}/d.sock", owner=OWNER)
        with pytest.raises(EngineUnavailable, match="2 s"):
            await asyncio.wait_for(engine.ping(), SOON_S)
    await engine.close()


def test_gpus_that_the_engine_lists() -> None:
    info = {
        "Runtimes": {"runc": {}, "nvidia": {}},
        "DiscoveredDevices": [
            {"Source": "cdi", "ID": "nvidia.com/gpu=GPU-0a1b"},
            {"Source": "other", "ID": "x"},
        ],
    }
    seen = engine_info(info, "1.50", local=False)
    assert seen.gpu_runtimes == ("nvidia", "cdi")
    assert seen.cdi_devices == ("nvidia.com/gpu=GPU-0a1b",)


def test_gpus_that_only_the_specifications_name(tmp_path: Path) -> None:
    spec = {"kind": "nvidia.com/gpu", "devices": [{"name": "GPU-2c3d"}, {"name": "all"}]}
    (tmp_path / "a.json").write_text(json.dumps(spec))
    (tmp_path / "b.yaml").write_text(YAML_SPEC)
    (tmp_path / "broken.yaml").write_text("nothing of use")
    info = {"CDISpecDirs": [str(tmp_path), str(tmp_path / "absent")]}
    names = ("0", "GPU-0a1b", "GPU-2c3d", "all")
    devices = tuple(f"nvidia.com/gpu={name}" for name in names)
    assert engine_info(info, "1.45", local=True).cdi_devices == devices
    assert engine_info(info, "1.45", local=False).cdi_devices == ()
    assert engine_info({"CDISpecDirs": []}, "1.45", local=True).gpu_runtimes == ()
