"""DeviceProbes that ask no driver: simulated GPUs to try the service out, and none at all."""

import asyncio
from collections.abc import Collection

from service.ports import Gpu, GpuError, GpuHealth

MEMORY_BYTES = 80 * 1024**3


class SimulatedProbe:
    """DeviceProbe of `count` GPUs that do not exist, the same ones at every start.

    The uuids are stable so that leases in the ledger still fit after a restart, and well-formed
    so that whatever parses a GPU's uuid accepts them.
    """

    def __init__(self, count: int) -> None:
        if count < 0:
            raise ValueError(f"a count of GPUs cannot be negative: {count}")
        self._gpus = tuple(
            Gpu(
                uuid=f"GPU-00000000-51ab-4000-8000-{index:012d}",
                index=index,
                name="Simulated GPU",
                memory_bytes=MEMORY_BYTES,
                pci_bus_id=f"{index:08X}:00:00.0",
            )
            for index in range(count)
        )

    async def health(self, let_go: Collection[str] = ()) -> GpuHealth:
        """The simulated GPUs, by index; there is never anything wrong with them."""
        return GpuHealth(self._gpus)

    async def errors(self) -> tuple[GpuError, ...]:
        """Never any."""
        return await _never()

    async def describe(self) -> str:
        """One line for people, which says that nothing of this is real."""
        count = len(self._gpus)
        return f"{count} simulated GPU{'' if count == 1 else 's'} (no real device behind them)"

    async def close(self) -> None:
        """There is nothing to let go of."""


class NoGpus:
    """DeviceProbe of a service that was told to lend none (`--gpus none`)."""

    async def health(self, let_go: Collection[str] = ()) -> GpuHealth:
        """Never any GPU."""
        return GpuHealth()

    async def errors(self) -> tuple[GpuError, ...]:
        """Never any."""
        return await _never()

    async def describe(self) -> str:
        """One line for people, which names the switch."""
        return "GPUs are switched off (--gpus none)"

    async def close(self) -> None:
        """There is nothing to let go of."""


async def _never() -> tuple[GpuError, ...]:
    """Wait until cancelled."""
    await asyncio.Event().wait()
    return ()
