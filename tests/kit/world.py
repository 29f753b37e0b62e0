"""A world of pure parts: the state, the rules, and effects whose outcomes the test chooses.

No loop, no clock, no engine. After every record it holds the state against the invariants and
against a second book of its own, kept from the events alone:

- a GPU or port is leased only when it is free or with the same replica set, and given back once,
  by who holds it, when its container was seen not running;
- an effect that is due stays due until its outcome is recorded (it may be under way), and one
  whose outcome is recorded is never due again (its id would stand in the ledger twice);
- a report that comes twice, or says the contrary later, is refused;
- a version that a caller was told of is never declared a second time;
- no container runs or starts while a disk that it mounts changes size under it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from events.operations import OperationSucceeded
from events.outcomes import ContainerStarted
from events.record import Event, Record
from events.replica_sets import RevisionDeclared
from events.resources import GpusLeased, GpusReleased, PortsLeased, PortsReleased
from events.volumes import VolumeVersionDeclared
from projections.evolve import evolve
from projections.state import State
from service.domain.commands import (
    Command,
    Envelope,
    Facts,
    Failed,
    ObserveGpus,
    RecordOutcome,
    RecordProgress,
    RegisterNode,
    Succeeded,
)
from service.domain.decide import address, decide
from service.domain.effects import (
    CommitImage,
    CreateContainer,
    Effect,
    EnsureImage,
    Execute,
    PutBackDisk,
    RemoveContainer,
    RemoveSnapshot,
    RemoveVolume,
    Settle,
    SizeVolume,
    StartContainer,
    StopContainer,
    TakeSnapshot,
    kind_of,
)
from service.domain.guards import Decision
from service.domain.invariants import check
from service.domain.reconcile import reconcile
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import IMAGE_ID, NODE, OWNER, facts, gpu

NEVER_FAIL = (
    StopContainer,
    RemoveContainer,
    RemoveSnapshot,
    PutBackDisk,
    RemoveVolume,
    Settle,
)
"""Effects that the executor repeats until they succeed, and the one without any I/O."""

FAILURE = Failed("refused", "the engine does not want to")

Holder = tuple[str, int]
Thing = str | int
"""A GPU's UUID or a host port."""

Key = TypeVar("Key", str, int, tuple[str, int])


def success_of(effect: Effect) -> Succeeded:
    """That the engine did it, with made-up facts of the right shape."""
    container = f"{effect.name}-{effect.number}"
    match effect:
        case EnsureImage():
            return Succeeded({"image_id": IMAGE_ID})
        case CreateContainer():
            return Succeeded({"container_id": f"id of {container}"})
        case StartContainer():
            return Succeeded({"started_at": f"{effect.last_started_at}i"})
        case StopContainer():
            return Succeeded({"exit_code": 0, "finished_at": ""})
        case TakeSnapshot() | CommitImage():
            return Succeeded({"image_id": IMAGE_ID, "size_bytes": 1})
        case Execute():
            keys = ("exit_code", "duration_us", "stdout_bytes", "stderr_bytes")
            return Succeeded(dict.fromkeys(keys, 0))
        case _:
            return Succeeded()


