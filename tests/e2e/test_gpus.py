"""GPUs by the real pynvml on a stub driver, handed to Docker as DeviceRequests; and their end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from tests.e2e.conftest import serving
from tests.kit.dockerd import PrivateDockerd
from tests.kit.host_ports import own_ports
from tests.kit.nvml_stub import NvmlStub
from tests.kit.service_process import Answer, ServiceProcess, eventually


def uuid_of(index: int) -> str:
    """As the stub driver numbers its GPUs."""
    return f"GPU-{0xA100 + index:08x}-0000-4000-8000-{index:012x}"


@pytest.fixture
def driver(tmp_path: Path) -> NvmlStub:
    """A pretended driver with two GPUs."""
    stub = NvmlStub(tmp_path / "nvml")
    stub.write(2)
    return stub


@pytest.fixture
def host(tmp_path: Path, dockerd: PrivateDockerd, driver: NvmlStub) -> Iterator[ServiceProcess]:
    """A service that asks this driver."""
    with serving(tmp_path / "data", dockerd, gpus="auto", env=driver.env) as running:
        yield running


def gpus_of(service: ServiceProcess) -> dict[str, int]:
    """What the contract shows: each GPU, and whether it is used."""
    found: dict[str, int] = service.get("/resources/gpus").ok()["gpus"]
    return found


def visible_to(service: ServiceProcess, name: str) -> str:
    """The GPUs that the container's first process was given."""
    lines = service.shell(name, "tr '\\0' '\\n' < /proc/1/environ").splitlines()
    found = [line for line in lines if line.startswith("NVIDIA_VISIBLE_DEVICES=")]
    assert len(found) == 1, lines
    return found[0].partition("=")[2]


def patch(service: ServiceProcess, name: str, count: int) -> Answer:
    """Ask for another number of GPUs."""
    return service.call("PATCH", f"/replicaSet/{name}", {"gpuPatch": {"gpuCount": count}})


def test_a_container_sees_what_it_leases(host: ServiceProcess, dockerd: PrivateDockerd) -> None:
    assert gpus_of(host) == {uuid_of(0): 0, uuid_of(1): 0}
    assert any("2 GPUs" in line for line in host.banner)
    details = host.get("/resources/gpus").ok()["details"]
    assert [(d["index"], d["memoryBytes"], d["pciBusId"]) for d in details] == [
        (0, 85899345920, "00000000:10:00.0"),
        (1, 85899345920, "00000000:11:00.0"),
    ]
    assert not any(d["simulated"] for d in details)
    host.run("foo", 1, containerPorts=["22"]).ok()
    host.run("bare", 0).ok()
    assert visible_to(host, "foo") == uuid_of(0)
    assert visible_to(host, "bare") == "void"
    assert gpus_of(host) == {uuid_of(0): 1, uuid_of(1): 0}
    with dockerd.client() as client:
        requests = client.containers.get("foo-1").attrs["HostConfig"]["DeviceRequests"]
    assert [(r["Driver"], r["DeviceIDs"]) for r in requests] == [("nvidia", [uuid_of(0)])]

    patch(host, "foo", 2).ok()
    assert visible_to(host, "foo") == f"{uuid_of(0)},{uuid_of(1)}"
    patch(host, "bare", 1).refused(1013, 409, "1 GPUs asked for, 0 free")
    patch(host, "foo", 0).ok()
    assert visible_to(host, "foo") == "void"
    assert host.leases() == (0, 1)
    patch(host, "foo", 2).ok()
    assert visible_to(host, "foo") == f"{uuid_of(0)},{uuid_of(1)}"
    patch(host, "foo", 1).ok()
    assert gpus_of(host) == {uuid_of(0): 1, uuid_of(1): 0}
    patch(host, "bare", 1).ok()
    assert visible_to(host, "bare") == uuid_of(1)
    back = host.call("PATCH", "/replicaSet/bare/rollback", {"version": 1}).ok()
    assert back == {"containerName": "bare-3"}
    assert visible_to(host, "bare") == "void"
    assert host.check().returncode == 0


