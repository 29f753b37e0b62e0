"""Replaying: each record of a log decided once more, on the state and the facts of then. Pure.

    basis ─▶ envelope ─▶ decide(state before it) ─▶ compared with what is stored
    record ─▶ evolve ─▶ the state after it ─▶ followers, which look at what it changed

What is folded is always what is stored: one record that would be decided otherwise today does
not make those behind it differ.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from events.codec import CloudEvent, UnreadableRecord, record_of
from events.record import Record
from projections.evolve import evolve
from projections.state import State
from service.domain.basis import command_of, envelope_of, facts_of
from service.domain.commands import Command, Envelope, Facts
from service.domain.decide import address, decide
from service.domain.guards import Decision

Verdict = Literal["same", "otherwise", "undecidable"]
"""Of a record: decided as it is stored, decided otherwise, or not to be decided once more."""

Decider = Callable[[State, Envelope], Decision]
"""`decide`, or what takes its place to ask what would be."""

NO_BASIS = "it was stored before 0.5.0, without what it was decided on"
NO_FACTS = "no record up to it that can be read has the facts of the host"


class Step(Struct, frozen=True):
    """A record, and what is to be said of it."""

    seq: int
    event: CloudEvent
    record: Record
    command: Command | None
    """None of a record that cannot be decided once more."""
    facts: Facts | None
    verdict: Verdict
    again: Decision | None = None
    """What is decided today, where that is not what is stored and nothing failed."""
    why: str = ""
    """Why it cannot be decided, or how today's code fails on it; for people."""


class Follower(Protocol):
    """Somebody who looks at the state after every record."""

    def follow(self, state: State) -> None:
        """`state.touched` names what the last record changed; nobody may keep the state."""


class Replay:
    """A log from its first record on. Its `state` is that after the last step; only to be read."""

    def __init__(self, decider: Decider = decide, followers: Sequence[Follower] = ()) -> None:
        self.state = State()
        self._decider = decider
        self._followers = followers
        self._facts: Facts | None = None

    def step(self, seq: int, event: CloudEvent) -> Step:
        """Judge the next record, and fold it."""
        record = record_of(event)
        step = self._judged(seq, event, record)
        evolve(self.state, seq, record)
        for follower in self._followers:
            follower.follow(self.state)
        self.state.forget_touched()
        return step

    def _judged(self, seq: int, event: CloudEvent, record: Record) -> Step:
        try:
            self._facts = facts_of(event, self._facts)
            command = command_of(event)
        except UnreadableRecord as error:
            why = f"this version cannot read what it was decided on: {error}"
            return Step(seq, event, record, None, self._facts, "undecidable", why=why)
        facts = self._facts
        if command is None or facts is None:
            why = NO_BASIS if command is None else NO_FACTS
            return Step(seq, event, record, None, facts, "undecidable", why=why)
        about = (record.kind, record.name, record.verb)
        if address(command) != about:
            why = f"its command is about {' '.join(address(command))}"
            return Step(seq, event, record, command, facts, "otherwise", why=why)
        try:
            again = self._decider(self.state, envelope_of(event, command, facts))
        except Exception as error:
            # A rule never fails on a log of its own: that it does is what is looked for here.
            why = f"today's code fails on it: {type(error).__name__}: {error}"
            return Step(seq, event, record, command, facts, "otherwise", why=why)
        if again == record.events:
            return Step(seq, event, record, command, facts, "same")
        return Step(seq, event, record, command, facts, "otherwise", again)
