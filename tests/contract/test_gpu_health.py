"""How GPUs fare, by the real pynvml on a stub of the driver's library; and errors as they come."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest

from service.adapters.nvml_health import BOOT_ID
from service.errors import DeviceProbeError
from service.ports import GpuError
from tests.kit.nvml_child import ProbeInChild
from tests.kit.nvml_stub import NvmlStub

XID = 8
"""NVML's number for the type of event that an error is."""

HEARD_S_MAX = 60.0

READ_S_MAX = 2.5
"""The limit of a reading where one is to hang: those before it take milliseconds, on an idle
machine."""


def uuid_of(index: int) -> str:
    """As the stub driver numbers its GPUs."""
    return f"GPU-{0xA100 + index:08x}-0000-4000-8000-{index:012x}"


@pytest.fixture
async def nvml(nvml_stub: NvmlStub) -> AsyncIterator[ProbeInChild]:
    async with ProbeInChild(nvml_stub) as probe:
        yield probe


def children_of(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in listed.split()]


class Ending:
    """The end of any process, to be awaited."""

    def __init__(self, pid: int) -> None:
        self._ended = asyncio.Event()
        loop, handle = asyncio.get_running_loop(), os.pidfd_open(pid)

        def note() -> None:
            loop.remove_reader(handle)
            os.close(handle)
            self._ended.set()

        loop.add_reader(handle, note)

    def __await__(self) -> Generator[Any, None, bool]:
        return self._ended.wait().__await__()


class Driver:
    """The stub, and the errors that it has reported so far."""

    def __init__(self, stub: NvmlStub) -> None:
        self._stub = stub
        self._lines: dict[str, int | str] = {}
        self._count = 0

    def write(self, gpus: int = 2, **lines: int | str) -> None:
        """Show these GPUs from now on."""
        self._lines = {"gpus": gpus, **lines}
        self._stub.write(**self._lines)  # type: ignore[arg-type]

    def fail(self, *errors: tuple[int, int]) -> None:
        """Report errors (index and number), once, to whoever listens already."""
        events: list[str] = []
        for index, xid in errors:
            self._count += 1
            events.append(f"{self._count}:{index}:{XID}:{xid}")
        self._stub.write(**self._lines, event="\nevent=".join(events))  # type: ignore[arg-type]


async def heard(probe: ProbeInChild, driver: Driver, index: int, xid: int) -> list[GpuError]:
    """What is heard of an error, reported until somebody listens: nobody may do so at first."""
    waiting = asyncio.create_task(probe.errors())
    async with asyncio.timeout(HEARD_S_MAX):
        while not waiting.done():
            driver.fail((index, xid))
            await asyncio.wait((waiting,), timeout=0.2)
    # Reported more than once, it may have been heard more than once.
    return list(dict.fromkeys(waiting.result()))


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ({}, {}),
        ({"gpu.1.ecc": 3}, {"ecc_uncorrected": 3}),
        ({"gpu.1.remap_pending": 1}, {"remap_pending": True}),
        ({"gpu.1.remap_failed": 1}, {"remap_failed": True}),
        ({"gpu.1.retire_pending": 1}, {"retirement_pending": True}),
        ({"gpu.1.proc": "4711:1048576"}, {"pids": (4711,)}),
    ],
)
async def test_a_report_says_what_is_wrong(
    nvml: ProbeInChild, nvml_stub: NvmlStub, lines: dict[str, Any], told: dict[str, Any]
) -> None:
    nvml_stub.write(2, **lines)
    health = await nvml.health()
    first, second = health.reports
    well = {
        "ecc_uncorrected": 0,
        "remap_pending": False,
        "remap_failed": False,
        "retirement_pending": False,
        "pids": (),
    }
    assert {name: getattr(first, name) for name in well} == well
    assert {name: getattr(second, name) for name in well} == well | told
    assert (first.uuid, second.uuid) == (uuid_of(0), uuid_of(1))
    assert health.boot == BOOT_ID.read_text().strip()


async def test_a_lost_gpu_is_named_by_its_index(nvml: ProbeInChild, nvml_stub: NvmlStub) -> None:
    nvml_stub.write(3, **{"gpu.1.lost": 1})
    health = await nvml.health()
    assert [(one.index, one.lost) for one in health.missing] == [(1, True)]
    assert [report.uuid for report in health.reports] == [uuid_of(0), uuid_of(2)]


