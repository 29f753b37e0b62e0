"""Which GPUs and host ports are chosen: all or nothing, lowest first, the same every time."""

import itertools

import pytest
from msgspec.structs import replace

from events.recovery import RecoveryBegun
from events.replica_sets import RevisionDeclared
from events.resources import GpusLeased
from events.values import PortBinding
from projections.state import GpuUnit, Node, PortLease, State
from service.domain.commands import Command, DebugReplicaSet, Envelope, ObserveGpus
from service.domain.placement import (
    count_usable_gpus,
    held_gpus,
    held_ports,
    place_gpus,
    place_ports,
)
from service.domain.placement_orders import Placement
from service.domain.recovery_commands import RecoverReplicaSet
from service.domain.rejections import Rejected
from tests.kit.builders import (
    NODE,
    OWNER,
    facts,
    gpu,
    replica_set,
    revision,
    run,
    state_of,
    unit,
)
from tests.kit.gwt import given

MIG_A, MIG_B = replace(unit(5), index=7), replace(unit(4), index=7)
"""Two instances of one GPU share its index: the UUID breaks the tie."""


def leased(host_port: int, holder: str = "bar", *revisions: int) -> PortLease:
    """A host port in use."""
    return PortLease(host_port, holder, revisions or (1,), "22/tcp")


def with_cursor(state: State, port_cursor: int) -> State:
    """The state, in which this host port was the last to be leased."""
    state.node = Node(NODE, OWNER, port_cursor)
    return state


@pytest.mark.parametrize(
    ("units", "count", "prefer", "chosen"),
    [
        ((unit(0), unit(1), unit(2)), 2, (), ("gpu-0", "gpu-1")),
        ((unit(0), unit(1), unit(2)), 0, (), ()),
        ((), 0, (), ()),
        ((unit(0, "bar", 1), unit(1), unit(2)), 2, (), ("gpu-1", "gpu-2")),
        ((unit(0, "bar", 1), unit(1)), 2, (), None),
        ((unit(0, "foo", 1), unit(1)), 2, (), ("gpu-0", "gpu-1")),
        ((unit(0, present=False), unit(1)), 1, (), ("gpu-1",)),
        ((unit(0, "foo", 1, present=False),), 1, ("gpu-0",), None),
        ((unit(0), unit(1), unit(2)), 2, ("gpu-2",), ("gpu-0", "gpu-2")),
        ((unit(0), unit(1, "foo", 1), unit(2, "bar", 1)), 1, ("gpu-1", "gpu-2"), ("gpu-1",)),
        ((unit(0), unit(1, "foo", 1)), 1, (), ("gpu-0",)),
        ((MIG_A, MIG_B, unit(2)), 2, (), ("gpu-2", "gpu-4")),
    ],
)
def test_gpus_are_chosen(
    units: tuple[GpuUnit, ...],
    count: int,
    prefer: tuple[str, ...],
    chosen: tuple[str, ...] | None,
) -> None:
    for order in itertools.permutations(units):  # how they came to be known does not matter
        assert place_gpus(state_of(*order), "foo", count, prefer) == chosen


def test_usable_are_the_free_ones_and_beside_them_its_own() -> None:
    state = state_of(unit(0, "foo", 1), unit(1, "bar", 1), unit(2), unit(3, present=False))
    assert count_usable_gpus(state, "foo") == (1, 1)
    assert count_usable_gpus(state, "new") == (1, 0)


@pytest.mark.parametrize(
    ("leases", "cursor", "prefer", "ports"),
    [
        ((), 0, {}, (10, 11)),
        ((), 11, {}, (12, 13)),
        ((), 12, {}, (13, 10)),
        ((), 13, {}, (10, 11)),
        ((), 99, {}, (10, 11)),
        ((leased(10), leased(12)), 0, {}, (11, 13)),
        ((leased(10), leased(12)), 11, {}, (13, 11)),
        ((leased(10), leased(11), leased(12)), 0, {}, None),
        ((leased(12, "foo"),), 0, {"22/tcp": 12}, (12, 10)),
        ((leased(12, "bar"),), 0, {"22/tcp": 12}, (10, 11)),
        ((), 0, {"22/tcp": 12}, (12, 10)),
        ((), 0, {"23/tcp": 10}, (11, 10)),
        ((), 0, {"22/tcp": 9, "23/tcp": 14}, (10, 11)),
        ((), 0, {"22/tcp": 12, "23/tcp": 12}, (12, 10)),
        ((leased(10), leased(11), leased(12, "foo")), 0, {"22/tcp": 12}, (12, 13)),
        ((leased(10), leased(11), leased(12, "foo"), leased(13)), 0, {"22/tcp": 12}, None),
    ],
)
def test_ports_are_chosen(
    leases: tuple[PortLease, ...],
    cursor: int,
    prefer: dict[str, int],
    ports: tuple[int, int] | None,
) -> None:
    state = with_cursor(state_of(*leases), cursor)
    wanted = ("22/tcp", "23/tcp")
    expected = None if ports is None else tuple(map(PortBinding, wanted, ports))
    assert place_ports(state, "foo", wanted, prefer, 10, 13) == expected


def test_no_ports_asked_for_is_no_refusal() -> None:
    assert place_ports(state_of(leased(10)), "foo", (), {}, 10, 10) == ()


def test_a_revision_holds_what_is_leased_to_it_and_not_to_another() -> None:
    state = state_of(
        replica_set(2, previous=1),
        revision(1, gpus=(0, 1, 2), ports=(10, 11, 12)),
        revision(2, gpus=(0, 1), ports=(10, 11)),
        unit(0, "foo", 1, 2),
        unit(1, "foo", 1),
        unit(2, "bar", 1),
        leased(10, "foo", 1, 2),
        leased(11, "foo", 2),
        leased(12, "bar", 1),
    )
    assert held_gpus(state, "foo", 1) == ("gpu-0", "gpu-1")
    assert held_gpus(state, "foo", 2) == ("gpu-0",)
    assert held_ports(state, "foo", 1) == (10,)
    assert held_ports(state, "foo", 2) == (10, 11)


def test_another_order_holds_for_every_command_that_gpus_are_chosen_for() -> None:
    """A debug copy and the recovery of a lost host among them."""
    on = facts(gpu_runtime="cdi")
    runs = given(run("foo", 1), run("bar"), gpus=4, on=on).world.state
    without = given(run("foo", 1), ObserveGpus((gpu(1), gpu(2), gpu(3))), gpus=4, on=on).world.state
    asked: list[tuple[State, Command]] = [
        (runs, DebugReplicaSet("bug", "bar", 1, gpu_count=1)),
        (without, RecoverReplicaSet("foo")),
    ]
    for state, command in asked:
        decided = Placement("highest").decide(state, Envelope("op", 1, command, on))
        assert not isinstance(decided, Rejected)
        chosen = [e.gpus for e in decided if isinstance(e, RevisionDeclared | RecoveryBegun)]
        leases = [event.uuids for event in decided if isinstance(event, GpusLeased)]
        assert chosen == leases == [("gpu-3",)]
