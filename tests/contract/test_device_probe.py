"""The DeviceProbe port: one suite for every implementation, then what only NVML can show.

NvmlProbe is the real one, with the real pynvml, in a child process over a stub of the driver's
library (see tests/kit/nvml_stub.c).
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from service.adapters.nvml import HUNG_READINGS_MAX, NvmlProbe
from service.adapters.simulated_gpus import NoGpus, SimulatedProbe
from service.errors import DeviceProbeError
from service.ports import DeviceProbe, Gpu
from tests.kit.nvml_child import ProbeInChild
from tests.kit.nvml_stub import NvmlStub

GIB = 1024**3
UUID = re.compile(r"(GPU|MIG)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
BUS_ID = re.compile(r"[0-9A-F]{8}:[0-9A-F]{2}:[0-9A-F]{2}\.0")


async def gpus_of(probe: DeviceProbe) -> tuple[Gpu, ...]:
    """Which GPUs there are."""
    return (await probe.health()).gpus


@pytest.fixture
async def nvml(nvml_stub: NvmlStub) -> AsyncIterator[ProbeInChild]:
    async with ProbeInChild(nvml_stub) as probe:
        yield probe


@pytest.fixture(params=["nvml", "simulated"])
async def eight(
    request: pytest.FixtureRequest, nvml_stub: NvmlStub
) -> AsyncIterator[DeviceProbe]:
    """A probe of eight GPUs, of each kind in turn."""
    async with AsyncExitStack() as stack:
        if request.param == "nvml":
            nvml_stub.write(gpus=8)
            yield await stack.enter_async_context(ProbeInChild(nvml_stub))
        else:
            yield SimulatedProbe(8)


class TestEveryProbe:
    async def test_lists_the_gpus_by_index(self, eight: DeviceProbe) -> None:
        gpus = await gpus_of(eight)
        assert [gpu.index for gpu in gpus] == list(range(8))
        assert all(gpu.parent_uuid is None for gpu in gpus)

    async def test_uuids_and_slots_are_well_formed_and_unique(self, eight: DeviceProbe) -> None:
        gpus = await gpus_of(eight)
        assert all(UUID.fullmatch(gpu.uuid) for gpu in gpus)
        assert all(BUS_ID.fullmatch(gpu.pci_bus_id) for gpu in gpus)
        assert len({gpu.uuid for gpu in gpus}) == 8
        assert len({gpu.pci_bus_id for gpu in gpus}) == 8

    async def test_names_and_memory(self, eight: DeviceProbe) -> None:
        for gpu in await gpus_of(eight):
            assert gpu.name
            assert gpu.memory_bytes == 80 * GIB

    async def test_the_same_question_gets_the_same_answer(self, eight: DeviceProbe) -> None:
        assert await gpus_of(eight) == await gpus_of(eight)

    async def test_describes_itself_in_one_line_with_the_count(self, eight: DeviceProbe) -> None:
        line = await eight.describe()
        assert "8" in line
        assert "\n" not in line


class TestSimulatedGpus:
    async def test_are_the_same_ones_after_a_restart(self) -> None:
        assert (await gpus_of(SimulatedProbe(2))) == (await gpus_of(SimulatedProbe(8)))[:2]

    async def test_say_that_they_are_not_real(self) -> None:
        assert "simulated" in await SimulatedProbe(1).describe()
        assert {gpu.name for gpu in await gpus_of(SimulatedProbe(3))} == {"Simulated GPU"}

    def test_a_negative_count_is_refused(self) -> None:
        with pytest.raises(ValueError, match="-1"):
            SimulatedProbe(-1)

    async def test_none_at_all_names_the_switch(self) -> None:
        assert await gpus_of(NoGpus()) == ()
        assert "--gpus none" in await NoGpus().describe()


class TestMig:
    async def test_instances_stand_in_for_their_gpu(
        self, nvml: ProbeInChild, nvml_stub: NvmlStub
    ) -> None:
        nvml_stub.write(gpus=3)
        whole = await gpus_of(nvml)
        nvml_stub.write(gpus=3, **{"gpu.1.mig": 2})
        first, one, two, last = await gpus_of(nvml)
        assert (first, last) == (whole[0], whole[2])
        for instance in (one, two):
            assert instance.uuid.startswith("MIG-")
            assert instance.parent_uuid == whole[1].uuid
            assert instance.index == 1
            assert instance.pci_bus_id == whole[1].pci_bus_id
            assert instance.memory_bytes == 10 * GIB
            assert "1g.10gb" in instance.name
        assert one.uuid != two.uuid


class TestTrouble:
    async def test_a_lost_gpu_does_not_hide_the_others(
        self, nvml: ProbeInChild, nvml_stub: NvmlStub
    ) -> None:
        nvml_stub.write(gpus=8, **{"gpu.3.lost": 1})
        assert [gpu.index for gpu in await gpus_of(nvml)] == [0, 1, 2, 4, 5, 6, 7]
        line = await nvml.describe()
        assert "7 GPUs" in line
        assert "GPU 3" in line

    async def test_all_gpus_lost_is_an_empty_answer(
        self, nvml: ProbeInChild, nvml_stub: NvmlStub
    ) -> None:
        nvml_stub.write(gpus=1, **{"gpu.0.lost": 1})
        assert await gpus_of(nvml) == ()
        assert "GPU 0" in await nvml.describe()

    async def test_a_driver_that_is_not_loaded_is_an_empty_answer(
        self, nvml: ProbeInChild, nvml_stub: NvmlStub
    ) -> None:
        nvml_stub.write(init=9)
        assert await gpus_of(nvml) == ()
        assert "not loaded" in await nvml.describe()

    async def test_a_half_updated_driver_is_an_error_that_says_so(
        self, nvml: ProbeInChild, nvml_stub: NvmlStub
    ) -> None:
        nvml_stub.write(init=18)
        with pytest.raises(DeviceProbeError, match="updated"):
            await gpus_of(nvml)
        assert "updated" in await nvml.describe()

    async def test_gpus_come_and_go(self, nvml: ProbeInChild, nvml_stub: NvmlStub) -> None:
        nvml_stub.write(gpus=2)
        before = await gpus_of(nvml)
        nvml_stub.write(gpus=3)
        assert (await gpus_of(nvml))[:2] == before
        assert len(await gpus_of(nvml)) == 3
        nvml_stub.write(gpus=1)
        assert await gpus_of(nvml) == before[:1]

    async def test_no_library_is_an_empty_answer(self, tmp_path: Path) -> None:
        stub = NvmlStub(tmp_path)
        # A file of that name that is no library, ahead of any real driver on this machine.
        (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
        stub.env["LD_LIBRARY_PATH"] = str(tmp_path)
        async with ProbeInChild(stub) as probe:
            gpus, line = await gpus_of(probe), await probe.describe()
        assert gpus == ()
        assert "no NVIDIA driver" in line


class TestHangingDriver:
    async def test_a_reading_has_a_time_limit_and_recovers(self, nvml_stub: NvmlStub) -> None:
        # Ample for the reading that is to be well again, also on a busy machine.
        async with ProbeInChild(nvml_stub, timeout_s=2.5) as probe:
            nvml_stub.write(gpus=2, hang=3600)
            with pytest.raises(DeviceProbeError, match=r"within 2\.5 s"):
                await gpus_of(probe)
            nvml_stub.write(gpus=2)
            assert len(await gpus_of(probe)) == 2

    async def test_hung_readings_are_bounded_and_do_not_keep_the_process(
        self, nvml_stub: NvmlStub
    ) -> None:
        nvml_stub.write(hang=3600)
        # Leaving waits for the child's end: it ends though its readings still hang.
        async with ProbeInChild(nvml_stub, timeout_s=0.05) as probe:
            for _ in range(HUNG_READINGS_MAX):
                with pytest.raises(DeviceProbeError, match="did not answer"):
                    await gpus_of(probe)
            nvml_stub.write()
            with pytest.raises(DeviceProbeError, match="not asked again"):
                await gpus_of(probe)
            assert "hangs" in await probe.describe()


async def test_here_and_now_the_probe_gives_an_answer() -> None:
    """Whatever this machine has, in this process: an inventory and a line, not an exception."""
    probe = NvmlProbe()
    gpus, line = await gpus_of(probe), await probe.describe()
    assert len({gpu.uuid for gpu in gpus}) == len(gpus)
    assert line
