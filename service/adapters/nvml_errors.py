"""Errors of GPUs as the driver reports them (XIDs), heard in a process of their own.

To hear them NVML has to stay open and wait. In this process that would freeze what NVML shows:
it counts the GPUs when it is first opened. And a wait that hangs could not be ended. A child
process can be killed, and lets go of all GPUs when it is.

The child holds only the GPUs that it was given, so that another one can be reset, and it is started
anew when they change. It says a line at least every few seconds; one that falls silent hangs.
"""

import asyncio
import ctypes
import logging
import os
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import pynvml

from events.gpu_health import GpuError
from service.adapters.nvml_health import pids_on
from service.ports import Gpu

log = logging.getLogger(__name__)

WAIT_MS = 1000
"""So long does the child wait for an error before it says that there was none."""

SILENT_S_MAX = 30.0
AGAIN_S = 30.0
"""So long after a child has failed is the next one started."""

END_S_MAX = 2.0
"""So long is a killed child waited for; in a call that never comes back it cannot even die."""

ERRORS_MAX = 1000
"""So many errors wait to be taken; of more the oldest are dropped."""

WHOLE_GPU = 0xFFFFFFFF
"""NVML's instance number for an error that is not of one MIG instance."""


class ErrorListener:
    """`listen` says to which GPUs; `errors` waits for what they report; `close` ends it."""

    def __init__(self) -> None:
        self._gpus: tuple[Gpu, ...] = ()
        self._changed = asyncio.Event()
        self._heard: deque[GpuError] = deque(maxlen=ERRORS_MAX)
        self._any = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def listen(self, gpus: Sequence[Gpu]) -> None:
        """Listen to these from now on, and to no others."""
        wanted = tuple(gpus)
        if wanted != self._gpus:
            self._gpus = wanted
            self._changed.set()
        if self._task is None and wanted:
            self._task = asyncio.create_task(self._run(), name="nvml-errors")

    async def errors(self) -> tuple[GpuError, ...]:
        """Wait until there are some, and take them."""
        await self._any.wait()
        self._any.clear()
        heard = tuple(self._heard)
        self._heard.clear()
        return heard

    async def close(self) -> None:
        """End the child, if there is one."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            listened = not self._gpus or await self._hear(self._gpus)
            try:
                async with asyncio.timeout(None if listened else AGAIN_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _hear(self, gpus: Sequence[Gpu]) -> bool:
        """Listen until the GPUs change. False when it has to be tried again."""
        try:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", __name__), stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
        except OSError as error:
            log.warning("the GPUs' errors are not heard now: %s", error)
            return False
        assert child.stdin is not None
        child.stdin.write(msgspec.json.encode(gpus) + b"\n")
        changed = asyncio.create_task(self._changed.wait())
        said = asyncio.create_task(self._take_all(child))
        try:
            await asyncio.wait((changed, said), return_when=asyncio.FIRST_COMPLETED)
            return said.result() if said.done() else True
        finally:
            changed.cancel()
            said.cancel()
            await _end(child)

    async def _take_all(self, child: Process) -> bool:
        """Take what the child says until it ends. False when it has to be tried again."""
        assert child.stdout is not None
        while True:
            try:
                line = await asyncio.wait_for(child.stdout.readline(), SILENT_S_MAX)
            except TimeoutError:
                log.warning("the NVIDIA driver hangs: no word of errors for %.0f s", SILENT_S_MAX)
                return False
            if not line:
                return await _ended_well(child)
            self._take(line)

    def _take(self, line: bytes) -> None:
        heard = msgspec.json.decode(line, type=list[GpuError])
        if heard:
            self._heard.extend(heard)
            self._any.set()


async def _ended_well(child: Process) -> bool:
    """True when the child has said that there is nothing to listen to."""
    assert child.stderr is not None
    said = (await child.stderr.read()).decode("utf-8", "replace").strip()
    if await child.wait() == 0:
        return True
    log.warning("the GPUs' errors are not heard now: %s", said.rpartition("\n")[2])
    return False


async def _end(child: Process) -> None:
    if child.returncode is not None:
        return
    child.kill()
    try:
        await asyncio.wait_for(child.wait(), END_S_MAX)
    except TimeoutError:
        log.warning("process %d hangs in the NVIDIA driver and cannot be ended", child.pid)


class _Registered:
    """A GPU that errors are heard of: which UUIDs are meant, by its instances' numbers."""

    def __init__(self, handle: Any, parts: dict[tuple[int, int], tuple[str, Any]]) -> None:
        self.handle = handle
        self._parts = parts

    def affected(self, instance: tuple[int, int]) -> list[tuple[str, Any]]:
        """UUID and handle of what an error is of: an instance, or all there is of the GPU."""
        if instance in self._parts:
            return [self._parts[instance]]
        return list(self._parts.values())


