"""(d) What one decision costs with few and with many replica sets: pure, no I/O.

The world is built by the rules themselves: each set runs with two host ports. Deciding changes
nothing, so a command can be decided again and again; each verb meets a hundred sets in turns.
"""

from pathlib import Path
from time import process_time

from events.record import Record
from events.values import Gpu
from projections.evolve import evolve
from projections.state import State
from service.domain.commands import (
    Command,
    CreateVolume,
    DeleteReplicaSet,
    Envelope,
    ExecuteInReplicaSet,
    Facts,
    ObserveGpus,
    PatchReplicaSet,
    PauseReplicaSet,
    RecordOutcome,
    RegisterNode,
    RestartReplicaSet,
    RunReplicaSet,
    StopReplicaSet,
)
from service.domain.decide import address, decide
from service.domain.reconcile import reconcile
from service.domain.rejections import Rejected
from tests.bench.figures import Figure, ratio
from tests.kit.builders import spec
from tests.kit.world import success_of

LETTER = "d"
FEW, MANY = 10, 10_000
TITLE = f"one decision with {FEW} and with {MANY:,} replica sets"

RATIO_GOAL = 1.5
GPUS = 8
SLICES = 5
"""In each round, the two worlds take turns so many times."""
TIMES = 1_000
FACTS = Facts("n1", "simulated", port_first=30_000, port_last=65_535)


class _World:
    """A state with so many sets, grown by commands and by effects that all succeed."""

    def __init__(self, sets: int) -> None:
        self.state = State()
        gpus = (Gpu(f"gpu-{n}", n, "GPU", 80 << 30, f"0000:{n:02x}:00.0") for n in range(GPUS))
        self._submit(RegisterNode("n1", "owner"), "register")
        self._submit(ObserveGpus(tuple(gpus)), "gpus")
        self.names = [f"set{number}" for number in range(sets)]
        for name in self.names:
            self._submit(RunReplicaSet(name, spec(ports=2)), f"run-{name}")
            while effects := reconcile(self.state, "replica_set", name):
                for effect in effects:
                    done = RecordOutcome(effect, success_of(effect))
                    self._submit(done, f"{effect.effect_id}/done", effect.operation_id)

    def _submit(self, command: Command, command_id: str, operation_id: str = "") -> None:
        decided = decide(self.state, Envelope(command_id, 0, command, FACTS))
        assert not isinstance(decided, Rejected), decided
        kind, name, verb = address(command)
        operation_id = operation_id or command_id
        record = Record(
            command_id, "n1", kind, name, verb, 0, decided, operation_id=operation_id
        )
        evolve(self.state, self.state.seq + 1, record)
        self.state.forget_touched()

    def commands(self) -> dict[str, list[Envelope]]:
        """By verb: the commands to decide on."""
        spread = self.names[:: max(1, len(self.names) // 100)]
        made: dict[str, list[Command]] = {
            "run": [RunReplicaSet(f"new{n}", spec(gpu_count=1, ports=2)) for n in range(10)],
            "patch": [PatchReplicaSet(name, gpu_count=1) for name in spread],
            "restart": [RestartReplicaSet(name) for name in spread],
            "stop": [StopReplicaSet(name) for name in spread],
            "pause": [PauseReplicaSet(name) for name in spread],
            "execute": [ExecuteInReplicaSet(name, ("true",)) for name in spread],
            "delete": [DeleteReplicaSet(name) for name in spread],
            "create volume": [CreateVolume(f"disk{n}", 1 << 30) for n in range(10)],
        }
        return {
            verb: [Envelope("command", 0, command, FACTS) for command in commands]
            for verb, commands in made.items()
        }


def measure(folder: Path, rounds: int) -> list[Figure]:
    """Few and many in turns, verb by verb."""
    worlds = [(world.state, world.commands()) for world in (_World(FEW), _World(MANY))]
    figures: list[Figure] = []
    for verb in worlds[0][1]:
        few: list[float] = []
        many: list[float] = []
        for _ in range(rounds * SLICES):
            for microseconds, (state, commands) in zip((few, many), worlds, strict=True):
                microseconds.append(_decide_us(state, commands[verb]))
        one = Figure(LETTER, verb, few, "µs")
        other = Figure(LETTER, f"{verb}, {MANY:,} sets", many, "µs")
        times = f"{verb}, {MANY:,} / {FEW} sets"
        figures += [other, ratio(LETTER, times, other, one, goal_max=RATIO_GOAL)]
    return figures


def _decide_us(state: State, envelopes: list[Envelope]) -> float:
    many = envelopes * (TIMES // len(envelopes))
    begun = process_time()
    for envelope in many:
        decide(state, envelope)
    seconds = process_time() - begun
    assert not isinstance(decide(state, envelopes[0]), Rejected)
    return seconds / len(many) * 1_000_000
