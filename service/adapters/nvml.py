"""NvmlProbe: which NVIDIA GPUs there are, asked of the driver through NVML.

NVML can hang for tens of seconds (a GPU falling off the bus, a driver that reloads), and a call
that hangs cannot be ended. Hence three rules:

- NVML is never called on the event loop. One reading is one daemon thread, and there is one
  reading at a time.
- A reading has a time limit. Past it the thread is given up, not waited for, and the next
  reading gets a new one. Given-up threads are counted, and past a few no more are started.
- NVML is opened and closed by each reading: a GPU count is fixed at nvmlInit, and a process
  that keeps NVML open stands in the way of a driver reload, a GPU reset or a new MIG layout.
  What has to stay open to hear of errors is in a process of its own (`nvml_errors`).
"""

import asyncio
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pynvml
from msgspec import Struct

from events.gpu_health import GpuReport, MissingGpu
from service.adapters.daemon_thread import in_daemon_thread
from service.adapters.nvml_errors import ErrorListener
from service.adapters.nvml_health import boot_id, read_report
from service.errors import DeviceProbeError
from service.ports import Gpu, GpuError, GpuHealth

TIMEOUT_S_DEFAULT = 10.0
HUNG_READINGS_MAX = 3

_NO_LIBRARY = "no NVIDIA driver on this machine (libnvidia-ml.so.1 is not installed)"
_NOT_LOADED = "the NVIDIA driver is installed but not loaded (try nvidia-smi, or modprobe nvidia)"


class Reading(Struct, frozen=True):
    """What one look at the driver gave."""

    health: GpuHealth = GpuHealth()
    driver_version: str = ""
    absent: str = ""
    """Why there is no driver to ask; empty when there is one."""


class NvmlProbe:
    """DeviceProbe over NVML. No driver is an empty inventory, not an error."""

    def __init__(self, timeout_s: float = TIMEOUT_S_DEFAULT) -> None:
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._given_up: list[Future[Reading]] = []
        self._listener = ErrorListener()

    async def health(self, let_go: Collection[str] = ()) -> GpuHealth:
        """The GPUs that can be lent, by index, each with a report.

        A GPU in MIG mode shows as its instances, with the GPU's own index. One that does not
        answer is named as missing and the others are listed.
        """
        health = (await self._read()).health
        self._listener.listen([gpu for gpu in health.gpus if gpu.uuid not in let_go])
        return health

    async def errors(self) -> tuple[GpuError, ...]:
        """Wait until the driver reports errors of the GPUs last shown and not let go."""
        return await self._listener.errors()

    async def close(self) -> None:
        """Let go of the driver; readings that hang are left to their threads."""
        await self._listener.close()

    async def describe(self) -> str:
        """One line for people: driver and count, or why there is none. Never raises."""
        try:
            return _describe(await self._read())
        except DeviceProbeError as error:
            return str(error)

    async def _read(self) -> Reading:
        async with self._turn:
            self._given_up = [reading for reading in self._given_up if not reading.done()]
            if len(self._given_up) >= HUNG_READINGS_MAX:
                raise DeviceProbeError(
                    f"the NVIDIA driver hangs: {len(self._given_up)} readings never came back, "
                    "so it is not asked again until one does (see dmesg; a reboot may be needed)"
                )
            reading = in_daemon_thread("nvml", read_driver)
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await asyncio.wrap_future(reading)
            except TimeoutError:
                raise DeviceProbeError(
                    f"the NVIDIA driver did not answer within {self._timeout_s:g} s "
                    "(does nvidia-smi hang too? without nvidia-persistenced it may just be slow)"
                ) from None
            finally:
                # Also when the caller was cancelled: the thread is busy all the same.
                if not reading.done():
                    self._given_up.append(reading)


def read_driver() -> Reading:
    """Ask NVML for everything in one go. Blocks; raises DeviceProbeError.

    NVML's own errors are mapped here and nowhere else, by class (that is, by code).
    """
    try:
        with _nvml():
            return _read_all()
    except pynvml.NVMLError_LibraryNotFound:
        return Reading(absent=_NO_LIBRARY)
    except pynvml.NVMLError_DriverNotLoaded:
        return Reading(absent=_NOT_LOADED)
    except pynvml.NVMLError_LibRmVersionMismatch as error:
        raise DeviceProbeError(
            "the NVIDIA driver was updated while it was loaded: reboot, or unload and load it"
        ) from error
    except pynvml.NVMLError_NoPermission as error:
        raise DeviceProbeError(
            "no permission to ask the NVIDIA driver: check the rights on /dev/nvidiactl"
        ) from error
    except pynvml.NVMLError as error:
        raise DeviceProbeError(f"the NVIDIA driver answered: {error}") from error


@contextmanager
def _nvml() -> Iterator[None]:
    pynvml.nvmlInit()
    try:
        yield
    finally:
        pynvml.nvmlShutdown()


def _read_all() -> Reading:
    gpus: list[Gpu] = []
    reports: list[GpuReport] = []
    missing: list[MissingGpu] = []
    failure: pynvml.NVMLError | None = None
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            found = list(_read_gpu(index))
        except pynvml.NVMLError as error:
            # One GPU in trouble must not hide the others.
            lost = isinstance(error, pynvml.NVMLError_GpuIsLost)
            missing.append(MissingGpu(index, lost, str(error)))
            failure = failure if lost else error
            continue
        gpus += [gpu for gpu, _ in found]
        reports += [report for _, report in found]
    if failure is not None and not gpus:
        # Not one GPU answered, and not because they are gone: that is the driver's trouble,
        # and an empty answer would say that all GPUs have disappeared.
        raise failure
    version = str(pynvml.nvmlSystemGetDriverVersion())
    health = GpuHealth(tuple(gpus), tuple(reports), tuple(missing), boot_id())
    return Reading(health, driver_version=version)


def _read_gpu(index: int) -> Iterator[tuple[Gpu, GpuReport]]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid = str(pynvml.nvmlDeviceGetUUID(handle))
    bus_id = str(pynvml.nvmlDeviceGetPciInfo(handle).busId)
    parent_uuid, parts = None, [handle]
    if _mig_enabled(handle):
        parent_uuid, parts = uuid, list(_mig_instances(handle))
    for part in parts:
        gpu = Gpu(
            uuid=str(pynvml.nvmlDeviceGetUUID(part)),
            index=index,
            name=str(pynvml.nvmlDeviceGetName(part)),
            memory_bytes=_memory_bytes(part),
            pci_bus_id=bus_id,
            parent_uuid=parent_uuid,
        )
        yield gpu, read_report(gpu.uuid, handle, part)


def _mig_enabled(handle: Any) -> bool:
    try:
        current, _pending = pynvml.nvmlDeviceGetMigMode(handle)
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        return False
    return bool(current == pynvml.NVML_DEVICE_MIG_ENABLE)


def _mig_instances(handle: Any) -> Iterator[Any]:
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError_NotFound:
            continue  # the numbers in use may have gaps


def _memory_bytes(handle: Any) -> int:
    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError_NotSupported:
        return 0  # a GPU that shares the host's memory has none of its own to name


def _describe(reading: Reading) -> str:
    if reading.absent:
        return reading.absent
    gpus, missing = reading.health.gpus, reading.health.missing
    names = ", ".join(dict.fromkeys(gpu.name for gpu in gpus))
    count = len(gpus)
    line = f"NVIDIA driver {reading.driver_version}: {count} GPU{'' if count == 1 else 's'}"
    if names:
        line += f" ({names})"
    if missing:
        line += "; left out: " + ", ".join(f"GPU {one.index}: {one.message}" for one in missing)
    return line
