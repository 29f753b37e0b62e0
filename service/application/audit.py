"""Audit: who did what to what, from where, with what result; the refused among them.

Rows come newest first from three sources, each at a place of its own: operations and the acts of
the service itself, by the record, and refusals, by their number. They are put together by the
record of the ledger that each belongs to, so that no clock decides the order.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Literal, Protocol

from msgspec import Struct

from projections.queries import SEQ_MAX, OwnAct
from projections.state import Operation
from service.application.checkpointing import Checkpointing
from service.audit_ports import NotedEntry, Refusal, RefusalLog
from service.errors import LedgerUnavailable
from service.ports import Ledger, StoredEntry

Result = Literal["accepted", "succeeded", "failed", "refused"]

CHUNK = 250
READ_TIMEOUT_S = 30.0
EXAMINED_MAX = 5_000
"""Rows that are looked at for one page: with a narrow filter a page may be short, or empty."""

REFUSALS_SEARCHED_MAX = 20_000
"""So many are looked at for one by its id, the newest first."""


class AuditRow(Struct, frozen=True):
    """One command of a caller, one refusal, or one act of the service itself."""

    seq: int
    """Its record; of a refusal the last record that there was by then."""
    at_us: int
    result: Result
    actor: str = ""
    tenant: str = ""
    remote: str = ""
    kind: str = ""
    name: str = ""
    verb: str = ""
    operation_id: str = ""
    finished_us: int | None = None
    finished_seq: int | None = None
    reason: str = ""
    message: str = ""
    refusal: Refusal | None = None
    number: int | None = None
    """Of a refusal, among those that are kept."""
    times: int = 1
    """It stands for so many that were alike."""


_Keyed = tuple[int, AuditRow]
"""A row and its place in its source: the sequence of its record, or the number of a refusal."""


class Wanted(Struct, frozen=True):
    """Which rows. What is None or empty does not matter."""

    first_seq: int = 0
    last_seq: int = SEQ_MAX
    from_us: int | None = None
    until_us: int | None = None
    """With instants a refusal is taken by its own time: it has no record of its own."""
    actor: str = ""
    tenant: str = ""
    name: str = ""
    verb: str = ""
    result: Result | None = None
    own: bool = False
    """Also what the service did of its own accord."""

    def takes(self, row: AuditRow) -> bool:
        """Is it one of them?"""
        pairs = (
            (self.actor, row.actor),
            (self.tenant, row.tenant),
            (self.name, row.name),
            (self.verb, row.verb),
            (self.result, row.result),
        )
        within = self._has_refused(row) if row.result == "refused" else self._has(row)
        return within and all(not wanted or wanted == is_so for wanted, is_so in pairs)

    @property
    def least_seq(self) -> int:
        """Nothing that is wanted has a smaller one."""
        return self.first_seq if self.from_us is None else self.first_seq - 1

    def _has(self, row: AuditRow) -> bool:
        return self.first_seq <= row.seq <= self.last_seq

    def _has_refused(self, row: AuditRow) -> bool:
        early = self.from_us is not None and row.at_us < self.from_us
        late = self.until_us is not None and row.at_us > self.until_us
        return self.least_seq <= row.seq <= self.last_seq and not early and not late


class Place(Struct, frozen=True):
    """Where a page goes on: below a record, and below the number of a refusal."""

    seq: int = SEQ_MAX
    number: int = SEQ_MAX


class Page(Struct, frozen=True):
    """Rows, newest first, and where those before them begin; None at the end."""

    rows: Sequence[AuditRow]
    following: Place | None


class AuditReads(Protocol):
    """What is asked of the read store. Raises ReadStoreError."""

    async def operations(
        self, limit: int, before_seq: int | None = None, name: str | None = None
    ) -> Sequence[Operation]: ...

    async def own_acts(self, limit: int, before_seq: int) -> Sequence[OwnAct]:
        """The newest records that no caller's command led to, those before a sequence."""
        ...


