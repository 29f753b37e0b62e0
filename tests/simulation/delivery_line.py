"""The file of deliveries in a simulation: in memory, cut off with the service, full at times."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import TypeVar

from events.messages import Place
from service.errors import DeliveriesUnavailable
from service.webhook_ports import Attempt, Standing
from tests.kit.virtual_time import VirtualClock
from tests.kit.webhook_rig import InlineDeliveries
from tests.simulation.line import Line
from tests.simulation.receivers import Abroad, Happened, Noted, TakenUp

T = TypeVar("T")

FILE_DELAYS_S = (0.0, 0.0, 0.0005, 0.02)
"""So long the thread takes that has the file, and its answer."""

FULL_OF_FAULTS = 0.1
"""So many of the calls that could go wrong find the disk full."""

_WRITES: ContextVar[Happened | None] = ContextVar("writes", default=None)
"""What is being written, to be told as soon as it is."""


class OpenFile(InlineDeliveries):
    """What is in the file, read at once: meanwhile nothing happens."""

    def __init__(self, abroad: Abroad) -> None:
        super().__init__()
        self._abroad = abroad
        self._open = abroad.db

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return work()

    def _connect(self) -> sqlite3.Connection:
        if self._abroad.db is None:
            self._abroad.db = super()._connect()
        return self._abroad.db

    def _close(self) -> None:
        self._open = None


class LineDeliveries(OpenFile):
    """The port `Deliveries` of one life, on the file that outlives it."""

    def __init__(self, line: Line, abroad: Abroad) -> None:
        super().__init__(abroad)
        self._line = line
        self._turn = asyncio.Lock()

    async def note(
        self, webhook: str, attempt: Attempt, due_us: int, place: Place | None
    ) -> Standing:
        """As the port says."""
        written = _WRITES.set(Noted(self._line.life, webhook, attempt.id))
        self._line.met[f"webhook: {attempt.outcome}"] += 1
        try:
            return await super().note(webhook, attempt, due_us, place)
        finally:
            _WRITES.reset(written)

    async def note_ping(
        self, webhook: str, registered_seq: int, attempt: Attempt
    ) -> Standing | None:
        """As the port says."""
        written = _WRITES.set(Noted(self._line.life, webhook, attempt.id))
        try:
            return await super().note_ping(webhook, registered_seq, attempt)
        finally:
            _WRITES.reset(written)

    async def revive(
        self, webhook: str, ids: Collection[str], now_us: int
    ) -> tuple[int, Standing | None]:
        """As the port says."""
        written = _WRITES.set(TakenUp(webhook, tuple(ids), True, now_us))
        try:
            return await super().revive(webhook, ids, now_us)
        finally:
            _WRITES.reset(written)

    async def discard(
        self, webhook: str, ids: Collection[str]
    ) -> tuple[int, Standing | None]:
        """As the port says."""
        now_us = VirtualClock().now_us()
        written = _WRITES.set(TakenUp(webhook, tuple(ids), False, now_us))
        try:
            return await super().discard(webhook, ids)
        finally:
            _WRITES.reset(written)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._turn:
            await asyncio.sleep(self._line.rng.choice(FILE_DELAYS_S))
            await self._line.if_alive()
            if self._line.is_bad() and self._line.rng.random() < FULL_OF_FAULTS:
                self._line.met["webhook: disk full"] += 1
                raise DeliveriesUnavailable("the disk is full")
            done = work()
            if (written := _WRITES.get()) is not None and done is not None:
                self._abroad.happened.append(written)
            await asyncio.sleep(self._line.rng.choice(FILE_DELAYS_S))
            await self._line.if_alive()
            return done
