"""The port `Ledger` in memory: complete, without real time, and with faults on demand."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Literal

from service.errors import LedgerConflict, LedgerDamaged, LedgerUnavailable
from service.ports import Entry, StoredEntry

Fault = Literal["refused", "lost_reply", "prefix"]
"""How an append goes wrong: "refused" stores nothing, "lost_reply" stores everything, "prefix"
stores the first entries only; all three raise LedgerUnavailable."""

BATCH_MAX = 1000
"""Records that one `read` yields at once, as the real one does."""


class MemoryLedger:
    """A list that behaves as a stream does, for as long as the process lives."""

    def __init__(self) -> None:
        self._entries: list[StoredEntry] = []
        self._seqs: dict[str, int] = {}
        self._grown = asyncio.Event()
        self._faults: list[tuple[Fault, int]] = []

    @property
    def entries(self) -> Sequence[StoredEntry]:
        """All that is stored, in order."""
        return tuple(self._entries)

    def fail_next(self, fault: Fault, stored: int = 0) -> None:
        """Plan a fault for the next append that has none; `stored` says how many entries
        "prefix" stores. Faults queue up, in order."""
        self._faults.append((fault, stored))

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """As the port says, with the planned fault if there is one."""
        assert entries, "an append of nothing has no sequence"
        fault, kept = self._faults.pop(0) if self._faults else (None, 0)
        if fault == "refused":
            raise LedgerUnavailable("planned fault: nothing was stored")
        if fault == "prefix":
            entries = entries[:kept]
        self._store(entries, expected_last_seq)
        if fault is not None:
            raise LedgerUnavailable(f"planned fault: {fault}, {len(entries)} stored")
        return expected_last_seq + len(entries)

    async def read(
        self, after_seq: int, until_seq: int | None = None
    ) -> AsyncGenerator[Sequence[StoredEntry], None]:
        """As the port says."""
        if len(self._entries) < after_seq:
            raise LedgerDamaged(f"seq {len(self._entries) + 1} is missing: {after_seq} was there")
        while until_seq is None or after_seq < until_seq:
            end = min(len(self._entries), after_seq + BATCH_MAX)
            if until_seq is not None:
                end = min(end, until_seq)
            if batch := self._entries[after_seq:end]:
                after_seq = batch[-1].seq
                yield batch
            else:
                await self._grown.wait()

    async def last_seq(self) -> int:
        """As the port says."""
        return len(self._entries)

    async def find(self, message_id: str, after_seq: int) -> int | None:
        """As the port says."""
        seq = self._seqs.get(message_id, 0)
        return seq if seq > after_seq else None

    def _store(self, entries: Sequence[Entry], expected_last_seq: int) -> None:
        if len(self._entries) != expected_last_seq:
            there = self._entries[expected_last_seq : expected_last_seq + len(entries)]
            same = [
                found.message_id == entry.message_id
                for found, entry in zip(there, entries, strict=False)
            ]
            stored = same.index(False) if False in same else len(same)
            if stored == len(entries):
                return
            self._refuse(stored, f"the last sequence is {len(self._entries)}", expected_last_seq)
        for count, entry in enumerate(entries):
            if entry.message_id in self._seqs:
                reason = f"{entry.message_id} is stored as seq {self._seqs[entry.message_id]}"
                self._refuse(count, reason, expected_last_seq)
            seq = len(self._entries) + 1
            self._seqs[entry.message_id] = seq
            self._entries.append(
                StoredEntry(seq, entry.subject, entry.message_id, bytes(entry.body))
            )
        self._grown.set()
        # Whoever waits now is woken; the next to wait waits for the next append.
        self._grown = asyncio.Event()

    def _refuse(self, stored: int, reason: str, expected_last_seq: int) -> None:
        if stored:
            raise LedgerUnavailable(f"{stored} entries stored: {reason}")
        raise LedgerConflict(f"expected {expected_last_seq} as the last sequence: {reason}")
