"""Explanations: the records behind an answer are found by the rows, and read from the ledger.

    the state of the point ─▶ facts ─▶ their records ─▶ what these came from ─▶ a chain

An answer costs some dozens of records, however long the log is: SCANNED_MAX of a name are looked
at, the newest first, and what is known by its instant is found by that.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from projections.historic import HistoricReads
from projections.state import Operation
from service.application.past import READ_TIMEOUT_S, Past
from service.application.stored_records import ReadBetween, StoredRecords
from service.application.subjects import Bounds, Subject, subject_of
from service.domain.explaining import (
    Address,
    Aspect,
    Explanation,
    Fact,
    Source,
    SubjectKind,
    Told,
    with_places,
)
from service.domain.explaining_aspects import Search, came_from, concerns, settled_by
from service.domain.explaining_links import links
from service.domain.explaining_places import grounds, is_choice
from service.domain.explaining_refusals import Refused, standing_against
from service.errors import LedgerUnavailable

SCANNED_MAX = 512
"""So many records of a name are looked at for what it is so by."""

PAGE_RECORDS = 8
"""Read at the first go; each is twice the one before, as mostly the newest tell."""

CAUSES_MAX = 16
"""So many records are added to a chain for what others came from."""

CAUSE_RECORDS_MAX = 32
"""So many records at a go are looked at for a cause, at last; twice as many in all."""

PLACED_MAX = 2
"""Of so many choices of GPUs and ports it is told what they were made from, the newest: each
takes a state of the past."""

SAME_INSTANT_MAX = 256
REST_SCANNED_MAX = 100_000
"""A port rests for minutes: the record that says so is among so many."""


class Rows(Protocol):
    """What is asked of the read store. Raises ReadStoreError."""

    async def records_about(
        self,
        addresses: Sequence[Address],
        before_seq: int,
        limit: int,
        *,
        settling: bool = False,
    ) -> list[int]: ...

    async def records_at(
        self, address: Address, at_us: int, until_seq: int, limit: int
    ) -> list[int]: ...

    async def records_between_at(
        self, after_seq: int, until_seq: int, at_us: int
    ) -> list[int]: ...

    async def records_of(
        self, operation_id: str, first_seq: int, until_seq: int, limit: int
    ) -> list[int]: ...


class Explainer:
    """Says why it is so at any point up to now. It reads, and nothing else.

    All of it raises LedgerUnavailable, ServiceBusy and ReadStoreError.
    """

    def __init__(
        self, past: Past, rows: Rows, read: ReadBetween, port_first: int, port_last: int
    ) -> None:
        self._past = past
        self._rows = rows
        self._read = read
        self._ports = port_first, port_last

    async def explain(
        self, kind: SubjectKind, name: str, seq: int, limit: int, *, everything: bool = False
    ) -> Explanation | None:
        """Why it was so at `seq`, which must be in the rows; None when there was no such thing.

        A replica set's name may have a version behind an @; a GPU is named by UUID or index, a
        record by its sequence. With `everything` the chain is the whole history, the newest
        `limit` of it; without, only what still matters. Of an operation it is all that was done.
        """
        async with _patience():
            reads, records = await self._past.reads_at(seq), StoredRecords(self._read)
            bounds = Bounds(everything, await self._past.instant_of(seq), *self._ports)
            subject = await subject_of(kind, name, reads, records, bounds)
            if subject is None:
                return None
            story = _Story(self._past, self._rows, records, reads)
            if everything or subject.operation is not None:
                await story.take_all(subject, limit)
            # Who uses a volume is told, but not why they have their GPUs.
            places = subject.kind != "volume"
            uuid = subject.name if subject.kind == "gpu" else ""
            return await story.told(subject.facts, subject.addresses, places=places, uuid=uuid)

    async def refusal(self, refused: Refused, seq: int) -> Explanation:
        """What stood against a command at `seq`, where it was refused, and by which records."""
        async with _patience():
            reads = await self._past.reads_at(seq)
            facts = standing_against(reads.state, refused)
            addresses = ("replica_set", refused.name), ("volume", refused.name)
            story = _Story(self._past, self._rows, StoredRecords(self._read), reads)
            return await story.told(facts, addresses, places=False)


@asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    """Raises LedgerUnavailable where it takes too long."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            yield
    except TimeoutError as error:
        raise LedgerUnavailable("the records could not be read") from error


