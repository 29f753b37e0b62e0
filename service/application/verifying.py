"""Verifying: whether records and refusals are the chains that were written, and what signed
checkpoints say."""

from collections.abc import AsyncIterator, Callable, Sequence

from events.chain import ChainBroken, ChainCheck
from events.codec import CloudEvent
from events.resources import NodeRegistered
from service.application.refusal_check import RefusalCheck, RefusalsBroken
from service.audit_ports import Checkpoint, Fault, Noted, RefusalsVerified, Verified
from service.errors import LedgerDamaged
from service.ports import StoredEntry


async def verify_refusals(
    batches: AsyncIterator[Sequence[StoredEntry]],
    check: RefusalCheck,
    also: Callable[[int, Noted], None] = lambda number, noted: None,
) -> RefusalsVerified:
    """Walk all refusals. `also` is told every one that fits. Raises LedgerUnavailable."""
    try:
        async for batch in batches:
            for entry in batch:
                also(entry.seq, check.take(entry))
        check.end()
    except RefusalsBroken as broken:
        return check.found(str(broken))
    except LedgerDamaged as damaged:
        return check.found(str(damaged))
    return check.found()


async def verify(
    batches: AsyncIterator[Sequence[StoredEntry]],
    checkpoints: Sequence[Checkpoint],
    check: ChainCheck | None = None,
    also: Callable[[int, CloudEvent], None] = lambda seq, event: None,
) -> Verified:
    """Walk all records, and look at each checkpoint when its record comes.

    `check` is where they begin, if not with the first record of a ledger; checkpoints of before
    it are left out. Their signatures were looked at by whoever hands them in. `also` is told
    every record that fits. Raises LedgerUnavailable.
    """
    check = check or ChainCheck()
    walk = _Walk(check, [one for one in checkpoints if one.seq > check.seq], also)
    try:
        async for batch in batches:
            for entry in batch:
                walk.take(entry)
        walk.end()
    except ChainBroken as broken:
        return walk.found(Fault(broken.seq, broken.what))
    except LedgerDamaged as damaged:
        return walk.found(Fault(check.seq + 1, str(damaged)))
    return walk.found(None)


class _Walk:
    """What is behind, and the checkpoints that are ahead."""

    def __init__(
        self,
        check: ChainCheck,
        checkpoints: Sequence[Checkpoint],
        also: Callable[[int, CloudEvent], None],
    ) -> None:
        self._check = check
        self._also = also
        self._ahead = sorted(checkpoints, key=lambda one: -one.seq)
        self._compared = 0
        self._vouched_seq = 0
        self._installation: tuple[str, str] | None = None

    def take(self, entry: StoredEntry) -> None:
        event = self._check.take(entry.seq, entry.subject, entry.message_id, entry.body)
        self._installation = _registered(event) or self._installation
        self._also(entry.seq, event)
        while self._ahead and self._ahead[-1].seq == entry.seq:
            self._compare(self._ahead.pop())

    def end(self) -> None:
        if self._ahead:
            missed = self._ahead[-1]
            raise ChainBroken(
                self._check.seq + 1,
                f"it is missing: the log ends at seq {self._check.seq}, and a checkpoint of"
                f" {missed.at} vouches for seq {missed.seq}",
            )

    def found(self, fault: Fault | None) -> Verified:
        check = self._check
        return Verified(
            check.records, check.unchained, check.seq, self._compared, self._vouched_seq, fault
        )

    def _compare(self, checkpoint: Checkpoint) -> None:
        named = checkpoint.node, checkpoint.owner
        if self._installation is not None and named != self._installation:
            raise ChainBroken(
                checkpoint.seq,
                f"its checkpoint is of another installation, node {checkpoint.node} (owner"
                f" {checkpoint.owner})",
            )
        if checkpoint.hash != self._check.hash:
            raise ChainBroken(
                checkpoint.seq,
                f"it is not the record that a checkpoint of {checkpoint.at} vouches for: it was"
                " changed, or one before it was and all behind that were written anew",
            )
        self._compared += 1
        self._vouched_seq = checkpoint.seq


def _registered(event: CloudEvent) -> tuple[str, str] | None:
    first = event.data.events[0]
    return (first.node, first.owner) if isinstance(first, NodeRegistered) else None