def test_a_gpu_that_goes_and_comes_is_an_event(host: ServiceProcess, driver: NvmlStub) -> None:
    host.run("foo", 1).ok()
    before = host.last_seq()
    # The leased one is lost, and a third one is plugged in.
    driver.write(3, **{"gpu.0.lost": 1})
    eventually(lambda: uuid_of(2) in gpus_of(host))
    assert host.last_seq() == before + 1
    events = [type(event).__name__ for event in host.records()[-1].events]
    assert sorted(events) == ["GpuAppeared", "GpuDisappeared", "GpuFellIll", "GpuQuarantined"]
    # The lease stays: that the driver does not show it does not make it free.
    assert gpus_of(host) == {uuid_of(0): 1, uuid_of(1): 0, uuid_of(2): 0}
    shown = {d["uuid"]: d["present"] for d in host.get("/resources/gpus").ok()["details"]}
    assert shown == {uuid_of(0): False, uuid_of(1): True, uuid_of(2): True}
    host.run("bar", 3).refused(1013, 409, "3 GPUs asked for, 2 free")
    host.call("DELETE", "/replicaSet/foo").ok()
    assert gpus_of(host) == {uuid_of(1): 0, uuid_of(2): 0}
    host.run("bar", 3).refused(1013, 409, "3 GPUs asked for, 2 free")

    # Back again, seen by a service that was not running when it came back.
    host.kill()
    driver.write(3)
    host.start()
    host.run("bar", 3).ok()
    assert visible_to(host, "bar") == ",".join(uuid_of(index) for index in range(3))
    assert host.check().returncode == 0


def test_a_sick_gpu_is_not_lent_until_it_is_well(host: ServiceProcess, driver: NvmlStub) -> None:
    host.run("foo", 1).ok()
    # Its memory fails under its holder, and somebody on the host is on the other one.
    trouble: dict[str, int | str] = {"gpu.0.ecc": 2, "gpu.1.proc": "4711:1"}
    driver.write(2, **trouble)
    # The look before the next command may be a second old.
    eventually(lambda: gpus_of(host)[uuid_of(1)] == 1)
    host.run("bar", 1).refused(1013, 409, "0 free, 1 busy (GPU 1: process 4711 of the host")
    assert gpus_of(host) == {uuid_of(0): 1, uuid_of(1): 1}
    assert host.get("/replicaSet/foo").ok()["info"]["gpusSick"] == [uuid_of(0)]
    told = host.cli("gpus").stdout
    assert "foo-1 (sick, quarantined)" in told
    assert "GPU 0: 2 uncorrected memory errors since it was last reset" in told
    patch(host, "foo", 1).refused(1009, 422)
    host.call("PATCH", "/replicaSet/foo", {}).refused(1013, 409, "1 quarantined (GPU 0: 2 uncor")
    assert visible_to(host, "foo") == uuid_of(0)

    driver.write(2, **{"gpu.0.ecc": 2})
    eventually(lambda: gpus_of(host)[uuid_of(1)] == 0)
    host.call("PATCH", "/replicaSet/foo", {}).ok()
    assert visible_to(host, "foo") == uuid_of(1)
    host.run("bar", 1).refused(1013, 409, "0 free, 1 quarantined")
    driver.write(2)
    eventually(lambda: gpus_of(host)[uuid_of(0)] == 0)
    host.run("bar", 1).ok()
    assert host.check().returncode == 0


def test_an_error_and_a_hand_put_a_gpu_in_quarantine(
    host: ServiceProcess, driver: NvmlStub
) -> None:
    sent = 0

    def quarantined() -> bool:
        nonlocal sent
        sent += 1  # once per call: only those count that come after the service listens
        driver.write(2, event=f"{sent}:1:8:79")
        return gpus_of(host)[uuid_of(1)] == 1

    eventually(quarantined)
    host.run("foo", 2).refused(1013, 409, "1 free, 1 quarantined (GPU 1: XID 79")
    driver.write(2)
    assert "GPU 1 is lent again" in host.cli("gpus", "restore", "1").stdout
    assert host.cli("gpus", "quarantine", "0", "--why", "fan noise").returncode == 0
    host.kill()
    host.start()
    host.run("foo", 2).refused(1013, 409, "1 quarantined (GPU 0: fan noise)")
    host.run("foo", 1).ok()
    assert visible_to(host, "foo") == uuid_of(1)
    assert host.cli("gpus", "restore", uuid_of(0)).returncode == 0
    assert 'gpuledger_gpus{state="free"} 1.0' in host.page("/metrics").text
    assert host.check().returncode == 0