class Audit:
    """Answers from the rows of the read store, the log of refusals, and the ledger itself."""

    def __init__(
        self, reads: AuditReads, refusals: RefusalLog, ledger: Ledger, signing: Checkpointing
    ) -> None:
        self._reads = reads
        self._refusals = refusals
        self._ledger = ledger
        self.signing = signing

    async def records(self, after_seq: int, until_seq: int) -> Sequence[StoredEntry]:
        """Records as they are stored, from after one up to another, as many as are read at once.

        Raises LedgerUnavailable and LedgerDamaged.
        """
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                async with aclosing(self._ledger.read(after_seq, until_seq)) as batches:
                    async for batch in batches:
                        return batch
        except TimeoutError as error:
            raise LedgerUnavailable(f"record {after_seq + 1} could not be read") from error
        return ()

    async def refusals(self, after: int, limit: int) -> Sequence[StoredEntry]:
        """Refusals as they are stored, from after a number on. Raises LedgerUnavailable."""
        return await self._refusals.after(after, limit)

    async def refusal(self, refusal_id: str) -> Refusal | None:
        """A refusal by its id, if it is among the newest that are kept.

        Raises LedgerUnavailable and LedgerDamaged.
        """
        number: int | None = None
        for _ in range(REFUSALS_SEARCHED_MAX // CHUNK):
            entries = await self._refusals.before(number, CHUNK)
            for entry in entries:
                if isinstance(entry.noted, Refusal) and entry.noted.id == refusal_id:
                    return entry.noted
            if not entries:
                return None
            number = entries[-1].number
        return None

    async def page(self, wanted: Wanted, limit: int, place: Place) -> Page:
        """Up to so many rows from a place on. Raises LedgerUnavailable and ReadStoreError."""
        rows: list[AuditRow] = []
        examined = 0
        async with aclosing(self._merged(wanted, place)) as merged:
            async for row, following in merged:
                if row.seq < wanted.least_seq:
                    return Page(rows, None)
                examined += 1
                if wanted.takes(row):
                    rows.append(row)
                if len(rows) == limit or examined == EXAMINED_MAX:
                    return Page(rows, following)
        return Page(rows, None)

    async def _merged(
        self, wanted: Wanted, place: Place
    ) -> AsyncGenerator[tuple[AuditRow, Place], None]:
        """Every row, newest first, each with the place behind it."""
        begin = min(place.seq, wanted.last_seq + 1)
        sources = [_each(self._noted, place.number)]
        if wanted.result != "refused":
            sources.append(_each(self._operations, begin))
            if wanted.own:
                sources.append(_each(self._own_acts, begin))
        async with AsyncExitStack() as stack:
            heads = []
            for source in sources:
                await stack.enter_async_context(aclosing(source))
                if (head := await anext(source, None)) is not None:
                    heads.append((head, source))
            while heads:
                newest = max(heads, key=lambda one: one[0][1].seq)
                heads.remove(newest)
                (key, row), source = newest
                refused = source is sources[0]
                place = Place(place.seq, key) if refused else Place(key, place.number)
                yield row, place
                if (head := await anext(source, None)) is not None:
                    # First among equals: what was refused after a record is newer than that.
                    heads.insert(0 if refused else len(heads), (head, source))

    async def _operations(self, before: int) -> list[_Keyed]:
        found = await self._reads.operations(CHUNK, before)
        return [(one.seq, _of_operation(one)) for one in found]

    async def _own_acts(self, before: int) -> list[_Keyed]:
        found = await self._reads.own_acts(CHUNK, before)
        return [(one.seq, _of_act(one)) for one in found]

    async def _noted(self, before: int) -> list[_Keyed]:
        found = await self._refusals.before(None if before == SEQ_MAX else before, CHUNK)
        return [(one.number, of_refusal(one)) for one in found]


async def _each(
    read: Callable[[int], Awaitable[list[_Keyed]]], before: int
) -> AsyncGenerator[_Keyed, None]:
    """All that there is before a place, read as far as it is asked for."""
    while chunk := await read(before):
        for one in chunk:
            yield one
        before = chunk[-1][0]


def _of_operation(one: Operation) -> AuditRow:
    return AuditRow(
        seq=one.seq,
        at_us=one.accepted_us,
        result="accepted" if one.state == "running" else one.state,
        actor=one.actor,
        tenant=one.tenant,
        remote=one.remote,
        kind=one.kind,
        name=one.name,
        verb=one.verb,
        operation_id=one.id,
        finished_us=one.finished_us,
        finished_seq=one.finished_seq,
        reason=one.reason if one.state == "failed" else "",
        message=one.message if one.state == "failed" else "",
    )


def _of_act(one: OwnAct) -> AuditRow:
    return AuditRow(
        seq=one.seq,
        at_us=one.at_us,
        result="succeeded",
        actor=one.actor,
        kind=one.kind,
        name=one.name,
        verb=one.verb,
    )


def of_refusal(entry: NotedEntry) -> AuditRow:
    """A refusal as a row, or those that are only counted."""
    noted = entry.noted
    if not isinstance(noted, Refusal):
        message = "so many more were refused and are not listed"
        return AuditRow(
            *(noted.seq, noted.at_us, "refused"),
            number=entry.number,
            times=noted.times,
            reason="lost",
            message=message,
        )
    return AuditRow(
        seq=noted.seq,
        at_us=noted.at_us,
        result="refused",
        actor=noted.actor,
        tenant=noted.tenant,
        remote=noted.remote,
        kind=noted.kind,
        name=noted.name,
        verb=noted.verb,
        operation_id=noted.operation_id,
        reason=noted.reason,
        message=noted.message,
        refusal=noted,
        number=entry.number,
        times=noted.times,
    )
