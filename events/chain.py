"""Whether stored records are one chain, and which is the first that does not fit. Pure.

Each record has the hash of the one before, and its message is named by its own hash. So who
changes one has to rename it, and to write anew all that follow.
"""

from events.codec import (
    CloudEvent,
    UnreadableRecord,
    hash_of,
    message_id_of,
    read,
    record_of,
)
from events.subjects import subject_of


class ChainBroken(Exception):
    """A record is not as it was written, or not where. `seq` is the first that does not fit."""

    def __init__(self, seq: int, what: str) -> None:
        super().__init__(f"seq {seq}: {what}")
        self.seq = seq
        self.what = what


class ChainCheck:
    """Takes records in their order. Those from before 0.5.0 have no hash: they are counted."""

    def __init__(self, after_seq: int = 0, previous: str | None = "") -> None:
        """`previous` is the hash of the record at `after_seq`; None when that is not known."""
        self.seq = after_seq
        self.records = 0
        self.unchained = 0
        """Those without a hash."""
        self.hash = previous or ""
        """Of the last record that was taken."""
        self._hash_before: str | None = None
        self._known = previous is not None
        self._chained = after_seq > 0 and bool(previous)

    def take(self, seq: int, subject: str, message_id: str, body: bytes) -> CloudEvent:
        """The next record, read. Raises ChainBroken."""
        if seq != self.seq + 1:
            raise ChainBroken(self.seq + 1, f"it is missing: the next one is seq {seq}")
        try:
            event = read(body)
            record = record_of(event)
        except UnreadableRecord as error:
            raise ChainBroken(seq, f"it cannot be read, so it was changed: {error}") from error
        digest = hash_of(body)
        self._see_itself(seq, event, message_id, digest)
        if subject != subject_of(record):
            raise ChainBroken(seq, f"it is stored as {subject}, and says {subject_of(record)}")
        self._hash_before = self.hash if self._known else None
        self.seq, self.hash, self._known = seq, digest, True
        self.records += 1
        return event

    def _see_itself(self, seq: int, event: CloudEvent, message_id: str, digest: str) -> None:
        named = message_id == message_id_of(event.id, digest)
        if not event.prevhash and not self._chained and message_id == event.id:
            self.unchained += 1
            return
        if not named:
            raise ChainBroken(seq, "it was changed: it is not the one that its message is named by")
        if self._known and event.prevhash != self.hash:
            raise self._misfit(seq, event)
        self._chained = True

    def _misfit(self, seq: int, event: CloudEvent) -> ChainBroken:
        if not event.prevhash:
            what = "it has no hash of the record before, and others before it have one"
            return ChainBroken(seq, what)
        if event.prevhash == self._hash_before:
            return ChainBroken(
                seq - 1, f"it was put in: seq {seq} was written to follow seq {seq - 2}"
            )
        return ChainBroken(
            seq,
            f"it was written to follow another record than seq {seq - 1}: that one was changed,"
            " one between them was taken out, or this one was put in or moved",
        )
