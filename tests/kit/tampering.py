"""What somebody can do to records who knows how they are stored."""

from collections.abc import Sequence

from msgspec.structs import replace

from events.codec import encode, hash_of, message_id_of, read, record_of
from service.ports import StoredEntry


def renamed(entry: StoredEntry, body: bytes) -> StoredEntry:
    """Another body, and the message named by it."""
    return replace(entry, body=body, message_id=message_id_of(read(body).id, hash_of(body)))


def forged(entry: StoredEntry) -> bytes:
    """The record as if somebody else had asked for it; its place in the chain is kept."""
    event = read(entry.body)
    return encode(replace(record_of(event), actor="mallory"), event.prevhash, event.data.basis)


def written_anew(entries: Sequence[StoredEntry], first: int) -> list[StoredEntry]:
    """All from a place on, forged and linked again: what a thief with the whole log can do."""
    found, previous = list(entries[:first]), hash_of(entries[first - 1].body)
    for entry in entries[first:]:
        event = read(entry.body)
        record = replace(record_of(event), actor="mallory")
        body = encode(record, previous, event.data.basis)
        found.append(renamed(entry, body))
        previous = hash_of(body)
    return found