def _registered(gpus: Sequence[Gpu], events: Any) -> dict[int, _Registered]:
    """The GPUs that can report errors, by the address that NVML names them with."""
    by_bus: dict[str, set[str]] = {}
    for gpu in gpus:
        by_bus.setdefault(gpu.pci_bus_id, set()).add(gpu.uuid)
    found: dict[int, _Registered] = {}
    for bus_id, uuids in by_bus.items():
        # By its place: to look for a UUID, NVML would open the other GPUs as well.
        handle = pynvml.nvmlDeviceGetHandleByPciBusId(bus_id.encode())
        try:
            supported = pynvml.nvmlDeviceGetSupportedEventTypes(handle)
            if not supported & pynvml.nvmlEventTypeXidCriticalError:
                continue
            pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
            continue
        found[_address(handle)] = _Registered(handle, _parts(handle, uuids))
    return found


def _parts(handle: Any, uuids: set[str]) -> dict[tuple[int, int], tuple[str, Any]]:
    whole = str(pynvml.nvmlDeviceGetUUID(handle))
    if whole in uuids:
        return {(WHOLE_GPU, WHOLE_GPU): (whole, handle)}
    parts: dict[tuple[int, int], tuple[str, Any]] = {}
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
        except pynvml.NVMLError_NotFound:
            continue  # the numbers in use may have gaps
        uuid = str(pynvml.nvmlDeviceGetUUID(part))
        if uuid in uuids:
            instance = (
                int(pynvml.nvmlDeviceGetGpuInstanceId(part)),
                int(pynvml.nvmlDeviceGetComputeInstanceId(part)),
            )
            parts[instance] = uuid, part
    return parts


def _address(handle: Any) -> int:
    return int(ctypes.cast(handle, ctypes.c_void_p).value or 0)


def _say(errors: list[GpuError]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(errors) + b"\n")
    sys.stdout.buffer.flush()


def _listen(gpus: Sequence[Gpu]) -> None:
    """Say what is heard, for ever; returns when there is nothing to hear. Raises NVMLError."""
    pynvml.nvmlInit()
    events = pynvml.nvmlEventSetCreate()
    registered = _registered(gpus, events)
    while registered:
        try:
            heard = pynvml.nvmlEventSetWait_v2(events, WAIT_MS)
        except pynvml.NVMLError_Timeout:
            _say([])
            continue
        found = registered.get(_address(heard.device))
        if found is None or heard.eventType != pynvml.nvmlEventTypeXidCriticalError:
            continue
        instance = (int(heard.gpuInstanceId), int(heard.computeInstanceId))
        _say([_error(*part, int(heard.eventData)) for part in found.affected(instance)])


def _error(uuid: str, handle: Any, xid: int) -> GpuError:
    try:
        return GpuError(uuid, xid, pids_on(handle))
    except pynvml.NVMLError_GpuIsLost:
        return GpuError(uuid, xid)


def _end_with_parent() -> None:
    """The parent's end closes our input, however it dies; a wait in NVML must not outlive it."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> int:
    """The child: the GPUs on its input, errors on its output, the input's end is its end."""
    gpus = msgspec.json.decode(sys.stdin.buffer.readline(), type=tuple[Gpu, ...])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _listen(gpus)
    except pynvml.NVMLError as error:
        print(error, file=sys.stderr, flush=True)
        # Not by returning: the other thread reads the input, which the interpreter would wait for.
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
