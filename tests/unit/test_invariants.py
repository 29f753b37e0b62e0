"""Every kind of breach, shown by a state made by hand that could not come about."""

import pytest
from msgspec.structs import replace

from projections.debug_copy import CopiedDisk, Loan
from projections.state import Operation, PortLease, State, VolumeVersion
from service.domain.effects import Settle
from service.domain.giving_up import MUST_SUCCEED
from service.domain.invariants import Breach, check
from tests.kit.builders import GIB, replica_set, revision, spec, state_of, unit, volume
from tests.kit.gwt import given
from tests.kit.world import NEVER_FAIL

OPERATION = Operation("op-1", 1, "patch", "replica_set", "foo", 0, {})
CREATION = Operation("op-1", 1, "create", "volume", "disk", 0, {})
EXECUTION = Operation("op-1", 1, "execute", "replica_set", "foo", 0, {})


OLD = revision(1, container="removed", snapshot="foo-1-op")
"""A version whose system disk is kept."""

NOT_THOSE = Breach("foo", "the system disks listed as kept are not those that are")
NOT_KEPT = Breach("foo", "a system disk that is not kept is to be given up or compacted")
FORGOTTEN = Breach("foo", "it is to run, does not, and nobody does anything about it")
NOT_ENDED = Breach("foo", "it is to be started again, and it has not ended by itself")
NO_SOURCE = Breach("foo-2", "the system disk of 1, which it is to start with, is gone")


DEBUG = Operation("op-1", 1, "debug", "replica_set", "bug", 0, {})
LENDER = replica_set(loans=(Loan(1, "bug", "op-1"),))
COPY = replica_set(name="bug", operation="op-1", debug_of="foo@1")
COPYING = revision(
    name="bug", container="absent", copied=CopiedDisk("foo", 1, "container", image="i")
)
NOT_MADE = Breach("foo", "its disk is lent to bug, which is not being made")


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
    kept = state_of(
        replica_set(4, previous=3, snapshots=(1,), to_compact=(1,), operation="op-1"),
        OLD,
        revision(2, container="removed", continued_as=3),
        revision(3),
        revision(4, container="created", disk_from=3),
        OPERATION,
    )
    assert check(kept) == ()
    filled = revision(2, container="created", disk_from=1, filled=True)
    busy = replica_set(2, operation="op-1")
    assert check(state_of(busy, revision(1, container="removed"), filled, OPERATION)) == ()
    assert check(state_of(LENDER, revision(), COPY, COPYING, DEBUG)) == ()
    ended = revision(container="exited", ended_alone=True)
    assert check(state_of(replica_set(retry_due_us=1), ended)) == ()
    assert check(state_of(replica_set(), replace(ended, retrying=7))) == ()
    stray = revision(container="exited", stray=True)
    assert check(state_of(replica_set(phase="paused"), stray)) == ()
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
            state_of(replica_set(), revision(container="exited", ended_alone=True)),
            FORGOTTEN,
        ),
        (
            state_of(replica_set(), revision(container="exited")),
            FORGOTTEN,
        ),
        (
            state_of(replica_set(retry_due_us=1), revision()),
            NOT_ENDED,
        ),
        (
            state_of(
                replica_set(phase="paused", retry_due_us=1),
                revision(container="exited", ended_alone=True),
            ),
            NOT_ENDED,
        ),
        (
            state_of(replica_set(phase="paused"), revision(container="exited", retrying=7)),
            Breach("foo", "its container is being started, and it is not to be or runs already"),
        ),
        (
            state_of(replica_set(), revision(stray=True)),
            Breach("foo", "its container is to be stopped, and it is to run"),
        ),
        (
            state_of(replica_set(), revision(remake=True)),
            Breach("foo", "its container is to be made anew, and no operation does it"),
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
            state_of(replica_set(2), revision(1, container="exited"), revision(2)),
            Breach("foo", "versions [1] still have containers"),
        ),
        (
            state_of(
                replica_set(3, previous=2, operation="op-1"),
                revision(1, container="created"),
                revision(2),
                revision(3),
                OPERATION,
            ),
            Breach("foo", "versions [1] still have containers"),
        ),
        (state_of(replica_set(2), OLD, revision(2)), NOT_THOSE),
        (state_of(replica_set(2, snapshots=(1, 1)), OLD, revision(2)), NOT_THOSE),
        (
            state_of(
                replica_set(2, snapshots=(1,)), revision(1, container="removed"), revision(2)
            ),
            NOT_THOSE,
        ),
        (state_of(replica_set(2, expiring=(1,)), revision(2)), NOT_KEPT),
        (state_of(replica_set(2, to_compact=(1,)), revision(2)), NOT_KEPT),
        (
            state_of(replica_set(2, snapshots=(1,)), replace(OLD, continued_as=2), revision(2)),
            Breach("foo-1", "it went on as 2, and has a system disk of its own"),
        ),
        (
            state_of(replica_set(2), revision(1, continued_as=2), revision(2)),
            Breach("foo-1", "it went on as 2, and has a system disk of its own"),
        ),
        (
            state_of(
                replica_set(2),
                revision(1, container="removed", continued_as=2, pinned=True),
                revision(2),
            ),
            Breach("foo-1", "it went on as 2, and has a system disk of its own"),
        ),
        (
            state_of(replica_set(1), revision(1, container="removed", continued_as=2)),
            Breach("foo-1", "it went on as 2, which does not come after it"),
        ),
        (
            state_of(replica_set(1), revision(1, container="removed", continued_as=1)),
            Breach("foo-1", "it went on as 1, which does not come after it"),
        ),
        *(
            (state_of(replica_set(2, snapshots=kept), source, waiting), NO_SOURCE)
            for kept, source in (
                ((), revision(1, container="removed")),
                ((1,), replace(OLD, expiring="too old")),
            )
            for waiting in (
                revision(2, container="absent", disk_from=1),
                revision(2, container="created", disk_from=1),
            )
        ),
        (
            state_of(replica_set(2), revision(2, container="absent", disk_from=1)),
            NO_SOURCE,
        ),
        (
            state_of(replica_set(0, debug_image="i")),
            Breach("foo", "it was deleted, and its image i was not"),
        ),
        *(
            (state_of(LENDER, revision(), *copy), NOT_MADE)
            for copy in ((), (replica_set(name="bug"), revision(name="bug")))
        ),
        *(
            (
                state_of(LENDER, source, COPY, revision(name="bug", container="absent"), DEBUG),
                Breach("foo", "the disk of 1 is lent to bug, and gone"),
            )
            for source in (revision(container="removed"), replace(OLD, expiring="old"))
        ),
        (
            state_of(replica_set(), revision(), COPY, COPYING, DEBUG),
            Breach("bug", "it begins with a disk of foo, which does not lend it"),
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
