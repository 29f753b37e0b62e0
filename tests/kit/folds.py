"""A fold by hand: one record after the other, with a node and a replica set to begin with."""

from typing import Any

from events.operations import OperationAccepted, OperationSucceeded
from events.outcomes import ContainerCreated, ContainerStarted
from events.record import Event, Record
from events.replica_sets import RevisionDeclared
from events.resources import GpuAppeared, GpusLeased, NodeRegistered, PortsLeased
from events.values import Bind, ContainerSpec, Kind, PortBinding, Verb
from projections.evolve import evolve
from projections.state import State

SSH = PortBinding("22/tcp", 40_000)
WEB = PortBinding("80/tcp", 40_001)


class Fold:
    """A state and the next record for it."""

    def __init__(self) -> None:
        self.state = State()

    def __call__(self, *events: Event, operation: str = "") -> None:
        seq = self.state.seq + 1
        evolve(
            self.state,
            seq,
            Record(
                command_id=f"c-{seq}",
                node="n1",
                kind="replica_set",
                name="foo",
                verb="v",
                at_us=seq * 10,
                events=events,
                actor="ann",
                tenant="lab",
                operation_id=operation,
            ),
        )

    def accept(self, verb: Verb, *events: Event, id: str = "", kind: Kind = "replica_set") -> str:
        operation = id or f"op-{self.state.seq + 1}"
        self(OperationAccepted(operation, verb, kind, "foo", {}), *events, operation=operation)
        return operation


def declared(number: int, binds: tuple[Bind, ...] = (), **fields: Any) -> RevisionDeclared:
    spec = ContainerSpec(image="a:1", gpu_count=1, binds=binds)
    fields = {"gpus": ("GPU-a",), "ports": (SSH,), "gpu_runtime": "simulated"} | fields
    return RevisionDeclared(name="foo", number=number, cause="run", spec=spec, **fields)


def empty_node() -> Fold:
    """A node with GPUs a and b, and nothing on it."""
    fold = Fold()
    fold(NodeRegistered("n1", "owner"))
    for index, letter in enumerate("ab"):
        fold(GpuAppeared(f"GPU-{letter}", index, "A100", 80 << 30, f"0000:0{index}:00.0"))
    return fold


def running_set() -> Fold:
    """foo-1 runs with GPU a and one port."""
    fold = empty_node()
    operation = fold.accept(
        "run",
        declared(1),
        GpusLeased("foo", 1, ("GPU-a",)),
        PortsLeased("foo", 1, (SSH,)),
        id="op-run",
    )
    fold(ContainerCreated("foo", 1, "id-1", "e-1"), operation=operation)
    fold(ContainerStarted("foo", 1, "2026-01-01T00:00:00Z"), operation=operation)
    fold(OperationSucceeded(operation, {"name": "foo-1"}), operation=operation)
    return fold
