"""Whether refusals are as they were written, and which is the first that does not fit. Pure.

The refusals of each caller are a chain of their own, as the log of them forgets by caller: each
has its place and the hash of the one before. What is forgotten is always the oldest of a chain,
so that a chain may begin at any place, and has no gap behind it.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Struct

from events.codec import hash_of, message_id_of
from service.audit_ports import (
    KEPT,
    Checkpoint,
    Noted,
    RefusalBounds,
    RefusalHead,
    RefusalsVerified,
    caller_of,
    decode_noted,
    name_of,
    subject_of,
)
from service.ports import StoredEntry

DAY_US = 86_400 * 10**6
FULL = 7 / 8
"""So full of what it may hold the log counts as one that forgets by size: what comes is not always
as large as what goes."""
ENTRY_BYTES = 70
"""What the server adds to one: lengths, a header, a checksum, the time."""


class RefusalsBroken(Exception):
    """A refusal is not as it was written, or is not there. The text names the first."""


class _Chain(Struct):
    """What was seen of one caller."""

    first: int
    """The place of its first one that is there; 0 of one without."""
    before_us: int | None
    """When the one before that was refused; None where there was none."""
    place: int = 0
    hash: str = ""
    hash_before: str = ""
    at_us: int = 0
    count: int = 0


class RefusalCheck:
    """Takes refusals in their order; `end` says what is missing."""

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        now_us: int,
        bounds: RefusalBounds = KEPT,
        *,
        part: bool = False,
    ) -> None:
        """`part`: they are cut out of the log, and a checkpoint says where they begin and end."""
        self._now_us = now_us
        self._bounds = bounds
        self._part = part
        self._signed: dict[tuple[str, int], list[tuple[RefusalHead, Checkpoint]]] = {}
        self._newest: dict[str, tuple[RefusalHead, Checkpoint]] = {}
        self._last: Checkpoint | None = None
        for one in sorted(checkpoints, key=lambda one: (one.count, one.seq)):
            self._vouch(one)
        self._chains: dict[str, _Chain] = {}
        self._stray: str | None = None
        """The first that the newest checkpoint knows nothing of."""
        self._bytes = 0
        self._oldest_us: int | None = None
        self.refusals = 0
        self.unchained = 0
        self.vouched = 0

    def _vouch(self, checkpoint: Checkpoint) -> None:
        if checkpoint.refusals is UNSET:
            return
        self._last = checkpoint
        for head in checkpoint.refusals:
            if not self._is_old(head.at_us):
                self._signed.setdefault((head.caller, head.last), []).append((head, checkpoint))
                known = self._newest.get(head.caller)
                if known is None or known[0].last <= head.last:
                    self._newest[head.caller] = head, checkpoint

    def heads(self) -> tuple[RefusalHead, ...]:
        """What a checkpoint has to say of those that were taken."""
        return tuple(
            RefusalHead(caller, chain.place, chain.hash, chain.at_us, max(1, chain.first))
            for caller, chain in sorted(self._chains.items())
            if chain.place
        )

    def take(self, entry: StoredEntry) -> Noted:
        """The next one, read. Raises RefusalsBroken."""
        try:
            noted = decode_noted(entry.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            what = f"entry {entry.seq} ({entry.message_id})"
            raise RefusalsBroken(f"{what} cannot be read, so it was changed: {error}") from error
        digest, said = hash_of(entry.body), told(noted)
        if entry.subject != subject_of(noted):
            raise RefusalsBroken(f"{said} is stored as {entry.subject}: it was moved or changed")
        caller = caller_of(noted)
        chain = self._chains.get(caller)
        if noted.place == 0:
            self._see_older(noted, entry, chain)
        elif entry.message_id != message_id_of(name_of(noted), digest):
            raise RefusalsBroken(
                f"{said} was changed: it is not the one that its message is named by"
            )
        elif chain is not None:
            _see_following(noted, chain)
        self._compare(noted, digest)
        if chain is None:
            has_before = noted.place > 1 or bool(noted.prevhash)
            chain = _Chain(noted.place, noted.prev_us if has_before else None)
            self._chains[caller] = chain
        elif not chain.first:
            chain.first = noted.place
        chain.hash_before, chain.hash = chain.hash, digest
        chain.place, chain.at_us = noted.place, noted.at_us
        chain.count += 1
        self.refusals += 1
        self._bytes += len(entry.subject) + len(entry.message_id) + len(entry.body) + ENTRY_BYTES
        self._oldest_us = min(self._oldest_us or noted.at_us, noted.at_us)
        return noted

    def end(self) -> None:
        """All were taken. Raises RefusalsBroken when some are missing that nothing explains."""
        if self._part and self._stray is not None:
            raise RefusalsBroken(f"{self._stray} is none that the checkpoint vouches for")
        for caller, (head, checkpoint) in sorted(self._newest.items()):
            chain = self._chains.get(caller)
            last = chain.place if chain is not None else 0
            if last >= head.last or (chain is None and self._is_forgotten(caller, head.at_us)):
                continue
            places = _places(max(last + 1, head.first), head.last)
            raise RefusalsBroken(
                f"{places} of {named(caller)} missing: taken out, as a checkpoint of"
                f" {checkpoint.at} vouches for them"
            )
        for caller, chain in sorted(self._chains.items()):
            if chain.before_us is None:
                continue
            if self._part:
                self._see_begin(caller, chain)
            elif not self._is_forgotten(caller, chain.before_us):
                places = _places(1, chain.first - 1) if chain.first > 1 else "the first ones"
                raise RefusalsBroken(
                    f"{places} of {named(caller)} missing, and the log did not forget them: it"
                    " holds neither so many nor so much, nor were they so old"
                )

    def found(self, fault: str = "") -> RefusalsVerified:
        """What was seen."""
        forgotten = sum(max(0, chain.first - 1) for chain in self._chains.values())
        if self._part:
            forgotten = 0
        return RefusalsVerified(self.refusals, self.unchained, forgotten, self.vouched, fault)

    def _see_older(self, noted: Noted, entry: StoredEntry, chain: _Chain | None) -> None:
        if entry.message_id != name_of(noted) or (chain is not None and chain.place):
            raise RefusalsBroken(
                f"{told(noted)} has no hash of the one before, and others before it have one: it"
                " was put in or changed"
            )
        self.unchained += 1

    def _compare(self, noted: Noted, digest: str) -> None:
        """With what checkpoints say of it, and of what is around it."""
        caller = caller_of(noted)
        for head, checkpoint in self._signed.get((caller, noted.place), ()):
            if head.hash != digest:
                raise RefusalsBroken(
                    f"{told(noted)} is not the one that a checkpoint of {checkpoint.at} vouches"
                    " for: it was changed, or one before it was and those behind were written anew"
                )
        if not noted.place or self._last is None:
            return
        newest = self._newest.get(caller)
        if newest is None or newest[0].last < noted.place:
            if not self._is_old(noted.at_us):
                self._stray = self._stray or told(noted)
            return
        self.vouched += 1
        if self._stray is not None:
            raise RefusalsBroken(
                f"{self._stray} was put in: the checkpoint of {self._last.at} vouches for one"
                " behind it, and does not know it"
            )

    def _see_begin(self, caller: str, chain: _Chain) -> None:
        """Of a part its checkpoint says where it begins."""
        head = self._newest.get(caller)
        if head is not None and chain.first > head[0].first:
            places = _places(head[0].first, chain.first - 1)
            raise RefusalsBroken(f"{places} of {named(caller)} missing: taken out of the export")

    def _is_forgotten(self, caller: str, at_us: int) -> bool:
        """Can the log have forgotten one that was refused then?"""
        if self._part:
            return False
        chain = self._chains.get(caller)
        if chain is not None and chain.count >= self._bounds.per_caller:
            return True
        is_full = self._bytes >= FULL * self._bounds.bytes
        oldest_us = self._oldest_us
        # All that is older went with it; clocks are put right now and then.
        first_to_go = oldest_us is not None and at_us <= oldest_us + DAY_US
        return self._is_old(at_us) or (is_full and first_to_go)

    def _is_old(self, at_us: int) -> bool:
        return not self._part and at_us <= self._now_us - self._bounds.age_us


def told(noted: Noted) -> str:
    """A refusal, for people."""
    if not noted.place:
        return f"refusal {name_of(noted)}"
    return f"refusal {noted.place} of {named(caller_of(noted))} ({name_of(noted)})"


def named(caller: str) -> str:
    """Whose it is, for people."""
    return caller or "unknown callers"


def _places(first: int, last: int) -> str:
    return f"refusal {first}" if first == last else f"refusals {first} to {last}"


def _see_following(noted: Noted, chain: _Chain) -> None:
    """Raises RefusalsBroken unless it was written to follow the one that is before it."""
    caller = named(caller_of(noted))
    if noted.place > chain.place + 1:
        places = _places(chain.place + 1, noted.place - 1)
        raise RefusalsBroken(f"{places} of {caller} missing: the next one is {noted.place}")
    if noted.place == chain.place + 1 and noted.prevhash == chain.hash:
        return
    if noted.place == chain.place and noted.prevhash == chain.hash_before:
        raise RefusalsBroken(f"refusal {noted.place} of {caller} is there twice: one was put in")
    raise RefusalsBroken(
        f"{told(noted)} was written to follow another one than {chain.place}: that one was changed,"
        " or this one was put in or moved"
    )
