"""What would have been: a log decided anew from where something in it is altered. Pure.

    the log      there ──▶ record ──▶ record ──▶ record ──▶ its end
                   │ the same up to the first alteration
    altered       here ──▶ decided ──▶ refused ──▶ …

What callers asked for comes in the order of the log and is decided on the state here. What Docker
was asked comes from that state: where the log has the answer to an effect of the same id it is
taken from there, in its place; what nobody was ever asked is presumed to succeed at once.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from events.codec import CloudEvent, UnreadableRecord, record_of
from events.operations import OperationFailed, OperationSucceeded
from events.record import Event, Record
from projections.evolve import evolve
from projections.state import State
from service.domain.alterations import (
    Alterations,
    AlterGpus,
    NoSuchHistory,
    altered_command,
    altered_facts,
    altered_sighting,
    inserted,
    sighting,
)
from service.domain.basis import command_of, envelope_of, facts_of
from service.domain.commands import (
    Command,
    Envelope,
    ExpireSnapshots,
    Facts,
    ObserveGpus,
    RecordOutcome,
    RecordProgress,
)
from service.domain.decide import VERBS, address, decide
from service.domain.due_effects import DueEffects
from service.domain.effects import Effect, kind_of
from service.domain.guards import Decision
from service.domain.placement_orders import Placement
from service.domain.presumed import presumed_success
from service.domain.rejections import Rejected
from service.domain.retention import due_to_expire

How = Literal["otherwise", "refused", "only there", "only here"]
"""Decided otherwise here; refused here; in the log alone; in the altered history alone."""


class Difference(Struct, frozen=True):
    """A record that is not in both histories as it is."""

    seq: int
    """Its place in the log; of one that is only here, of the record that it comes behind."""
    how: How
    record: Record
    """As it is in the log; of one that is only here, as it is here."""
    command: Command | None
    """As it is decided here; of one that is only there, as it was there."""
    there: tuple[Event, ...]
    here: tuple[Event, ...]
    why: str = ""
    """For people."""


def answered(events: Iterable[tuple[int, CloudEvent]], after: int) -> dict[str, int]:
    """By effect: the last record of a log, behind `after`, that has an answer to it."""
    found: dict[str, int] = {}
    for seq, event in events:
        if seq > after and event.verb == "outcome":
            try:
                command = command_of(event)
            except UnreadableRecord as error:
                raise NoSuchHistory(f"record {seq} cannot be decided anew: {error}") from None
            if isinstance(command, RecordOutcome):
                found[command.effect.effect_id] = seq
    return found


class OtherHistory:
    """The log and the altered history beside it, record by record.

    `there` is the state of the log after the last step, `here` that of the altered history; both
    are only to be read.
    """

    def __init__(self, altered: Alterations, answers: Mapping[str, int]) -> None:
        self._altered = altered
        self._answers = answers
        self._drops = {one.seq for one in altered.records if one.drop}
        self._changes = {one.seq: one.command for one in altered.records if one.command}
        self._facts: Facts | None = None
        self._placement = Placement(altered.placement)
        self._due_there = DueEffects()
        self._due = self._due_there
        self.there = State()
        self.here = self.there
        self._ended: list[str] = []
        """Replica sets whose operation ended here just now: their kept disks are counted."""
        self._stuck: set[str] = set()
        """Effects that an answer was refused to: a fault that is not made worse by a loop."""
        if not altered.shared:
            self._part()

    def step(self, seq: int, event: CloudEvent) -> Iterator[Difference]:
        """The next record, and all that differs because of it. Raises NoSuchHistory."""
        record = record_of(event)
        evolve(self.there, seq, record)
        self._due_there.follow(self.there)
        if not self._is_parted:
            self._placement.follow(self.there)
        self.there.forget_touched()
        facts, command = self._basis(seq, event)
        if self._is_parted:
            if facts is None or command is None:
                raise NoSuchHistory(
                    f"record {seq} was stored without what it was decided on: alter only what is"
                    " behind it (after = for placement and facts)"
                )
            yield from self._redone(seq, event, record, facts, command)
        elif seq == self._altered.shared:
            self._part()
        if self._is_parted and facts is not None:
            yield from self._inserted(seq, record, facts)
            yield from self._follow_up(seq, record.at_us, facts)

    @property
    def _is_parted(self) -> bool:
        return self.here is not self.there

    def _part(self) -> None:
        self.here = self.there.copy()
        self._due = self._due_there.copy()

    def _basis(self, seq: int, event: CloudEvent) -> tuple[Facts | None, Command | None]:
        """What the record was decided on; the command only where it matters."""
        try:
            self._facts = facts_of(event, self._facts)
            command = command_of(event) if self._is_parted else None
        except UnreadableRecord as error:
            raise NoSuchHistory(f"record {seq} cannot be decided anew: {error}") from None
        if self._facts is None or seq <= self._altered.after:
            return self._facts, command
        return altered_facts(self._facts, self._altered.facts), command

    def _redone(
        self, seq: int, event: CloudEvent, record: Record, facts: Facts, command: Command
    ) -> Iterator[Difference]:
        """A record of the log, decided here."""

        def differs(how: How, here: tuple[Event, ...], why: str = "") -> Difference:
            return Difference(seq, how, record, command, record.events, here, why)

        if seq in self._drops:
            yield differs("only there", (), "dropped")
            return
        if seq in self._changes:
            command = altered_command(command, self._changes[seq], seq)
        if isinstance(command, ObserveGpus):
            command = altered_sighting(command, self._gpus_until(seq - 1))
        if isinstance(command, RecordOutcome | RecordProgress):
            effect = self._is_due_here(command.effect)
            if effect is None:
                yield differs("only there", (), f"{command.effect.effect_id} is not due here")
                return
            command = replace(command, effect=effect)
        decision = self._decide(seq, envelope_of(event, command, facts))
        if isinstance(decision, Rejected):
            yield differs("refused", (), f"{decision.reason}: {decision.message}")
            return
        self._fold(seq, replace(record, events=decision))
        if decision != record.events:
            yield differs("otherwise", decision)

    def _inserted(self, seq: int, behind: Record, facts: Facts) -> Iterator[Difference]:
        """What is put in behind a record of the log."""
        if any(one.after == seq for one in self._altered.gpus):
            command, others = sighting(self.here, self._gpus_until(seq))
            envelope = _own(f"what-if-gpus-{seq}", behind.at_us, command, facts)
            yield self._added(seq, envelope, others)
        for number, insert in enumerate(self._altered.inserts, 1):
            if insert.after == seq:
                envelope = Envelope(
                    f"what-if-{number}",
                    behind.at_us,
                    inserted(insert),
                    facts,
                    actor=insert.actor,
                    tenant=insert.tenant,
                )
                yield self._added(seq, envelope)

    def _follow_up(self, seq: int, at_us: int, facts: Facts) -> Iterator[Difference]:
        """What the service does of itself here and has no record of in the log."""
        while True:
            while self._ended:
                command = ExpireSnapshots(self._ended.pop(0))
                on = self._facts or facts
                waits = due_to_expire(self.there, on, at_us, command)  # the log comes to it
                if not waits and due_to_expire(self.here, facts, at_us, command):
                    command_id = f"what-if-expire-{command.name}-{seq}"
                    yield self._added(seq, _own(command_id, at_us, command, facts))
            if (effect := self._nobodys(seq)) is None:
                return
            outcome = RecordOutcome(effect, presumed_success(effect, at_us))
            found = self._added(seq, _own(f"{effect.effect_id}/presumed", at_us, outcome, facts))
            if found.how == "refused":
                self._stuck.add(effect.effect_id)
            yield found

    def _nobodys(self, seq: int) -> Effect | None:
        """An effect that is due here and that the log has no answer to, now or later."""
        for effect in self._due.all():
            effect_id = effect.effect_id
            comes = self._answers.get(effect_id, 0) > seq
            # Not answered there either, as the log ends before that.
            waits = effect_id in {e.effect_id for e in self._due_there.of(*_name(effect))}
            if not comes and not waits and effect_id not in self._stuck:
                return effect
        return None

    def _added(
        self, seq: int, envelope: Envelope, gpus: frozenset[str] | None = None
    ) -> Difference:
        """Decide on what is only here; of GPUs, only what these fare."""
        command = envelope.command
        decision = self._decide(seq, envelope)
        events = () if isinstance(decision, Rejected) else decision
        if gpus is not None:
            events = tuple(event for event in events if getattr(event, "uuid", "") in gpus)
        kind, name, verb = address(command)
        record = Record(
            command_id=envelope.command_id,
            node=envelope.facts.node,
            kind=kind,
            name=name,
            verb=verb,
            at_us=envelope.issued_at_us,
            events=events,
            actor=envelope.actor,
            tenant=envelope.tenant,
            operation_id=_operation_of(envelope),
        )
        if isinstance(decision, Rejected):
            why = f"{decision.reason}: {decision.message}"
            return Difference(seq, "refused", record, command, (), (), why)
        self._fold(seq, record)
        return Difference(seq, "only here", record, command, (), events)

    def _decide(self, seq: int, envelope: Envelope) -> Decision:
        if seq <= self._altered.after:
            return decide(self.here, envelope)
        return self._placement.decide(self.here, envelope)

    def _fold(self, seq: int, record: Record) -> None:
        evolve(self.here, seq, record)
        self._due.follow(self.here)
        self._placement.follow(self.here)
        self.here.forget_touched()
        ended = any(isinstance(e, OperationSucceeded | OperationFailed) for e in record.events)
        if record.kind == "replica_set" and ended:
            self._ended.append(record.name)

    def _is_due_here(self, effect: Effect) -> Effect | None:
        due = self._due.of(*_name(effect))
        return next((one for one in due if one.effect_id == effect.effect_id), None)

    def _gpus_until(self, seq: int) -> tuple[AlterGpus, ...]:
        return tuple(one for one in self._altered.gpus if one.after <= seq)


def _own(command_id: str, at_us: int, command: Command, facts: Facts) -> Envelope:
    """Of a command that the service would send itself."""
    return Envelope(command_id, at_us, command, facts, actor="what-if")


def _name(effect: Effect) -> tuple[str, str]:
    return kind_of(effect), effect.name


def _operation_of(envelope: Envelope) -> str:
    command = envelope.command
    if isinstance(command, RecordOutcome):
        return command.effect.operation_id
    return envelope.command_id if type(command) in VERBS else ""
