"""The tests' own Docker engine: it does what the service needs, and leaves nothing behind."""

import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from docker.types import DeviceRequest

from tests.kit.busybox import busybox_rootfs
from tests.kit.dockerd import EngineNotStarted, PrivateDockerd, supports_cdi
from tests.kit.engine_remains import (
    bridge_exists,
    cgroups_of,
    container_processes,
    engine_processes,
    mounts_below,
)
from tests.kit.host_ports import free_port, own_ports

IMAGE = "busybox:test"
GPUS = ("GPU-00000000-51ab-4000-8000-000000000000", "GPU-00000000-51ab-4000-8000-000000000003")
SERVE_HELLO = "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp"
UNTIL_SERVED = "until wget -q -O /dev/null http://127.0.0.1/; do :; done"


@pytest.fixture
def client(dockerd: PrivateDockerd) -> Iterator[Any]:
    with dockerd.client() as client:
        yield client


def assert_nothing_is_left(name: str, folder: Path) -> None:
    assert engine_processes(folder) == []
    assert container_processes(name) == []
    assert mounts_below(folder) == []
    assert cgroups_of(name) == []
    assert not bridge_exists(name)
    assert not folder.exists()


class TestEngine:
    def test_a_published_port_is_reached_from_this_host(self, client: Any) -> None:
        port = free_port()
        container = client.containers.run(
            IMAGE, ["sh", "-c", SERVE_HELLO], detach=True, init=True, ports={"80/tcp": port}
        )
        container.exec_run(["sh", "-c", UNTIL_SERVED])
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello\n"
        connection.close()
        container.remove(force=True)

    def test_gpus_are_asked_for_by_uuid(self, client: Any) -> None:
        """The engine hands the uuids to NVIDIA's hook in the process environment, nowhere else."""
        request = DeviceRequest(device_ids=list(GPUS), capabilities=[["gpu"]])
        container = client.containers.run(
            IMAGE, ["env"], detach=True, device_requests=[request]
        )
        assert container.wait()["StatusCode"] == 0
        assert f"NVIDIA_VISIBLE_DEVICES={','.join(GPUS)}" in container.logs().decode().split()
        assert not any("NVIDIA" in entry for entry in container.attrs["Config"]["Env"])
        container.remove()

    def test_limits_work(self, client: Any) -> None:
        output = client.containers.run(
            IMAGE, ["echo", "ok"], remove=True, mem_limit="32m", nano_cpus=500_000_000
        )
        assert output == b"ok\n"

    def test_importing_the_image_again_changes_nothing(self, dockerd: PrivateDockerd) -> None:
        assert dockerd.import_busybox_image() == dockerd.import_busybox_image()

    def test_the_image_has_the_same_bytes_each_time(self) -> None:
        assert busybox_rootfs.__wrapped__() == busybox_rootfs.__wrapped__()

    def test_a_free_port_is_given_out_once(self) -> None:
        assert len({free_port() for _ in range(50)}) == 50

    def test_no_two_test_processes_lend_the_same_ports(self) -> None:
        ours = own_ports()
        ask = "from tests.kit.host_ports import free_port, own_ports; print(*own_ports())"
        asked = subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True)
        first, last = map(int, asked.stdout.split())
        assert own_ports() == ours
        assert first > ours[1] or last < ours[0]


@pytest.mark.usefixtures("root")
class TestCdi:
    def test_devices_are_injected_by_name(self) -> None:
        """From Docker 25 on; an older engine is refused in words and leaves nothing."""
        engine = PrivateDockerd(cdi_devices=GPUS)
        if not supports_cdi():
            with pytest.raises(EngineNotStarted, match="CDI needs Docker 25"):
                engine.start()
            return
        with engine, engine.client() as client:
            engine.import_busybox_image()
            assert client.info()["CDISpecDirs"] == [f"{engine.folder}/cdi"]
            request = DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={GPUS[1]}"])
            output = client.containers.run(
                IMAGE, ["env"], remove=True, device_requests=[request]
            )
            lines = output.decode().split()
            assert f"CDI_DEVICE={GPUS[1]}" in lines
            assert "NVIDIA_VISIBLE_DEVICES=void" in lines


@pytest.mark.usefixtures("root")
class TestLifetime:
    def test_data_outlives_a_kill_and_a_restart_but_not_a_stop(self) -> None:
        engine = PrivateDockerd()
        with engine, engine.client() as client:
            engine.import_busybox_image()
            # dockerd stops it at the restart, with TERM first, which PID 1 does not hear.
            client.containers.run(
                IMAGE, ["sleep", "3600"], detach=True, name="sleeper", stop_signal="SIGKILL"
            )
            engine.kill()
            assert engine.pid is None
            assert container_processes(engine.name), "a killed dockerd leaves its containers"
            engine.start()
            assert client.containers.get("sleeper").status == "exited"
            client.containers.get("sleeper").start()
            engine.restart()
            assert client.containers.get("sleeper").status == "exited"
            client.containers.get("sleeper").start()
        assert_nothing_is_left(engine.name, engine.folder)

    def test_stop_after_a_kill_leaves_nothing_behind(self) -> None:
        with PrivateDockerd() as engine:
            engine.import_busybox_image()
            with engine.client() as client:
                client.volumes.create("disk", driver_opts={"type": "tmpfs", "device": "tmpfs"})
                client.containers.run(
                    IMAGE,
                    ["sleep", "3600"],
                    detach=True,
                    volumes=["disk:/mnt"],
                    restart_policy={"Name": "always"},
                )
            engine.kill()
            assert mounts_below(engine.folder)
        assert_nothing_is_left(engine.name, engine.folder)

    def test_engines_live_side_by_side(self, dockerd: PrivateDockerd) -> None:
        with PrivateDockerd() as other:
            assert other.name != dockerd.name
            with other.client() as client:
                assert client.images.list() == []
        with dockerd.client() as client:
            assert client.ping()

    def test_what_a_killed_test_run_left_is_swept(self, dockerd: PrivateDockerd) -> None:
        run = subprocess.Popen(
            [sys.executable, "-c", KILLED_RUN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert run.stdout is not None
        name, folder = run.stdout.readline().split()
        # Before it is killed: whoever starts an engine then, in any process, sweeps.
        assert len({*engine_processes(Path(folder)), *container_processes(name)}) >= 4
        run.kill()
        run.communicate()
        with PrivateDockerd():
            assert_nothing_is_left(name, Path(folder))
        with dockerd.client() as client:
            assert client.ping()


KILLED_RUN = f"""
from tests.kit.dockerd import PrivateDockerd
engine = PrivateDockerd()
engine.start()
engine.import_busybox_image()
with engine.client() as client:
    client.containers.run({IMAGE!r}, ["sleep", "3600"], detach=True)
print(engine.name, engine.folder, flush=True)
input()
"""
