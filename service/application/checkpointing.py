"""Checkpointing: signs now and then what the ledger holds, and walks the chain on its way there.

What it signs is what it saw to follow from what it signed before: a ledger that was changed in
between is not vouched for, and /readyz says from which record on. With it goes where each caller's
refusals end, by what was written of them; while that is not known, what was signed of them before.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from msgspec import UNSET, UnsetType
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Gauge

from events.chain import ChainBroken, ChainCheck
from events.codec import read_time, show_time
from service.application.refusal_chain import RefusalChain
from service.audit_ports import Checkpoint, CheckpointBook, RefusalHead, Signer
from service.errors import AuditError, LedgerDamaged, LedgerUnavailable, NoSuchPoint
from service.ports import Clock, Ledger, StoredEntry

LOOK_EVERY_S = 5.0
RECORDS = 1_000
"""After so many new records a checkpoint is signed."""
INTERVAL_S = 600.0
"""Or after so long, when there are fewer but some, or new refusals."""
AGAIN_S = 60.0
"""After trouble: what is wrong with a ledger does not mend itself."""
READ_TIMEOUT_S = 50.0
"""The longest way is that of all that was written while nobody signed."""

log = logging.getLogger(__name__)

Heads = tuple[RefusalHead, ...] | UnsetType
"""What a checkpoint says of refusals."""


class Checkpointing:
    """Signs on demand, and in `run` by itself."""

    def __init__(
        self,
        ledger: Ledger,
        book: CheckpointBook,
        refusals: RefusalChain,
        signer: Signer,
        clock: Clock,
        confirmed_seq: Callable[[], int],
        node: str,
        owner: str,
        registry: CollectorRegistry,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._refusals = refusals
        self._clock = clock
        self._confirmed_seq = confirmed_seq
        self._node = node
        self._owner = owner
        self._one_at_a_time = asyncio.Lock()
        self._ask_again_s = 0.0
        """When the log of refusals is asked again, after it did not answer."""
        self._signed = Gauge(
            "gpuledger_audit_checkpoint_seq",
            "Last record that a signed checkpoint vouches for",
            registry=registry,
        )
        self.signer = signer
        self.trouble: str | None = None
        """Why nothing is signed just now, for people; None while all is well."""
        self.broken = False
        """Is it because the ledger is not what was signed before?"""

    async def run(self) -> None:
        """Sign when there is enough that is new, until cancelled."""
        while True:
            try:
                if await self._is_due():
                    await self.sign()
                await self._book.mirror()
                self.trouble, self.broken = None, False
            except (AuditError, LedgerDamaged, LedgerUnavailable) as error:
                if self.trouble is None:
                    log.error("no checkpoint is signed: %s", error)
                self.trouble = str(error)
                self.broken = isinstance(error, LedgerDamaged)
            await self._clock.sleep(AGAIN_S if self.trouble else LOOK_EVERY_S)

    async def sign(
        self, seq: int | None = None, refusals: tuple[int, int] | None = None
    ) -> Checkpoint:
        """A checkpoint of a record; of the last one when none is named. It says where refusals
        end now, or what those from one number to another are.

        One of before the newest checkpoint is walked to the one that follows it. Raises
        LedgerDamaged when the ledger is not what was signed before, NoSuchPoint, AuditError when
        it cannot be kept, and LedgerUnavailable.
        """
        try:
            async with self._one_at_a_time, asyncio.timeout(READ_TIMEOUT_S):
                made = await self._signed_at(seq)
                if refusals is None:
                    return made
                part = await self._refusals.between(*refusals, self._clock.now_us())
                return self._made(made.seq, made.hash, made.count, part)
        except TimeoutError as error:
            raise LedgerUnavailable(f"not read within {READ_TIMEOUT_S:.0f} s") from error

    async def _signed_at(self, seq: int | None) -> Checkpoint:
        end = self._confirmed_seq()
        wanted = end if seq is None else seq
        if not 0 < wanted <= end:
            raise NoSuchPoint(f"is seq {wanted}, and the ledger has 1 to {end}")
        last = await self._book.last()
        self._see_ours(last, end)
        if last is not None and wanted < last.seq:
            following = await self._book.following(wanted) or last
            digest, vouched = await self._walk(wanted, following.seq)
            _see_vouched(following, vouched)
            return self._made(wanted, digest, last.count, UNSET)
        heads = await self._heads(last)
        if last is not None and last.seq == wanted and not _new_refusals(last, heads):
            return last
        begin, digest = await self._walk(last.seq if last else wanted, wanted)
        if last is not None:
            _see_vouched(last, begin)
        made = self._made(wanted, digest, last.count + 1 if last else 1, heads)
        await self._book.add(made)
        self._signed.set(wanted)
        return made

    async def _heads(self, last: Checkpoint | None) -> Heads:
        """What is to be said of refusals; while they are out of reach, what was said last."""
        if self._clock.monotonic_s() >= self._ask_again_s:
            try:
                return await self._refusals.heads(self._clock.now_us())
            except LedgerUnavailable as error:
                log.warning("where refusals end is not known: %s", error)
                self._ask_again_s = self._clock.monotonic_s() + AGAIN_S
        return UNSET if last is None else last.refusals

    async def _is_due(self) -> bool:
        last, end = await self._book.last(), self._confirmed_seq()
        if not end:
            return False
        self._see_ours(last, end)
        if last is None:
            return True
        self._signed.set(last.seq)
        since_us = self._clock.now_us() - (read_time(last.at) or 0)
        if end - last.seq >= RECORDS:
            return True
        # However many are refused, checkpoints grow no faster for it.
        is_new = end > last.seq or _new_refusals(last, await self._heads(last)) > 0
        return is_new and since_us >= INTERVAL_S * 1e6

    def _see_ours(self, last: Checkpoint | None, end: int) -> None:
        if last is None:
            return
        if last.owner != self._owner:
            raise AuditError(
                f"the newest checkpoint is of another installation (owner {last.owner}); move the"
                " file of checkpoints away, and they begin anew"
            )
        if last.seq > end:
            raise LedgerDamaged(
                f"the ledger ends at seq {end}, and a checkpoint of {last.at} vouches for seq"
                f" {last.seq}: records were lost, or this is an older copy"
            )

    async def _walk(self, first_seq: int, until_seq: int) -> tuple[str, str]:
        """The hashes of two records, having seen that all between follow each other."""
        check, first = ChainCheck(first_seq - 1, None), ""
        async with aclosing(self._ledger.read(first_seq - 1, until_seq)) as batches:
            async for batch in batches:
                for entry in batch:
                    _take(check, entry)
                    first = first or check.hash
        return first, check.hash

    def _made(self, seq: int, digest: str, count: int, heads: Heads) -> Checkpoint:
        bare = Checkpoint(
            node=self._node,
            owner=self._owner,
            seq=seq,
            hash=digest,
            at=show_time(self._clock.now_us()),
            count=count,
            key=self.signer.key_id,
            refusals=heads,
        )
        return replace(bare, signature=self.signer.signature(bare.signed_text()))


def _new_refusals(last: Checkpoint, heads: Heads) -> int:
    """How many there are that the newest checkpoint does not vouch for."""
    if heads is UNSET:
        return 0
    signed = {} if last.refusals is UNSET else {one.caller: one.last for one in last.refusals}
    return sum(max(0, one.last - signed.get(one.caller, 0)) for one in heads)


def _see_vouched(checkpoint: Checkpoint, digest: str) -> None:
    if digest != checkpoint.hash:
        raise LedgerDamaged(
            f"seq {checkpoint.seq} is not the record that a checkpoint of {checkpoint.at} vouches"
            " for: it was changed, or one before it was"
        )


def _take(check: ChainCheck, entry: StoredEntry) -> None:
    try:
        check.take(entry.seq, entry.subject, entry.message_id, entry.body)
    except ChainBroken as broken:
        raise LedgerDamaged(f"the chain of the ledger is broken at {broken}") from broken
