"""The port `RefusalLog` in memory: complete, and out of reach on demand."""

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from service.audit_ports import Noted, NotedEntry, decode_noted
from service.errors import LedgerDamaged, LedgerUnavailable
from service.ports import Entry, StoredEntry


class MemoryRefusals:
    """Keeps so many of each known caller, and of all who are not known."""

    def __init__(self, per_caller_max: int = 50_000) -> None:
        self._per_caller_max = per_caller_max
        self.entries: list[StoredEntry] = []
        self._count: Counter[str] = Counter()
        self._number = 0
        self.asked = 0
        """So often it was asked to do something."""
        self.away = ""
        """Why it does not answer."""
        self.takes: int | None = None
        """So many more it takes, and does not answer the one after them."""

    @property
    def noted(self) -> list[Noted]:
        """All that is kept, in order, without its place in the chain."""
        return [bare(decode_noted(entry.body)) for entry in self.entries]

    async def append(self, entries: Sequence[Entry], last_number: int) -> int:
        """As the port says."""
        self._require()
        if last_number != self._number:
            raise LedgerUnavailable(f"the last one is {self._number}")
        for one in entries:
            if self.takes is not None:
                if not self.takes:
                    self.takes = None
                    raise LedgerUnavailable("no answer")
                self.takes -= 1
            self._number += 1
            self.entries.append(StoredEntry(self._number, one.subject, one.message_id, one.body))
            self._push_out(one.subject)
        return self._number

    async def ends(self) -> tuple[int, Sequence[StoredEntry]]:
        """As the port says."""
        self._require()
        return self._number, list({entry.subject: entry for entry in self.entries}.values())

    async def before(self, number: int | None, limit: int) -> Sequence[NotedEntry]:
        """As the port says."""
        self._require()
        older = [one for one in self.entries if number is None or one.seq < number]
        return [NotedEntry(one.seq, _noted(one)) for one in older[::-1][:limit]]

    async def after(self, number: int, limit: int) -> Sequence[StoredEntry]:
        """As the port says."""
        self._require()
        return [one for one in self.entries if one.seq > number][:limit]

    def _push_out(self, subject: str) -> None:
        self._count[subject] += 1
        if self._count[subject] > self._per_caller_max:
            self._count[subject] -= 1
            same = (entry for entry in self.entries if entry.subject == subject)
            self.entries.remove(next(same))

    def _require(self) -> None:
        self.asked += 1
        if self.away:
            raise LedgerUnavailable(self.away)


def bare(noted: Noted) -> Noted:
    """What was noted, without its place in the chain."""
    return replace(noted, place=0, prevhash="", prev_us=0)


def _noted(entry: StoredEntry) -> Noted:
    try:
        return decode_noted(entry.body)
    except msgspec.DecodeError as error:
        raise LedgerDamaged(str(error)) from error
