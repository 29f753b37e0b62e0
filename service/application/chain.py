"""Chain: the end of the ledger as its writer has it, and what the next record bears because of it.

Each record has the hash of the one before, so that none can be changed, taken out or put in
without all that follow being written anew. It has its command too, and the facts of the host
where they are not those of the record before.
"""

from msgspec.structs import replace

from events.codec import encode, hash_of, message_id_of
from events.record import Record
from events.subjects import subject_of
from service.domain.basis import NO_OTHER_FACTS, basis_of
from service.domain.commands import Envelope
from service.ports import Entry, Ledger

FACTS_EVERY = 500
"""A record whose sequence this divides has its facts in any case: who begins to read somewhere
finds them near."""


class Chain:
    """What was linked last. It is thrown away with the state that runs ahead of the ledger."""

    def __init__(self, previous: str) -> None:
        self._previous = previous
        """Hash of the last record; empty before the first."""
        self._facts = b""

    def link(self, seq: int, record: Record, envelope: Envelope) -> Entry:
        """The record as it is stored at `seq`. Raises RecordTooLarge: nothing was linked."""
        basis = basis_of(envelope)
        facts = bytes(basis.facts)
        if facts == self._facts and seq % FACTS_EVERY:
            basis = replace(basis, facts=NO_OTHER_FACTS)
        body = encode(record, self._previous, basis)
        self._previous, self._facts = hash_of(body), facts
        message_id = message_id_of(record.command_id, self._previous)
        return Entry(subject_of(record), message_id, body)


async def chain_after(ledger: Ledger, seq: int) -> Chain:
    """A chain that goes on after a stored record. Raises as `Ledger.read`."""
    previous = ""
    if seq:
        async for entries in ledger.read(seq - 1, seq):
            previous = hash_of(entries[-1].body)
    return Chain(previous)