async def test_the_memory_of_an_instance_is_that_of_its_gpu(
    nvml: ProbeInChild, nvml_stub: NvmlStub
) -> None:
    nvml_stub.write(2, **{"gpu.0.mig": 2, "gpu.0.ecc": 1})
    assert [report.ecc_uncorrected for report in (await nvml.health()).reports] == [1, 1, 0]


class TestErrors:
    @pytest.fixture
    def driver(self, nvml_stub: NvmlStub) -> Driver:
        driver = Driver(nvml_stub)
        driver.write()
        return driver

    async def test_they_are_heard_with_the_processes_that_were_there(
        self, nvml: ProbeInChild, driver: Driver
    ) -> None:
        driver.write(2, **{"gpu.1.proc": "4711:1"})
        await nvml.health()
        assert await heard(nvml, driver, 1, 31) == [GpuError(uuid_of(1), 31, (4711,))]

    async def test_an_error_of_a_whole_gpu_is_one_of_all_its_instances(
        self, nvml: ProbeInChild, driver: Driver
    ) -> None:
        driver.write(2, **{"gpu.0.mig": 2})
        shown = (await nvml.health()).gpus
        parts = [gpu.uuid for gpu in shown if gpu.parent_uuid]
        assert [error.uuid for error in await heard(nvml, driver, 0, 79)] == parts

    async def test_of_those_let_go_nothing_is_heard_and_of_the_others_still(
        self, nvml: ProbeInChild, driver: Driver
    ) -> None:
        await nvml.health()
        assert await heard(nvml, driver, 0, 48) == [GpuError(uuid_of(0), 48)]
        (before,) = children_of(nvml.pid)
        ended = Ending(before)
        await nvml.health(let_go=[uuid_of(0)])
        told: set[GpuError] = set()
        async with asyncio.timeout(HEARD_S_MAX):
            await ended
            while GpuError(uuid_of(1), 31) not in told:
                waiting = asyncio.create_task(nvml.errors())
                while not waiting.done():
                    driver.fail((0, 74), (1, 31))
                    await asyncio.wait((waiting,), timeout=0.2)
                told |= set(waiting.result())
        # What was heard before the GPU was let go of may only come now.
        assert told - {GpuError(uuid_of(0), 48)} == {GpuError(uuid_of(1), 31)}

    async def test_one_that_cannot_report_errors_is_no_trouble(
        self, nvml: ProbeInChild, driver: Driver
    ) -> None:
        driver.write(2, **{"gpu.0.no_events": 1})
        assert len((await nvml.health()).gpus) == 2
        assert await heard(nvml, driver, 1, 48) == [GpuError(uuid_of(1), 48)]

    async def test_a_driver_that_hangs_meanwhile_is_trouble_as_ever(
        self, nvml_stub: NvmlStub
    ) -> None:
        driver = Driver(nvml_stub)
        async with ProbeInChild(nvml_stub, timeout_s=READ_S_MAX) as probe:
            driver.write()
            await probe.health()
            driver.write(2, hang=3600)
            with pytest.raises(DeviceProbeError, match=f"within {READ_S_MAX:g} s"):
                await probe.health()

    async def test_the_listener_ends_with_the_probe(
        self, nvml: ProbeInChild, driver: Driver
    ) -> None:
        await nvml.health()
        await heard(nvml, driver, 0, 48)
        assert len(children_of(nvml.pid)) == 1
        await nvml.close()
        assert children_of(nvml.pid) == []

    async def test_the_listener_ends_when_the_service_is_killed(
        self, nvml_stub: NvmlStub, driver: Driver
    ) -> None:
        probe = ProbeInChild(nvml_stub, timeout_s=READ_S_MAX)
        async with asyncio.timeout(HEARD_S_MAX):
            await probe.__aenter__()
            await probe.health()
            await heard(probe, driver, 0, 48)
            (listener,) = children_of(probe.pid)
            ended = Ending(listener)
            # It hears nothing any more: only the end of its input can tell it.
            driver.write(2, hang=3600)
            with pytest.raises(DeviceProbeError):
                await probe.health()
            os.kill(probe.pid, signal.SIGKILL)
            await probe.leave()
            await ended
