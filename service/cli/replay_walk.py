"""The walk through a log: every record with the state around it, and where to stop."""

from collections.abc import Iterator
from typing import Protocol

from msgspec import Struct

from events.codec import CloudEvent, record_of
from projections.evolve import evolve
from projections.state import State
from service.domain.breach_watch import BreachWatch
from service.domain.conditions import Condition, Moment
from service.domain.due_effects import DueEffects
from service.domain.effects import Effect
from service.domain.invariants import Breach
from service.domain.replaying import Replay, Step
from service.domain.tally import Counts, Tally


class Log(Protocol):
    """A log that can be read as often as one likes."""

    last_seq: int

    def records(self) -> Iterator[tuple[int, CloudEvent]]:
        """All records with their sequences, from the first."""
        ...


class Visit(Struct, frozen=True):
    """A record, the numbers of the state before and after it, and what became due with it."""

    step: Step
    before: Counts
    after: Counts
    due: tuple[Effect, ...]
    stops: bool
    """The condition holds here."""


class Name(Struct, frozen=True):
    """What `--name` chooses: a name, and of a replica set or volume perhaps one version."""

    name: str
    version: int = 0

    def chooses(self, step: Step) -> bool:
        """Is the record about it?"""
        if step.record.name != self.name:
            return False
        return not self.version or self.version in _versions(step)


class Walk:
    """A walk from the first record on. `state` is that after the last visit."""

    def __init__(self, log: Log, condition: Condition | None = None) -> None:
        self._log = log
        self._condition = condition
        self._tally = Tally()
        self._due = DueEffects()
        self._replay = Replay(followers=(self._tally, self._due))

    @property
    def state(self) -> State:
        """As it is after the last visit; only to be read."""
        return self._replay.state

    def visits(self) -> Iterator[Visit]:
        """Every record."""
        before, held = Counts(), False
        for seq, event in self._log.records():
            step = self._replay.step(seq, event)
            after = self._tally.counts
            holds = self._condition is not None and self._condition.holds(Moment(step, after))
            # Of a state, when it becomes so; else every record after it would be a stop.
            of_record = self._condition is not None and self._condition.of_record
            yield Visit(step, before, after, self._due.begun, holds and (of_record or not held))
            before, held = after, holds

    def state_before(self, seq: int) -> State:
        """The state before a record, folded once more from the first."""
        state = State()
        for at, event in self._log.records():
            if at == seq:
                break
            evolve(state, at, record_of(event))
            state.forget_touched()
        return state


def first_breach(log: Log) -> tuple[Step, tuple[Breach, ...]] | None:
    """The first record that leaves something broken, and what."""
    watch = BreachWatch()
    replay = Replay(followers=(watch,))
    for seq, event in log.records():
        step = replay.step(seq, event)
        if watch.breaches:
            return step, watch.breaches
    return None


def _versions(step: Step) -> set[int]:
    """The versions that a record is about."""
    found: set[int] = set()
    for event in step.record.events:
        for field in ("number", "revision", "supersedes"):
            number = getattr(event, field, None)
            if isinstance(number, int):
                found.add(number)
    effect = getattr(step.command, "effect", None)
    if effect is not None:
        found.add(effect.number)
    return found
