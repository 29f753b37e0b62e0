"""A world of pure parts: the state, the rules, and effects whose outcomes the test chooses.

No loop, no clock, no engine. After every record it holds the state against the invariants and
against a second book, kept from the events alone (`SecondBook`); and of effects it asks that

- one that is due stays due until its outcome is recorded (it may be under way), and one whose
  outcome is recorded is never due again (its id would stand in the ledger twice);
- a report that comes twice, or says the contrary later, is refused;
- no container runs or starts while a disk that it mounts changes size under it.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from events.record import Record
from events.recovery import ContainerLost, RecoveryBegun, VolumeLost
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
from service.domain.decide import VERBS, address, decide
from service.domain.effects import (
    CommitImage,
    CompactSnapshot,
    CreateContainer,
    Effect,
    EnsureImage,
    MakeDebugImage,
    PreCopyDisk,
    PutBackDisk,
    RemoveContainer,
    RemoveDebugImage,
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
from service.domain.observing_commands import ObserveContainer, ObserveGpuAccess, RetryReplicaSet
from service.domain.presumed import presumed_success
from service.domain.reconcile import reconcile
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import IMAGE, IMAGE_CMD, IMAGE_ENV, IMAGE_ID, NODE, OWNER, facts, gpu
from tests.kit.second_book import SecondBook

NEVER_FAIL = (
    StopContainer,
    RemoveContainer,
    RemoveSnapshot,
    PutBackDisk,
    RemoveVolume,
    RemoveDebugImage,
    Settle,
)
"""Effects that the executor repeats until they succeed, and the one without any I/O."""

LOST_WITH_HOST = (ContainerLost, RecoveryBegun, VolumeLost)

FAILURE = Failed("refused", "the engine does not want to")

Key = TypeVar("Key", str, int, tuple[str, int])


def image_id_of(image: str) -> str:
    """The content of an image of this name."""
    return IMAGE_ID if image == IMAGE else f"sha256:{image}"


def success_of(effect: Effect) -> Succeeded:
    """That the engine did it, with made-up facts of the right shape."""
    container = f"{effect.name}-{effect.number}"
    match effect:
        case EnsureImage():
            image_id = image_id_of(effect.image)
            return Succeeded({"image_id": image_id, "env": IMAGE_ENV, "cmd": IMAGE_CMD})
        case CreateContainer():
            return Succeeded({"container_id": f"id of {container}"})
        case StartContainer():
            return Succeeded({"started_at": f"{effect.last_started_at}i"})
        case StopContainer():
            return Succeeded({"exit_code": 0, "finished_at": ""})
        case TakeSnapshot():
            return Succeeded({"size_bytes": 1, "squashed": False})
        case CompactSnapshot():
            return Succeeded({"saved_bytes": 1, "message": ""})
        case PreCopyDisk():
            return Succeeded({"size_bytes": 1, "message": ""})
        case CommitImage():
            return Succeeded({"image_id": IMAGE_ID, "size_bytes": 1})
        case MakeDebugImage():
            return Succeeded({"size_bytes": 1})
        case _:
            return presumed_success(effect, 0)


class World:
    """Commands go in by `send`; what is due comes out by `due` and is ended by `report`."""

    def __init__(self, gpus: int = 2, on: Facts | None = None) -> None:
        self.facts = on or facts()
        self.now_us = 0
        """The instant of the next command; a test moves it on."""
        self.state = State()
        self.records: list[Record] = []
        self._reported: set[str] = set()
        self._book = SecondBook()
        self._due: dict[str, Effect] = {}
        self._counts: dict[str, int] = {}
        self.send(RegisterNode(NODE, OWNER))
        self.send(ObserveGpus(tuple(gpu(index) for index in range(gpus))))

    def copy(self) -> "World":
        """An independent world at the same point."""
        other = World.__new__(World)
        other.facts, other.now_us, other.state = self.facts, self.now_us, self.state.copy()
        other.records = self.records.copy()
        other._reported = self._reported.copy()
        other._book = self._book.copy()
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

    def find_gone(self, effect: PutBackDisk, *, lost: bool = False) -> Decision:
        """Somebody removed the container that a kept system disk was to be put back into, or,
        so that it is lost, had been."""
        return self.report(effect, Succeeded({"gone": True, "lost": lost}))

    def has_ports(self, effect: StartContainer) -> bool:
        """Can its start be refused because of a host port?"""
        return bool(self.state.revisions[effect.name, effect.number].ports)

    def refuse_port(self, effect: StartContainer) -> Decision:
        """The engine did not start it, as another process has the first of its host ports."""
        port = self.state.revisions[effect.name, effect.number].ports[0].host_port
        words = f"listen tcp4 0.0.0.0:{port}: bind: address already in use"
        return self.report(effect, Failed("port_taken", words))

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
                # Which record told of it makes no difference to what follows.
                [
                    replace(r, seen_seq=0, retrying=min(r.retrying, 1))
                    for _, r in sorted(state.revisions.items())
                ],
                _sorted(state.volumes),
                _sorted(state.gpus),
                _sorted(state.ports),
                state.node,
                _sorted(alive),
                reported,
                sorted(self._book.told),
            )
        )

    def _envelope(self, command: Command, command_id: str) -> Envelope:
        return Envelope(command_id, self._at(command), command, self.facts)

    def _at(self, command: Command) -> int:
        """Now; but a retry comes when it is due, and none is due at 0."""
        if isinstance(command, ObserveContainer | ObserveGpuAccess):
            return max(self.now_us, 1)
        if isinstance(command, RetryReplicaSet) and (found := self.state.live(command.name)):
            return max(self.now_us, found.retry_due_us)
        return self.now_us

    def _submit(self, command: Command, command_id: str, ended: str) -> Decision:
        decision = decide(self.state, self._envelope(command, command_id))
        if isinstance(decision, Rejected):
            return decision
        assert decision, self.explain(f"{command_id}: accepted, and nothing to record")
        kind, name, verb = address(command)
        operation = command_id if type(command) in VERBS else ""
        if isinstance(command, RecordOutcome | RecordProgress):
            operation = command.effect.operation_id
        if ended:
            self._reported.add(ended)
        at_us = self._at(command)
        record = Record(command_id, NODE, kind, name, verb, at_us, decision, operation_id=operation)
        self.fold(record, ended)
        return decision

    def fold(self, record: Record, ended: str = "") -> None:
        """Fold a record, whoever decided it, and look at everything again."""
        self.records.append(record)
        self._book.begin(record.at_us)
        for event in record.events:
            self._book.write(event, self.state, self.explain)
        evolve(self.state, self.state.seq + 1, record)
        self.state.forget_touched()
        breaches = check(self.state)
        assert not breaches, self.explain(f"{breaches}")
        if record.verb == "recover" or any(isinstance(e, LOST_WITH_HOST) for e in record.events):
            # It is recovered before anything is done on the new host: nothing is under way.
            self._due = {}
        self._look(ended)

    def _look(self, ended: str) -> None:
        """What is due now, against what was due before and what was reported."""
        state = self.state
        names = [("replica_set", name) for name in sorted(state.replica_sets)]
        names += [("volume", name) for name in sorted(state.volumes)]
        names += [("orphan", one.id) for one in (state.node.expiring if state.node else ())]
        due = {e.effect_id: e for kind, name in names for e in reconcile(state, kind, name)}
        for effect_id in self._due.keys() - due.keys() - {ended}:
            effect = self._due[effect_id]
            # To share files is never needed: it ends where one of the two disks is given up.
            may_go = isinstance(effect, Settle | CompactSnapshot)
            assert may_go, self.explain(f"{effect_id}: no longer due, undone")
        again = self._reported & due.keys()
        assert not again, self.explain(f"{again} are due a second time")
        self._due = due
        self._book.compare(state, due.values(), self.explain)
        for effect in due.values():
            if isinstance(effect, SizeVolume):
                self._check_halted(effect)

    def _check_halted(self, effect: SizeVolume) -> None:
        volume = self.state.volumes[effect.name]
        sizes = [v.size_bytes for v in volume.versions if v.number == volume.previous]
        grows = effect.size_bytes > sizes[0]
        if self.facts.volumes_grow_online if grows else self.facts.volumes_shrink_online:
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
