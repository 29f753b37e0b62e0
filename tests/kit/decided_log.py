"""Logs with everything that a record bears, decided by the rules: any length, no service needed.

Whatever is due is presumed to succeed. `decided_log` is a log like that of a busy host.
"""

from collections.abc import Iterator

from events.codec import CloudEvent, read
from events.record import Record
from projections.evolve import evolve
from projections.state import State
from service.application.chain import Chain
from service.domain.commands import (
    Command,
    Envelope,
    ExecuteInReplicaSet,
    Facts,
    ObserveGpus,
    RecordOutcome,
    RecordProgress,
    RegisterNode,
    RestartReplicaSet,
    StopReplicaSet,
)
from service.domain.decide import VERBS, address, decide
from service.domain.due_effects import DueEffects
from service.domain.guards import Decision
from service.domain.presumed import presumed_success
from service.domain.rejections import Rejected
from service.ports import StoredEntry
from tests.kit.builders import NODE, OWNER, facts, gpu, patch, run
from tests.kit.histories import BEGIN_US
from tests.kit.world import World

PATCH_EACH, STOP_EACH = 16, 40
"""Of so many turns of a name one is a patch, or a stop and a restart; the others execute."""


class BasisWorld(World):
    """A world that stores its records as the writer does."""

    def __init__(self, gpus: int = 2, on: Facts | None = None) -> None:
        self.entries: list[StoredEntry] = []
        self._chain = Chain("")
        self._last: Envelope | None = None
        super().__init__(gpus, on)

    @property
    def events(self) -> list[tuple[int, CloudEvent]]:
        """The records as a replay takes them."""
        return [(entry.seq, read(entry.body)) for entry in self.entries]

    def fold(self, record: Record, ended: str = "") -> None:
        """Store it first."""
        assert self._last is not None, "a record by hand has no basis"
        seq = len(self.entries) + 1
        entry = self._chain.link(seq, record, self._last)
        self.entries.append(StoredEntry(seq, entry.subject, entry.message_id, entry.body))
        super().fold(record, ended)

    def _envelope(self, command: Command, command_id: str) -> Envelope:
        self._last = super()._envelope(command, command_id)
        return self._last


def decided_log(count: int, names: int = 200) -> Iterator[StoredEntry]:
    """The first `count` records: every name is run, then they have their turns."""
    log = _Log(facts(ports=names * 4))
    done = 0
    for command in _commands(names):
        for entry in log.entries(command):
            yield entry
            done += 1
            if done == count:
                return


def _commands(names: int) -> Iterator[Command]:
    yield RegisterNode(NODE, OWNER)
    yield ObserveGpus(tuple(gpu(index) for index in range(names)))
    listed = [f"set{index}" for index in range(names)]
    for name in listed:
        yield run(name, 1, 1)
    turn = 0
    while True:
        turn += 1
        for place, name in enumerate(listed):
            mixed = turn * 5 + place
            if mixed % STOP_EACH == 0:
                yield StopReplicaSet(name)
                yield RestartReplicaSet(name)
            elif mixed % PATCH_EACH == 0:
                yield patch(name)
            else:
                yield ExecuteInReplicaSet(name, ("nvidia-smi", "--query-gpu=uuid"))


class _Log:
    def __init__(self, on: Facts) -> None:
        self._facts = on
        self._state = State()
        self._due = DueEffects()
        self._chain = Chain("")

    def entries(self, command: Command) -> Iterator[StoredEntry]:
        """The record of a command, and those of all that becomes due."""
        yield self._entry(command)
        while (effect := next(self._due.all(), None)) is not None:
            yield self._entry(RecordOutcome(effect, presumed_success(effect, self._now_us())))

    def _now_us(self) -> int:
        return BEGIN_US + self._state.seq * 1_000

    def _entry(self, command: Command) -> StoredEntry:
        seq, kind_name_verb = self._state.seq + 1, address(command)
        envelope = Envelope(
            f"0190f3a2-7c00-7000-8000-{seq:012x}", self._now_us(), command, self._facts
        )
        decision: Decision = decide(self._state, envelope)
        assert not isinstance(decision, Rejected), decision
        operation = envelope.command_id if type(command) in VERBS else ""
        if isinstance(command, RecordOutcome | RecordProgress):
            operation = command.effect.operation_id
        record = Record(
            envelope.command_id,
            NODE,
            *kind_name_verb,
            envelope.issued_at_us,
            decision,
            operation_id=operation,
        )
        entry = self._chain.link(seq, record, envelope)
        evolve(self._state, seq, record)
        self._due.follow(self._state)
        self._state.forget_touched()
        return StoredEntry(seq, entry.subject, entry.message_id, entry.body)
