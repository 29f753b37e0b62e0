"""Every kind of breach, shown by a state made by hand that could not come about."""

import pytest

from projections.state import Operation, PortLease, State, VolumeVersion
from service.application.executor import MUST_SUCCEED
from service.domain.effects import Settle
from service.domain.invariants import Breach, check
from tests.kit.builders import GIB, replica_set, revision, spec, state_of, unit, volume
from tests.kit.gwt import given
from tests.kit.world import NEVER_FAIL

OPERATION = Operation("op-1", 1, "patch", "replica_set", "foo", 0, {})
CREATION = Operation("op-1", 1, "create", "volume", "disk", 0, {})
EXECUTION = Operation("op-1", 1, "execute", "replica_set", "foo", 0, {})


def port(host_port: int = 40000, *revisions: int) -> PortLease:
    """A host port that foo has."""
    return PortLease(host_port, "foo", revisions, "22/tcp")


def test_a_sound_state_has_no_breach() -> None:
    sound = state_of(
        unit(0, "foo", 1),
        unit(1),
        port(40000, 1),
        replica_set(),
        revision(gpus=(0,), ports=(40000,)),
        volume(),
    )
    assert check(sound) == ()
    assert check(State()) == ()
    assert check(given().world.state) == ()


@pytest.mark.parametrize(
    ("state", "breach"),
    [
        (
            state_of(unit(0, "foo")),
            Breach("gpu-0", "it has a holder without a revision, or the other way round"),
        ),
        (
            state_of(unit(0, "foo", 1, 1), replica_set(), revision(gpus=(0,))),
            Breach("gpu-0", "one revision leases it twice"),
        ),
        (
            state_of(unit(0, "foo", 1), replica_set(), revision()),
            Breach("gpu-0", "leased by foo-1, which does not have it"),
        ),
        (
            state_of(unit(0, "foo", 7), replica_set(), revision()),
            Breach("gpu-0", "leased by foo-7, which does not have it"),
        ),
        (
            state_of(
                unit(0, "foo", 1),
                replica_set(2),
                revision(1, gpus=(0,), container="removed"),
                revision(2),
            ),
            Breach("gpu-0", "leased by foo-1, which is retired"),
        ),
        (
            state_of(port(40000), replica_set(), revision()),
            Breach("40000", "leased by no revision, or by one of them twice"),
        ),
        (
            state_of(port(40000, 1, 1), replica_set(), revision(ports=(40000,))),
            Breach("40000", "leased by no revision, or by one of them twice"),
        ),
        (
            state_of(
                port(40000, 1),
                replica_set(2),
                revision(1, ports=(40000,), container="removed"),
                revision(2),
            ),
            Breach("40000", "leased by foo-1: retired"),
        ),
        (
            state_of(unit(0), replica_set(operation="op-1"), revision(gpus=(0,)), OPERATION),
            Breach("foo-1", "it runs without a lease on all its GPUs and ports"),
        ),
        (
            state_of(replica_set(operation="op-1"), revision(ports=(40000,)), OPERATION),
            Breach("foo-1", "it runs without a lease on all its GPUs and ports"),
        ),
        (
            state_of(
                unit(0, "foo", 1),
                replica_set(phase="stopped"),
                revision(gpus=(0,), container="exited"),
            ),
            Breach("foo", "it is stopped and holds leases"),
        ),
        (
            state_of(
                unit(0), replica_set(phase="paused"), revision(gpus=(0,), container="exited")
            ),
            Breach("foo", "it is paused and does not hold its leases"),
        ),
        (
            state_of(replica_set(phase="paused"), revision()),
            Breach("foo", "it is paused and its container runs"),
        ),
        (
            state_of(replica_set(2, previous=1), revision(1, container="removed"), revision(2)),
            Breach("foo", "it has a previous revision and no operation that retires it"),
        ),
        (
            state_of(unit(0, "foo", 1), replica_set(), revision(gpus=(0,), spec=spec(2))),
            Breach("foo", "it has not the number of GPUs that was asked for"),
        ),
        (
            state_of(replica_set(), revision(), OPERATION),
            Breach("op-1", "the patch of foo has no end"),
        ),
        (
            state_of(replica_set(), revision(), EXECUTION),
            Breach("op-1", "the execute of foo has no end"),
        ),
        (state_of(volume(), CREATION), Breach("op-1", "the create of disk has no end")),
        (
            state_of(volume(operation="op-9")),
            Breach("disk", "it waits for an operation that is not known"),
        ),
        (
            state_of(volume(versions=(VolumeVersion(1, GIB, "create", 0),))),
            Breach("disk", "its current version was never made"),
        ),
    ],
)
def test_a_breach_is_found(state: State, breach: Breach) -> None:
    assert breach in check(state)


def test_the_kit_lets_fail_what_the_executor_lets_fail() -> None:
    assert {*MUST_SUCCEED, Settle} == set(NEVER_FAIL)
