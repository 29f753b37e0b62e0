"""What goes wrong in a double, and when."""

import asyncio
from collections.abc import Sequence

from service.ports import Entry
from tests.kit.memory_ledger import MemoryLedger


class FirstCalls:
    """A fault plan: the first `count` calls of a verb go wrong in one way."""

    def __init__(self, verb: str, fault: str, count: int = 1) -> None:
        self._verb, self._fault, self.left = verb, fault, count

    def __call__(self, verb: str, _name: str) -> str | None:
        if verb != self._verb or not self.left:
            return None
        self.left -= 1
        return self._fault


class HaltingLedger(MemoryLedger):
    """After the record at `last` it takes no more; `reached` says so."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last = last
        self.reached = asyncio.Event()

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        if expected_last_seq + len(entries) > self.last:
            self.reached.set()
            await asyncio.get_running_loop().create_future()
        return await super().append(entries, expected_last_seq)
