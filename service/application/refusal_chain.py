"""What the next refusal of each caller bears, and what of them is signed.

What is signed is what was written here, behind what was signed before; so a log of refusals that
is changed afterwards is found by whoever verifies it. What was there before the service began is
compared with the newest checkpoint: where it is not that, it goes on, and the checkpoint's word
stands.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from events.codec import hash_of
from service.application.refusal_check import RefusalCheck, RefusalsBroken, named
from service.audit_ports import (
    KEPT,
    Checkpoint,
    Noted,
    RefusalHead,
    RefusalLog,
    caller_of,
    decode_noted,
    entry_of,
    name_of,
)
from service.errors import AuditError, LedgerDamaged
from service.ports import Entry, StoredEntry

READ_ENTRIES = 500
"""At a stretch: some 10 ms."""

log = logging.getLogger(__name__)


class _Head(Struct, frozen=True):
    """The last one of a caller."""

    place: int
    hash: str
    at_us: int


class RefusalChain:
    """Writes refusals as chains, and says where they end."""

    def __init__(
        self, kept: RefusalLog, newest: Callable[[], Awaitable[Checkpoint | None]]
    ) -> None:
        """`newest` is the last checkpoint that was signed; it raises AuditError."""
        self._kept = kept
        self._newest = newest
        self._one_at_a_time = asyncio.Lock()
        self._heads: dict[str, _Head] = {}
        self._number: int | None = None
        """Of the last one; None while it is not known where the chains end."""
        self._sure: int | None = None
        """Up to this number all is known to have been stored; None before the first look."""
        self._stored: set[str] = set()
        """The names of those behind it that are stored, though nobody confirmed it."""
        self._vouched: dict[str, RefusalHead] = {}
        """What a checkpoint says of callers of whom the log says something else."""
        self.trouble: str | None = None
        """What is not as it was signed, for people."""

    async def keep(self, noted: Sequence[Noted]) -> None:
        """Keep them, in order. When it raises LedgerUnavailable some may be kept: hand them in
        again, and those are passed over."""
        async with self._one_at_a_time:
            await self._open()
            assert self._number is not None
            heads, entries = dict(self._heads), []
            for one in noted:
                if name_of(one) not in self._stored:
                    entry, heads[caller_of(one)] = _following(one, heads.get(caller_of(one)))
                    entries.append(entry)
            number, self._number = self._number, None
            if entries:
                number = await self._kept.append(entries, number)
            self._heads, self._number, self._sure = heads, number, number
            self._stored.clear()

    async def heads(self, now_us: int) -> tuple[RefusalHead, ...]:
        """What is to be signed. Raises LedgerUnavailable."""
        async with self._one_at_a_time:
            await self._open()
        own = {
            caller: RefusalHead(caller, head.place, head.hash, head.at_us)
            for caller, head in self._heads.items()
            if head.place
        }
        found = {**own, **self._vouched}
        least_us = now_us - KEPT.age_us
        return tuple(found[caller] for caller in sorted(found) if found[caller].at_us > least_us)

    async def between(self, first: int, last: int, now_us: int) -> tuple[RefusalHead, ...]:
        """What is to be signed of the refusals with these numbers alone, having seen that what
        follows them leads to what was written last.

        Raises LedgerDamaged when it does not, and LedgerUnavailable.
        """
        if last < first:
            return ()
        check, found, number = RefusalCheck((), now_us, part=True), None, first - 1
        try:
            while entries := await self._kept.after(number, READ_ENTRIES):
                for entry in entries:
                    if found is None and entry.seq > last:
                        found = check.heads()
                    check.take(entry)
                number = entries[-1].seq
        except RefusalsBroken as broken:
            raise LedgerDamaged(f"refusals are not as they were written: {broken}") from broken
        ends = {head.caller: head.hash for head in check.heads()}
        for head in await self.heads(now_us):
            if head.caller in ends and ends[head.caller] != head.hash:
                raise LedgerDamaged(
                    f"the refusals of {named(head.caller)} do not lead to the last one of"
                    f" them, {head.last}"
                )
        return check.heads() if found is None else found

    async def _open(self) -> None:
        """Learn where the chains end, where that is not known. Raises LedgerUnavailable."""
        if self._number is not None:
            return
        number, newest = await self._kept.ends()
        if self._sure is None:
            self._sure = number
        self._stored = await self._names_after(self._sure)
        self._heads = {}
        for entry in newest:
            caller, head = _head_of(entry)
            self._heads[caller] = head
        await self._see_signed()
        self._number = number

    async def _names_after(self, number: int) -> set[str]:
        found: set[str] = set()
        while entries := await self._kept.after(number, READ_ENTRIES):
            found |= {entry.message_id.rpartition(":")[0] for entry in entries}
            number = entries[-1].seq
        return found

    async def _see_signed(self) -> None:
        """Hold the ends against the newest checkpoint, and go on from there where it knows more."""
        self._vouched, self.trouble = {}, None
        try:
            checkpoint = await self._newest()
        except AuditError:
            return  # who signs says so
        if checkpoint is None or checkpoint.refusals is UNSET:
            return
        for signed in checkpoint.refusals:
            head = self._heads.get(signed.caller)
            if head is None or head.place < signed.last:
                self._heads[signed.caller] = _Head(signed.last, signed.hash, signed.at_us)
            if head is None or head.place > signed.last:
                continue  # forgotten, perhaps, as it should be; or new
            if (head.place, head.hash) != (signed.last, signed.hash):
                self._vouched[signed.caller] = signed
                self.trouble = (
                    f"refusal {signed.last} of {named(signed.caller)} is not what a checkpoint of"
                    f" {checkpoint.at} vouches for: it was changed, or refusals were taken out"
                )
                log.error("%s", self.trouble)


def _following(noted: Noted, head: _Head | None) -> tuple[Entry, _Head]:
    """It as the next one of its caller."""
    place = 1 if head is None else head.place + 1
    if head is None:
        linked = replace(noted, place=place)
    else:
        linked = replace(noted, place=place, prevhash=head.hash, prev_us=head.at_us)
    entry = entry_of(linked)
    return entry, _Head(place, hash_of(entry.body), noted.at_us)


def _head_of(entry: StoredEntry) -> tuple[str, _Head]:
    digest = hash_of(entry.body)
    caller = entry.subject.rpartition(".")[2] if ".known." in entry.subject else ""
    try:
        noted = decode_noted(entry.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Whoever verifies finds it. What comes now is written to follow it all the same.
        return caller, _Head(0, digest, 0)
    return caller, _Head(noted.place, digest, noted.at_us)


