"""The ledger at the end of a line: confirmations lost, late, and appends that arrive twice."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

from service.errors import LedgerConflict, LedgerError, LedgerUnavailable
from service.ports import Entry, StoredEntry
from tests.kit.memory_ledger import Fault, MemoryLedger
from tests.simulation.line import Line, Patience

T = TypeVar("T")

LEDGER_DELAYS_S = (0.0, 0.0002, 0.002, 0.01)
HANGS_S = (1.0, 4.0, 8.0, 20.0)

APPEND_PATIENCE = Patience(5.0, LedgerUnavailable)
ASK_PATIENCE = Patience(2.0, LedgerUnavailable)
"""As long as the adapter waits."""

FAULTS: tuple[Fault, ...] = ("refused", "lost_reply", "prefix")


class LineLedger:
    """The port `Ledger` at the end of a line."""

    def __init__(self, line: Line, ledger: MemoryLedger) -> None:
        self._line = line
        self._ledger = ledger
        self._about = f"ledger, life {line.life}"
        """A life's own connection: what a dead one sent may arrive after what the next sends."""
        self._sent: dict[int, str] = {}
        """Ids of what is not answered yet, by the sequence at which it is to be stored."""

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """As the port says, in any weather."""
        before = self._sent.get(expected_last_seq)
        sent = {n: entry.message_id for n, entry in enumerate(entries, expected_last_seq + 1)}
        self._sent.update(sent)
        try:
            return await self._carry(
                lambda: self._append(entries, expected_last_seq, before), APPEND_PATIENCE
            )
        finally:
            for seq, message_id in sent.items():
                if self._sent.get(seq) == message_id:
                    del self._sent[seq]

    async def _append(
        self, entries: Sequence[Entry], expected_last_seq: int, before: str | None
    ) -> int:
        """It builds on `before`: as the adapter, it expects not just any record there."""
        self._require()
        if before is not None and await self._ledger.find(before, 0) != expected_last_seq:
            raise LedgerConflict(f"the record before it is not {before}")
        if not self._line.is_bad():
            return await self._ledger.append(entries, expected_last_seq)
        if self._line.rng.randrange(len(FAULTS) + 1) == 0:
            self._line.met["ledger: append twice"] += 1
            return await self._twice(entries, expected_last_seq)
        fault = self._line.rng.choice(FAULTS)
        self._line.met[f"ledger: append {fault}"] += 1
        self._ledger.fail_next(fault, self._line.rng.randrange(len(entries) + 1))
        return await self._ledger.append(entries, expected_last_seq)

    async def _twice(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """The client sent it again, as it heard nothing: at once, or when others came between."""
        answer = await self._ledger.append(entries, expected_last_seq)
        if self._line.rng.random() < 0.5:
            return await self._ledger.append(entries, expected_last_seq)
        await asyncio.sleep(self._line.rng.choice(LEDGER_DELAYS_S))
        with suppress(LedgerError):
            await self._ledger.append(entries, expected_last_seq)
        return answer

    async def read(
        self, after_seq: int, until_seq: int | None = None
    ) -> AsyncGenerator[Sequence[StoredEntry], None]:
        """As the port says: it rides out every interruption."""
        async with aclosing(self._ledger.read(after_seq, until_seq)) as batches:
            async for batch in batches:
                left_s = self._hangs_until_s() - asyncio.get_running_loop().time()
                await asyncio.sleep(max(left_s, self._line.rng.choice(LEDGER_DELAYS_S)))
                yield batch

    async def last_seq(self) -> int:
        """As the port says, in any weather."""

        async def ask() -> int:
            self._require()
            return await self._ledger.last_seq()

        return await self._carry(ask, ASK_PATIENCE)

    async def find(self, message_id: str, after_seq: int) -> int | None:
        """As the port says, in any weather."""

        async def find() -> int | None:
            self._require()
            return await self._ledger.find(message_id, after_seq)

        return await self._carry(find, ASK_PATIENCE)

    async def _carry(self, do: Callable[[], Awaitable[T]], patience: Patience) -> T:
        hangs_s = self._line.hang_s(self._hangs_until_s(), HANGS_S, "ledger")
        return await self._line.carry(
            LEDGER_DELAYS_S, do, about=self._about, hangs_s=hangs_s, patience=patience
        )

    def _hangs_until_s(self) -> float:
        return self._line.weather.ledger_hangs_until_s

    def _require(self) -> None:
        if self._line.weather.ledger_down:
            self._line.met["ledger out of reach"] += 1
            raise LedgerUnavailable("the ledger is out of reach")
