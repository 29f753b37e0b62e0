"""How a GPU fares, asked of NVML: memory errors, rows to be remapped, processes on it.

What a GPU or a driver cannot tell is left at its default, whatever the reason it gives: a counter
that cannot be read is no reason not to lend a GPU that works. Only a GPU that is lost is an error.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pynvml

from events.gpu_health import GpuReport

T = TypeVar("T")

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""The kernel makes it anew at each boot."""


def read_report(uuid: str, whole: Any, handle: Any) -> GpuReport:
    """The report of `handle`, a GPU or an instance of the GPU `whole`. Raises NVMLError_GpuIsLost.

    Memory is the whole GPU's: an instance is as sick as the GPU that it is a part of.
    """
    remapped = _told(lambda: pynvml.nvmlDeviceGetRemappedRows(whole), (0, 0, 0, 0))
    return GpuReport(
        uuid=uuid,
        ecc_uncorrected=_told(lambda: _uncorrected(whole), 0),
        remap_pending=bool(remapped[2]),
        remap_failed=bool(remapped[3]),
        retirement_pending=bool(
            _told(lambda: pynvml.nvmlDeviceGetRetiredPagesPendingStatus(whole), 0)
        ),
        pids=pids_on(handle),
    )


def pids_on(handle: Any) -> tuple[int, ...]:
    """The processes that compute on a GPU or instance, by number. Raises NVMLError_GpuIsLost."""
    found: list[Any] = _told(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle), [])
    return tuple(sorted({int(process.pid) for process in found}))


def boot_id() -> str:
    """Which boot of the host this is; empty where the kernel does not say. Blocks for no time."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _uncorrected(handle: Any) -> int:
    return int(
        pynvml.nvmlDeviceGetTotalEccErrors(
            handle, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        )
    )


def _told(ask: Callable[[], T], otherwise: T) -> T:
    try:
        return ask()
    except pynvml.NVMLError_GpuIsLost:
        raise
    except pynvml.NVMLError:
        return otherwise