class World:
    """Commands go in by `send`; what is due comes out by `due` and is ended by `report`."""

    def __init__(self, gpus: int = 2, on: Facts | None = None) -> None:
        self.facts = on or facts()
        self.state = State()
        self.records: list[Record] = []
        self._reported: set[str] = set()
        self._leases: dict[Thing, tuple[Holder, ...]] = {}
        self._told: set[tuple[str, str, int]] = set()
        self._due: dict[str, Effect] = {}
        self._counts: dict[str, int] = {}
        self.send(RegisterNode(NODE, OWNER))
        self.send(ObserveGpus(tuple(gpu(index) for index in range(gpus))))

    def copy(self) -> "World":
        """An independent world at the same point."""
        other = World.__new__(World)
        other.facts, other.state = self.facts, self.state.copy()
        other.records = self.records.copy()
        other._reported = self._reported.copy()
        other._leases = self._leases.copy()
        other._told = self._told.copy()
        other._due = self._due
        other._counts = self._counts.copy()
        return other

    def send(self, command: Command) -> Decision:
        """Decide on a command and fold what was decided. Its operation is "<name>.<count>"."""
        _, name, _ = address(command)
        number = self._counts.get(name, 0) + 1
        decision = self._submit(command, f"{name}.{number}", "")
        if not isinstance(decision, Rejected):
            self._counts[name] = number
        return decision

    def due(self) -> tuple[Effect, ...]:
        """The effects that are due now, of all names, in a fixed order."""
        return tuple(self._due.values())

    def report(self, effect: Effect, outcome: Succeeded | Failed) -> Decision:
        """What became of an effect; told again, or told otherwise, it is refused."""
        command = RecordOutcome(effect, outcome)
        decision = self._submit(command, f"{effect.effect_id}/done", effect.effect_id)
        for again in (outcome, success_of(effect), FAILURE):
            late = decide(self.state, self._envelope(RecordOutcome(effect, again), "late"))
            assert isinstance(late, Rejected), f"{effect.effect_id} was recorded twice"
            assert late.reason == Reason.STALE_OUTCOME
        return decision

    def succeed(self, effect: Effect) -> Decision:
        """The engine did it."""
        return self.report(effect, success_of(effect))

    def fail(self, effect: Effect) -> Decision:
        """The engine refused it."""
        return self.report(effect, FAILURE)

    def progress(self, effect: Effect, done_bytes: int, total_bytes: int) -> Decision:
        """How far an effect is."""
        command = RecordProgress(effect, done_bytes, total_bytes)
        return self._submit(command, f"{effect.effect_id}/progress-{done_bytes}", "")

    def drive(self, fails: Callable[[Effect], bool] = lambda effect: False) -> "World":
        """Do what is due until nothing is. Every operation must have ended then."""
        while self._due:
            effect = next(iter(self._due.values()))
            failing = not isinstance(effect, NEVER_FAIL) and fails(effect)
            decision = self.fail(effect) if failing else self.succeed(effect)
            assert not isinstance(decision, Rejected), decision
        self.check_ended()
        return self

    def check_ended(self) -> None:
        """Nothing is due: then no operation may be waiting, for nothing would ever end it."""
        assert not self._due
        waiting = [o.id for o in self.state.operations.values() if o.state == "running"]
        assert not waiting, self.explain(f"{waiting} wait for ever")

    def explain(self, what: str) -> str:
        """A message with the whole history that led here."""
        steps = [
            f"  {record.command_id}: {', '.join(type(event).__name__ for event in record.events)}"
            for record in self.records
        ]
        return "\n".join([what, "after:", *steps])

    def key(self) -> bytes:
        """The same for worlds that go on the same, however they came about."""
        state = self.state
        alive = {o.id: o.verb for o in state.operations.values() if o.state == "running"}
        # Ids of ended operations are never used again, so only these can be mistaken.
        reported = sorted(i for i in self._reported if i.partition("/")[0] in alive)
        return msgspec.msgpack.encode(
            (
                _sorted(state.replica_sets),
                _sorted(state.revisions),
                _sorted(state.volumes),
                _sorted(state.gpus),
                _sorted(state.ports),
                state.node,
                _sorted(alive),
                reported,
                sorted(self._told),
            )
        )

    def _envelope(self, command: Command, command_id: str) -> Envelope:
        return Envelope(command_id, 0, command, self.facts)

    def _submit(self, command: Command, command_id: str, ended: str) -> Decision:
        decision = decide(self.state, self._envelope(command, command_id))
        if isinstance(decision, Rejected):
            return decision
        assert decision, self.explain(f"{command_id}: accepted, and nothing to record")
        kind, name, verb = address(command)
        operation = "" if kind == "node" else command_id
        if isinstance(command, RecordOutcome | RecordProgress):
            operation = command.effect.operation_id
        if ended:
            self._reported.add(ended)
        record = Record(command_id, NODE, kind, name, verb, 0, decision, operation_id=operation)
        self.fold(record, ended)
        return decision

    def fold(self, record: Record, ended: str = "") -> None:
        """Fold a record, whoever decided it, and look at everything again."""
        self.records.append(record)
        for event in record.events:
            self._book(event)
        evolve(self.state, self.state.seq + 1, record)
        self.state.forget_touched()
        breaches = check(self.state)
        assert not breaches, self.explain(f"{breaches}")
        self._look(ended)

    def _book(self, event: Event) -> None:
        """The second book: leases by the events alone, and versions by what was seen."""
        match event:
            case GpusLeased():
                self._lease(event.uuids, (event.name, event.revision))
            case PortsLeased():
                self._lease((p.host_port for p in event.ports), (event.name, event.revision))
            case GpusReleased():
                self._release(event.uuids, (event.name, event.revision))
            case PortsReleased():
                self._release(event.host_ports, (event.name, event.revision))
            case ContainerStarted():
                self._expect_alone(event.name, event.revision)
            case OperationSucceeded():
                operation = self.state.operations[event.operation_id]
                if operation.verb != "execute":  # that tells of no version, beside a patch
                    self._tell(operation.name)
            case RevisionDeclared():
                self._expect_new("replica_set", event.name, event.number)
            case VolumeVersionDeclared():
                self._expect_new("volume", event.name, event.number)

    def _expect_alone(self, name: str, number: int) -> None:
        """What starts may have the GPUs and ports of another revision, which must stand still."""
        others = [
            revision.number
            for revision in self.state.revisions.values()
            if revision.name == name and revision.container == "running"
        ]
        assert not others, self.explain(f"{name}-{number} starts beside {others}")

    def _lease(self, things: Iterable[Thing], holder: Holder) -> None:
        for thing in things:
            before = self._leases.get(thing, ())
            free = all(name == holder[0] and number != holder[1] for name, number in before)
            assert free, self.explain(f"{thing} goes to {holder}, and {before} have it")
            self._leases[thing] = (*before, holder)

    def _release(self, things: Iterable[Thing], holder: Holder) -> None:
        phase = self.state.revisions[holder].container
        assert phase in ("absent", "exited", "removed"), self.explain(
            f"{holder} gives back while its container is {phase}"
        )
        for thing in things:
            before = self._leases.get(thing, ())
            assert holder in before, self.explain(f"{holder} gives {thing} back, which it has not")
            self._leases[thing] = tuple(one for one in before if one != holder)

    def _tell(self, name: str) -> None:
        """The caller learns that an operation succeeded, and with it which versions there are."""
        if (replica_set := self.state.replica_sets.get(name)) is not None:
            self._told.add(("replica_set", name, replica_set.current))
        if (volume := self.state.volumes.get(name)) is not None:
            self._told.add(("volume", name, volume.current))

    def _expect_new(self, kind: str, name: str, number: int) -> None:
        known = (kind, name, number) in self._told
        assert not known, self.explain(f"{kind} {name}-{number} is declared a second time")

    def _look(self, ended: str) -> None:
        """What is due now, against what was due before and what was reported."""
        state = self.state
        names = [("replica_set", name) for name in sorted(state.replica_sets)]
        names += [("volume", name) for name in sorted(state.volumes)]
        due = {e.effect_id: e for kind, name in names for e in reconcile(state, kind, name)}
        for effect_id in self._due.keys() - due.keys() - {ended}:
            effect = self._due[effect_id]
            assert isinstance(effect, Settle), self.explain(f"{effect_id}: no longer due, undone")
        again = self._reported & due.keys()
        assert not again, self.explain(f"{again} are due a second time")
        self._due = due
        self._check_leases()
        for effect in due.values():
            if isinstance(effect, SizeVolume):
                self._check_halted(effect)

    def _check_leases(self) -> None:
        """The state's leases are the second book's: none is lost, none is doubled."""
        state = self.state
        held = {thing: holders for thing, holders in self._leases.items() if holders}
        told: dict[Thing, tuple[Holder, ...]] = {
            unit.uuid: tuple((unit.holder or "", number) for number in unit.revisions)
            for unit in state.gpus.values()
            if unit.revisions
        }
        for port, lease in state.ports.items():
            told[port] = tuple((lease.holder, number) for number in lease.revisions)
        assert told == held, self.explain(f"the state says {told}, the events say {held}")

    def _check_halted(self, effect: SizeVolume) -> None:
        volume = self.state.volumes[effect.name]
        sizes = [v.size_bytes for v in volume.versions if v.number == volume.previous]
        if self.facts.volumes_grow_online and effect.size_bytes > sizes[0]:
            return
        for user in self.state.volume_users.get(effect.name, ()):
            current = self.state.revisions[user, self.state.replica_sets[user].current]
            assert current.container != "running", self.explain(
                f"{effect.effect_id} while {user} runs"
            )
            starting = [
                e.effect_id
                for e in self._due.values()
                if isinstance(e, StartContainer) and kind_of(e) == "replica_set" and e.name == user
            ]
            assert not starting, self.explain(f"{effect.effect_id} beside {starting}")


def _sorted(table: Mapping[Key, object]) -> list[tuple[Key, object]]:
    return sorted(table.items(), key=lambda item: item[0])
