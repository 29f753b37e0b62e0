"""Whether a ledger is one chain, and each of its records what `decide` says to it again."""

from collections.abc import Iterable, Iterator

from events.codec import decode, encode, hash_of, read, record_of
from events.record import Record
from projections.evolve import evolve
from projections.state import State
from service.domain.basis import command_of, envelope_of, facts_of
from service.domain.decide import address, decide
from service.ports import StoredEntry


def decided_again(entries: Iterable[StoredEntry]) -> Iterator[tuple[StoredEntry, Record, State]]:
    """Every record, from the first, as it was found to be right, with the state after it."""
    state, facts, previous = State(), None, ""
    for entry in entries:
        event = read(entry.body)
        record = record_of(event)
        assert event.prevhash == previous, f"record {entry.seq} does not follow the one before"
        assert decode(encode(record)) == record
        previous = hash_of(entry.body)
        facts = facts_of(event, facts)
        command = command_of(event)
        assert command is not None
        assert facts is not None
        assert address(command) == (record.kind, record.name, record.verb)
        again = decide(state, envelope_of(event, command, facts))
        assert again == record.events, f"record {entry.seq} of {command}"
        evolve(state, entry.seq, record)
        state.forget_touched()
        yield entry, record, state
