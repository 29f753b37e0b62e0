"""The port `RefusalLog` in memory: complete, and out of reach on demand."""

from collections import Counter
from collections.abc import Sequence

from service.audit_ports import Noted, NotedEntry, Refusal
from service.errors import LedgerUnavailable


class MemoryRefusals:
    """Keeps so many of each known caller, and of all who are not known."""

    def __init__(self, per_caller_max: int = 50_000) -> None:
        self._per_caller_max = per_caller_max
        self._entries: list[NotedEntry] = []
        self._ids: set[str] = set()
        self._count: Counter[str] = Counter()
        self._number = 0
        self.asked = 0
        """So often it was asked to do something."""
        self.away = ""
        """Why it does not answer."""

    @property
    def noted(self) -> list[Noted]:
        """All that is kept, in order."""
        return [entry.noted for entry in self._entries]

    async def append(self, noted: Sequence[Noted]) -> None:
        """As the port says."""
        self._require()
        for one in noted:
            if isinstance(one, Refusal):
                if one.id in self._ids:
                    continue
                self._ids.add(one.id)
            self._number += 1
            self._entries.append(NotedEntry(self._number, one))
            self._push_out(_caller(one))

    async def before(self, number: int | None, limit: int) -> Sequence[NotedEntry]:
        """As the port says."""
        self._require()
        older = [one for one in self._entries if number is None or one.number < number]
        return older[::-1][:limit]

    def _push_out(self, caller: str) -> None:
        self._count[caller] += 1
        if self._count[caller] > self._per_caller_max:
            self._count[caller] -= 1
            same = (entry for entry in self._entries if _caller(entry.noted) == caller)
            self._entries.remove(next(same))

    def _require(self) -> None:
        self.asked += 1
        if self.away:
            raise LedgerUnavailable(self.away)


def _caller(noted: Noted) -> str:
    return noted.actor if isinstance(noted, Refusal) else ""