class _Story:
    """One explanation while it is being made."""

    def __init__(
        self, past: Past, rows: Rows, records: StoredRecords, reads: HistoricReads
    ) -> None:
        self._past = past
        self._rows = rows
        self._records = records
        self._reads = reads
        self._seq = reads.state.seq
        self._chain: dict[int, Told] = {}
        self._operations: dict[str, Operation] = {}
        self._causes: dict[int, int] = {}
        self._older = False

    async def told(
        self,
        facts: tuple[Fact, ...],
        addresses: Sequence[Address],
        *,
        places: bool,
        uuid: str = "",
    ) -> Explanation:
        """The facts with their records, and the chain of these and of what they came from; with
        `places` it says what choices among the facts were made from."""
        search = Search(fact.source for fact in facts if isinstance(fact.source, tuple))
        await self._scan(addresses, search)
        answer = with_places(facts, await self._found(facts, self._seq, search))
        cited = {fact.seq for fact in answer if fact.seq is not None}
        await self._take(cited)
        await self._add_causes()
        placed = await self._placed(cited) if places else {}
        found = list(self._chain.values())
        chain = links(found, self._reads.state, self._operations, self._causes, placed, uuid)
        return Explanation(answer, chain, self._older)

    # -- the records ---------------------------------------------------------------------------

    async def take_all(self, subject: Subject, limit: int) -> None:
        """Take the newest of all that there is of a thing, and know whether there is more."""
        if (operation := subject.operation) is not None:
            until = min(operation.finished_seq or self._seq, self._seq)
            seqs = await self._rows.records_of(operation.id, operation.seq, until, limit + 1)
        else:
            seqs = await self._rows.records_about(subject.addresses, self._seq + 1, limit + 1)
        self._older = len(seqs) > limit
        for told in await self._records.told(seqs[:limit]):
            if concerns(told.record, subject.kind, subject.name, subject.number):
                self._chain[told.seq] = told
        for source in subject.had[:limit]:
            if (seq := await self._place_of(source, self._seq)) is not None:
                await self._take([seq])

    async def _scan(self, addresses: Sequence[Address], search: Search) -> None:
        """Look for what it is so by among the newest of a name, some more at each go."""
        before, left, page = self._seq + 1, SCANNED_MAX, PAGE_RECORDS
        while left > 0 and not search.is_over:
            seqs = await self._rows.records_about(
                addresses, before, min(page, left), settling=True
            )
            for told in await self._records.told(seqs):
                search.look(told)
            if len(seqs) < min(page, left):
                return
            before, left, page = seqs[-1], left - len(seqs), 2 * page
        self._older = self._older or not search.is_over

    async def _take(self, seqs: Iterable[int]) -> None:
        for told in await self._records.told(sorted(seqs)):
            self._chain[told.seq] = told

    # -- what facts are from -------------------------------------------------------------------

    async def _found(
        self, facts: Iterable[Fact], until_seq: int, search: Search
    ) -> dict[Aspect | Source, int]:
        """The places of the records that facts name by what they say, as far as they are found."""
        places = dict(search.places)
        for source in {fact.source for fact in facts if isinstance(fact.source, Source)}:
            if (seq := await self._place_of(source, until_seq)) is not None:
                places[source] = seq
        return places

    async def _place_of(self, source: Source, until_seq: int) -> int | None:
        seqs: list[int] = []
        for address in source.addresses:
            seqs += await self._rows.records_at(
                address, source.at_us, until_seq, SAME_INSTANT_MAX
            )
        if not source.addresses:
            after = max(0, until_seq - REST_SCANNED_MAX)
            seqs = await self._rows.records_between_at(after, until_seq, source.at_us)
        for seq in sorted(seqs, reverse=True):
            if source.is_in((await self._records.one(seq)).record):
                return seq
        return None

    # -- what records came from ----------------------------------------------------------------

    async def _add_causes(self) -> None:
        """Take what the records came from, and what that came from."""
        waiting, left = sorted(self._chain.values(), key=_by_seq), CAUSES_MAX
        while waiting:
            seq = await self._cause_of(waiting.pop())
            if seq is not None and seq not in self._chain and left:
                left -= 1
                await self._take([seq])
                waiting.append(self._chain[seq])

    async def _cause_of(self, told: Told) -> int | None:
        """The record that accepted its operation, else the one that it came from by itself."""
        operation = await self._operation(told.record.operation_id)
        if operation is not None and operation.seq != told.seq:
            return operation.seq
        aspects = came_from(told.record)
        address = (told.record.kind, told.record.name)
        before, page = told.seq, PAGE_RECORDS
        while aspects and page <= CAUSE_RECORDS_MAX:
            seqs = await self._rows.records_about((address,), before, page, settling=True)
            for older in await self._records.told(seqs):
                if settled_by(older.record) & aspects:
                    self._causes[told.seq] = older.seq
                    return older.seq
            if len(seqs) < page:
                break
            before, page = seqs[-1], 2 * page
        return None

    async def _operation(self, operation_id: str) -> Operation | None:
        if operation_id and operation_id not in self._operations:
            found = await self._reads.operation(operation_id)
            if found is not None:
                self._operations[operation_id] = found
        return self._operations.get(operation_id)

    # -- what choices were made from -----------------------------------------------------------

    async def _placed(self, cited: Collection[int]) -> dict[int, Sequence[Fact]]:
        """By the sequence of a choice: what it was made from."""
        choices = [self._chain[seq] for seq in cited if is_choice(self._chain[seq].record)]
        placed: dict[int, Sequence[Fact]] = {}
        for told in sorted(choices, key=_by_seq)[-PLACED_MAX:]:
            before = await self._past.reads_at(told.seq - 1)
            facts = grounds(before.state, told.record)
            found = await self._found(facts, told.seq - 1, Search(()))
            placed[told.seq] = with_places(facts, found)
        return placed


def _by_seq(told: Told) -> int:
    return told.seq