def test_a_patch_leaves_a_lost_gpu_behind(host: ServiceProcess, driver: NvmlStub) -> None:
    host.run("foo", 1).ok()
    host.kill()
    driver.write(2, **{"gpu.0.lost": 1})
    host.start()
    assert gpus_of(host) == {uuid_of(0): 1, uuid_of(1): 0}
    host.call("PATCH", "/replicaSet/foo", {}).ok()
    assert visible_to(host, "foo") == uuid_of(1)
    assert gpus_of(host) == {uuid_of(1): 1}


def test_a_gpu_in_mig_mode_is_lent_in_parts(
    tmp_path: Path, dockerd: PrivateDockerd, driver: NvmlStub
) -> None:
    driver.write(2, **{"gpu.0.mig": 2})
    with serving(tmp_path / "data", dockerd, gpus="auto", env=driver.env) as service:
        parts = [uuid for uuid in gpus_of(service) if uuid.startswith("MIG-")]
        assert len(parts) == 2
        assert uuid_of(0) not in gpus_of(service)
        service.run("foo", 3).ok()
        assert visible_to(service, "foo").split(",") == [*parts, uuid_of(1)]


@pytest.mark.parametrize(
    ("lines", "word"),
    [({"init": 9}, "driver"), ({"init": 18}, "updated"), ({"gpus": 0}, "0 GPUs")],
)
def test_no_gpus_is_a_line_and_no_crash(
    tmp_path: Path, dockerd: PrivateDockerd, driver: NvmlStub, lines: dict[str, Any], word: str
) -> None:
    driver.write(**lines)
    with serving(tmp_path / "data", dockerd, gpus="auto", env=driver.env) as service:
        told = [line for line in service.banner if line.startswith("  GPUs ")]
        assert len(told) == 1
        assert word in told[0], told
        assert gpus_of(service) == {}
        service.run("foo", 1).refused(1013, 409, "1 GPUs asked for, 0 free")
        service.run("foo", 0).ok()
        assert visible_to(service, "foo") == "void"


def both_at_once(service: ServiceProcess, **fields: Any) -> list[Answer]:
    """What two clients get who ask for the same thing in the same moment."""
    begin = Barrier(2)

    def ask(name: str) -> Answer:
        begin.wait()
        return service.run(name, **fields)

    with ThreadPoolExecutor(2) as clients:
        answers = list(clients.map(ask, ("one", "two")))
    for name, answer in zip(("one", "two"), answers, strict=True):
        if answer.code == 200:
            service.call("DELETE", f"/replicaSet/{name}").ok()
    return answers


@pytest.mark.parametrize(
    ("fields", "code", "rounds"),
    [({"gpus": 1}, 1013, 20), ({"containerPorts": ["22"]}, 1014, 8)],
    ids=["GPU", "port"],
)
def test_the_last_one_goes_to_one_of_two(
    tmp_path: Path, dockerd: PrivateDockerd, fields: dict[str, Any], code: int, rounds: int
) -> None:
    port, _ = own_ports()
    flags = ["--port-range", f"{port}-{port}"]
    with serving(tmp_path / "data", dockerd, gpus="simulated:1", flags=flags) as service:
        for _ in range(rounds):
            answers = both_at_once(service, **fields)
            assert sorted(answer.code for answer in answers) == [200, code], answers
            assert sorted(answer.status for answer in answers) == [200, 409], answers
            assert service.leases() == (0, 0)
        assert service.check().returncode == 0


def test_simulated_gpus_say_so_and_reach_nobody(
    shared: ServiceProcess, dockerd: PrivateDockerd
) -> None:
    assert any("simulated" in line.lower() for line in shared.banner)
    assert all(d["simulated"] for d in shared.get("/resources/gpus").ok()["details"])
    shared.run("foo", 2).ok()
    with dockerd.client() as client:
        config = client.containers.get("foo-1").attrs["HostConfig"]
    assert not config["DeviceRequests"]
    assert visible_to(shared, "foo") == "void"
    assert shared.leases() == (2, 0)
