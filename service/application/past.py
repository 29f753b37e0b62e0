"""The past: points of the ledger, and what was to be read at them."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Protocol

from events.codec import show_time
from projections.historic import EndedOperations, HistoricReads
from projections.instants import Instants, Times
from projections.timeline import Timeline, TimelineBehind
from service.domain.between import StateChanges, changes_between
from service.errors import LedgerUnavailable, NoSuchPoint, ServiceBusy
from service.ports import Clock

READ_TIMEOUT_S = 30.0
"""A ledger that is out of reach is waited for so long."""

POINT_PATTERN = (
    "^([0-9]{1,18}"
    "|[0-9]{4}-[0-1][0-9]-[0-3][0-9]"
    "([Tt ][0-2][0-9]:[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?([Zz]|[+-][0-2][0-9]:[0-5][0-9]))?)$"
)
"""What a point looks like, in JSON Schema's words: a sequence, an instant of RFC 3339, or a day,
which is its begin in UTC."""

_POINT = re.compile(POINT_PATTERN)
_DAY_LENGTH = len("2026-01-02")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = (
    "write a seq such as 4711, an instant such as 2026-01-02T03:04:05Z, or a day such as"
    " 2026-01-02, in UTC (in a URL the + of an offset is %2B)"
)


class Folded(Protocol):
    """How far the rows are."""

    @property
    def stored_seq(self) -> int:
        """The last record that is in the rows."""
        ...


class Rows(EndedOperations, Times, Protocol):
    """What is asked of the read store."""


class Past:
    """Reads of any point up to now. All of it raises LedgerUnavailable and ReadStoreError."""

    def __init__(self, timeline: Timeline, rows: Rows, folded: Folded, clock: Clock) -> None:
        self._timeline = timeline
        self._rows = rows
        self._folded = folded
        self._clock = clock
        self._instants = Instants(rows)

    @property
    def last_seq(self) -> int:
        """Now: the last record that can be read."""
        return self._folded.stored_seq

    async def point(self, text: str) -> int:
        """The sequence that a seq or an instant means. Raises NoSuchPoint."""
        last = self.last_seq
        if not _POINT.fullmatch(text):
            raise NoSuchPoint(f"is no point of the ledger: {_FORM}")
        if text.isdecimal():
            if int(text) > last:
                raise NoSuchPoint(f"is seq {int(text)}, and the ledger ends at {last}")
            return int(text)
        at_us, now_us = _instant_us(text), self._clock.now_us()
        if at_us > now_us:
            raise NoSuchPoint(f"is in the future: it is {show_time(now_us)}")
        return await self._instants.seq_at(at_us, last)

    async def instant_of(self, seq: int) -> int:
        """Until when it was as it is at a point: now, or the time of the point's record."""
        if seq >= self.last_seq:
            return self._clock.now_us()
        return max(await self._rows.latest_times(seq - 1, seq, 1), default=0)

    def instant(self, text: str) -> int | None:
        """The microseconds of an instant that is a point; None of a seq. Raises NoSuchPoint."""
        return None if text.isdecimal() else _instant_us(text)

    async def reads_at(self, seq: int) -> HistoricReads:
        """What was to be read at a point. Raises ServiceBusy while the way back is being made."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return HistoricReads(await self._timeline.state_at(seq), self._rows)
        except TimelineBehind as error:
            raise ServiceBusy(str(error)) from error
        except TimeoutError as error:
            raise LedgerUnavailable(f"record {seq} could not be read") from error

    async def changes(self, old_seq: int, new_seq: int) -> StateChanges:
        """What is other at one point than at another. Raises as `reads_at`."""
        old, new = await self.reads_at(old_seq), await self.reads_at(new_seq)
        # In a thread: with ten thousand names it takes longer than others should wait.
        return await asyncio.to_thread(changes_between, old.state, new.state)


def _instant_us(text: str) -> int:
    """Microseconds since the epoch. Raises NoSuchPoint of a day that there is not."""
    if len(text) == _DAY_LENGTH:
        text = f"{text}T00:00:00Z"
    try:
        since = datetime.fromisoformat(text.upper().replace(" ", "T")) - _EPOCH
    except (ValueError, OverflowError) as error:
        raise NoSuchPoint(f"is no instant ({error}): {_FORM}") from error
    return since // timedelta(microseconds=1)
