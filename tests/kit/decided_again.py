"""Whether a ledger is one chain, and each of its records what `decide` says to it again."""

from collections.abc import Iterable, Iterator

from events.chain import ChainCheck
from events.codec import decode, encode
from events.record import Record
from projections.state import State
from service.domain.replaying import Replay
from service.ports import StoredEntry


def decided_again(entries: Iterable[StoredEntry]) -> Iterator[tuple[StoredEntry, Record, State]]:
    """Every record, from the first, as it was found to be right, with the state after it."""
    chain, replay = ChainCheck(), Replay()
    for entry in entries:
        event = chain.take(entry.seq, entry.subject, entry.message_id, entry.body)
        assert chain.unchained == 0, f"record {entry.seq} has no hash of the one before"
        step = replay.step(entry.seq, event)
        assert step.verdict == "same", step
        assert decode(encode(step.record)) == step.record
        yield entry, step.record, replay.state
