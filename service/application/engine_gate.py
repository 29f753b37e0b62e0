"""EngineGate: no command is accepted while the engine does not answer."""

import asyncio

from service.disk_ports import DiskProbe, SystemDisks
from service.errors import EngineError, EngineUnavailable
from service.ports import Clock, ContainerEngine, EngineInfo

FRESH_S = 1.0
"""An answer of the engine counts for this long, so that a burst of commands asks once."""


class EngineGate:
    """Asks the engine whether it is there, at most once in FRESH_S.

    `info` is what it said of itself when it was reached; asked again after it was away, because
    it may have been restarted as another version or with other GPUs. `disks` is how its
    containers' disks can be carried, found out at the same time.
    """

    def __init__(self, engine: ContainerEngine, disks: SystemDisks, clock: Clock) -> None:
        self._engine = engine
        self._disks = disks
        self._clock = clock
        self.info: EngineInfo | None = None
        self.disks: DiskProbe | None = None
        self._answered_at_s: float | None = None
        self._asking = asyncio.Lock()

    async def require(self) -> None:
        """Return when the engine is there. Raises EngineUnavailable."""
        if self._is_fresh():
            return
        async with self._asking:
            if self._is_fresh():
                return
            self._answered_at_s = None
            try:
                await self._engine.ping()
                if self.info is None:
                    info = await self._engine.info()
                    self.disks = await self._disks.probe()
                    self.info = info
            except EngineError as error:
                self.info = None
                raise EngineUnavailable(
                    f"Docker does not answer, so nothing was begun: {error}"
                ) from error
            self._answered_at_s = self._clock.monotonic_s()

    def _is_fresh(self) -> bool:
        at = self._answered_at_s
        return at is not None and self._clock.monotonic_s() - at < FRESH_S
