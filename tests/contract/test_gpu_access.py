"""What the port `GpuAccessProbe` promises, on the real kernel and in memory.

The real one opens /dev/null here in place of the driver's device: both are character devices that
the rules of the container's control group allow, until they do not.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from service.adapters.cgroup_access import (
    CgroupAccess,
    DeviceNode,
    devices_group,
    try_to_open,
)
from service.ports import GpuAccessProbe
from tests.kit.device_programs import deny_devices, group, version_2
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import (
    FOREVER,
    OTHER_OWNER,
    OWNER,
    EngineRig,
    body,
    engine_rig,
)
from tests.kit.simulated_access import SimulatedAccess
from tests.kit.simulated_engine import SimulatedEngine

NULL = DeviceNode("null", 1, 3)
DEVICES = [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/null", "CgroupPermissions": "rwm"}]


@dataclass
class AccessRig:
    """`lose` takes a container's device away, in the way that nobody is told of."""

    engine: EngineRig
    probe: GpuAccessProbe
    lose: Callable[[str], Any]

    async def run(self, name: str = "c-1", owner: str = OWNER) -> None:
        """A container that has the device."""
        engine = self.engine.engine if owner == OWNER else self.engine.other
        await engine.create_container(name, body(FOREVER, owner=owner, Devices=DEVICES))
        await engine.start_container(name)

    async def state(self, name: str = "c-1") -> str:
        """What the probe says."""
        return (await self.probe.look(name)).state


def group_of(dockerd: PrivateDockerd, name: str) -> Path:
    """The directory of a container's devices group (version 1)."""
    with dockerd.client() as client:
        pid = client.api.inspect_container(name)["State"]["Pid"]
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    path = next(line.split(":")[2] for line in lines if line.split(":")[1] == "devices")
    return Path("/sys/fs/cgroup/devices" + path)


@pytest.fixture(params=["docker", "simulated"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[AccessRig]:
    if request.param == "simulated":
        async with engine_rig(None) as simulated:
            engine = simulated.engine
            assert isinstance(engine, SimulatedEngine)

            def lose(name: str) -> None:
                engine.world.containers[name].gpu_access = False

            yield AccessRig(simulated, SimulatedAccess(engine, OWNER), lose)
        return
    dockerd: PrivateDockerd = await asyncio.to_thread(request.getfixturevalue, "dockerd")
    probe = CgroupAccess(dockerd.url, owner=OWNER, node=NULL)
    async with engine_rig(dockerd) as made:

        def deny(name: str) -> None:
            (group_of(dockerd, name) / "devices.deny").write_text("c 1:3 rwm")

        yield AccessRig(made, probe, deny)
    await probe.close()


async def test_what_was_taken_away_is_found_and_a_start_gives_it_back(rig: AccessRig) -> None:
    await rig.run()
    assert await rig.state() == "has"
    rig.lose("c-1")
    lost = await rig.probe.look("c-1")
    assert lost.state == "lost"
    assert "ermitted" in lost.detail
    await rig.engine.engine.stop_container("c-1", 1)
    assert await rig.state() == "unknown"
    await rig.engine.engine.start_container("c-1")
    assert await rig.state() == "has"


async def test_of_others_and_of_what_is_not_there_nothing_is_known(rig: AccessRig) -> None:
    await rig.run("c-2", OTHER_OWNER)
    assert [await rig.state(name) for name in ("c-2", "c-3")] == ["unknown", "unknown"]


# -- the real one -----------------------------------------------------------------------------


@pytest.fixture
async def real(dockerd: PrivateDockerd) -> AsyncIterator[AccessRig]:
    probe = CgroupAccess(dockerd.url, owner=OWNER, node=NULL)
    async with engine_rig(dockerd) as made:
        yield AccessRig(made, probe, lambda name: None)
    await probe.close()


async def test_nothing_of_the_probe_is_left_in_the_group(
    real: AccessRig, dockerd: PrivateDockerd
) -> None:
    await real.run()
    procs = group_of(dockerd, "c-1") / "cgroup.procs"
    before = procs.read_text()
    assert await real.state() == "has"
    assert procs.read_text() == before
    assert str(os.getpid()) not in before.split()


@pytest.mark.parametrize(
    "script",
    [
        "rm /dev/null; mknod /dev/null c 1 5",
        "rm /dev/null; echo > /dev/null",
        "mv /dev/null /dev/x; ln -s x /dev/null",
        "rm /dev/null",
    ],
)
async def test_nothing_else_is_opened_in_its_place(real: AccessRig, script: str) -> None:
    await real.run()
    done = await real.engine.engine.execute("c-1", ["sh", "-c", script], "", 1000)
    assert done.exit_code == 0
    assert await real.state() == "unknown"


async def test_of_a_container_without_the_device_nothing_is_known(
    real: AccessRig, dockerd: PrivateDockerd
) -> None:
    await real.run()
    for url in (dockerd.url, "tcp://127.0.0.1:9"):
        probe = CgroupAccess(url, owner=OWNER)
        assert (await probe.look("c-1")).state == "unknown"
        await probe.close()



async def test_a_group_of_version_2_is_asked_in_the_same_way() -> None:
    """Its devices are ruled by a program, as systemd and the runtime attach one."""
    root = version_2()
    assert root is not None, "no control groups of version 2 are mounted here"
    with group(root, f"gpuledger-{uuid4().hex[:8]}") as made:
        procs = made / "cgroup.procs"
        assert await try_to_open(os.getpid(), NULL, procs) == "open -1"
        deny_devices(made)
        assert await try_to_open(os.getpid(), NULL, procs) == f"open {errno.EPERM}"
        (made / "cgroup.freeze").write_text("1")
        assert await try_to_open(os.getpid(), NULL, procs, timeout_s=0.5) == ""
        assert procs.read_text() == ""


V1 = "35 25 0:30 / /sys/fs/cgroup/devices rw,nosuid shared:15 - cgroup cgroup rw,devices\n"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = "31 25 0:27 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw\n" + V1
NOT_ALL = "35 25 0:30 /docker/x /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n"


@pytest.mark.parametrize(
    ("groups", "mounts", "found"),
    [
        ("5:devices:/docker/abc\n1:cpu:/\n", V1, "/sys/fs/cgroup/devices/docker/abc"),
        ("0::/system.slice/docker-abc.scope\n", V2, "/sys/fs/cgroup/system.slice/docker-abc.scope"),
        ("5:devices:/docker/abc\n0::/\n", HYBRID, "/sys/fs/cgroup/devices/docker/abc"),
        # Another process has the number by now.
        ("5:devices:/docker/def\n", V1, None),
        ("0::/user.slice\n", V2, None),
        # Namespaces of ours, in which the host's groups have other names.
        ("0::/../docker-abc.scope\n", V2, None),
        ("5:devices:/docker/abc\n", NOT_ALL, None),
        ("5:devices:/docker/abc\n", V2, None),
        ("", V2, None),
    ],
)
def test_where_the_group_is(groups: str, mounts: str, found: str | None) -> None:
    where = devices_group(groups, mounts, "abc")
    assert (None if where is None else str(where)) == found
