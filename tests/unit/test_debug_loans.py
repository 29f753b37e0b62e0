"""While a disk is copied for a debug copy: what of its source goes on, and what waits."""

import pytest
from msgspec.structs import replace

from service.domain.commands import (
    Command,
    ContinueReplicaSet,
    DebugReplicaSet,
    DeleteReplicaSet,
    ExecuteInReplicaSet,
    ExpireSnapshots,
    PauseReplicaSet,
    PinRevision,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import CreateContainer, Execute, MakeDebugImage, StartContainer
from service.domain.observing_commands import RetryReplicaSet
from service.domain.rejections import Reason
from tests.kit.builders import facts, patch, run
from tests.kit.gwt import given, unfinished
from tests.kit.sightings import ended

KEPT = (run(), patch())
"""The disk of foo-1 is kept, and foo-2 runs."""

UPPER = facts(carry="upper")


def debug(version: int = 1, name: str = "bug") -> DebugReplicaSet:
    """The command that runs a copy."""
    return DebugReplicaSet(name, "foo", version)


@pytest.mark.parametrize(
    ("command", "reason", "words"),
    [
        (ExpireSnapshots("foo"), Reason.NOTHING_NEW, "no system disk of foo is to be given up"),
        (
            DeleteReplicaSet("foo"),
            Reason.OPERATION_IN_PROGRESS,
            "the system disk of foo@1 is being copied for bug (operation bug.1)",
        ),
    ],
)
def test_what_is_being_copied_is_neither_given_up_nor_deleted(
    command: Command, reason: Reason, words: str
) -> None:
    on = replace(UPPER, keep_revisions=0)
    given(*KEPT, unfinished(debug()), on=on).when(command).rejected(reason, words)


@pytest.mark.parametrize(
    "command",
    [
        *(StopReplicaSet("foo"), PauseReplicaSet("foo"), RestartReplicaSet("foo"), patch()),
        *(RollBackReplicaSet("foo", 1), PinRevision("foo", 1), debug(1, "bag")),
    ],
)
def test_all_else_goes_on_while_a_kept_disk_is_copied(command: Command) -> None:
    world = given(*KEPT, unfinished(debug()), on=UPPER).world
    world.send(command)
    world.drive()
    assert world.state.replica_sets["foo"].loans == ()
    assert all(one.state == "succeeded" for one in world.state.operations.values())


@pytest.mark.parametrize(
    "command",
    [
        *(StopReplicaSet("foo"), PauseReplicaSet("foo"), RestartReplicaSet("foo"), patch()),
        *(RollBackReplicaSet("foo", 1), DeleteReplicaSet("foo"), ContinueReplicaSet("foo")),
        debug(2, "bag"),
    ],
)
def test_nothing_goes_on_while_the_disk_of_what_runs_is_copied(command: Command) -> None:
    given(*KEPT, unfinished(debug(2)), on=UPPER).when(command).rejected(
        Reason.OPERATION_IN_PROGRESS, "foo@2 is being copied for bug (operation bug.1)"
    )


def test_what_is_executed_waits_until_its_container_was_copied() -> None:
    world = given(*KEPT, unfinished(debug(2)), on=UPPER).world
    world.send(ExecuteInReplicaSet("foo", ("true",)))
    (making,) = world.due()
    assert isinstance(making, MakeDebugImage)
    assert making.pause
    world.succeed(making)
    assert [type(effect) for effect in world.due()] == [CreateContainer, Execute]


def test_it_waits_until_what_it_copies_is_started_again() -> None:
    begun = unfinished(RetryReplicaSet("foo", 1))
    world = given(run(on_exit="restart"), ended("foo"), begun, on=UPPER).world
    world.send(debug())
    (start,) = world.due()
    assert isinstance(start, StartContainer)
    world.succeed(start)
    (making,) = world.due()
    assert isinstance(making, MakeDebugImage)
    assert making.pause
