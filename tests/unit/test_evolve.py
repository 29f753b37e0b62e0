"""What each event makes of the state."""

from typing import get_args

import pytest

from events.operations import (
    OperationFailed,
    OperationProgressed,
    OperationSucceeded,
)
from events.outcomes import (
    CommandExecuted,
    ContainerCreated,
    ContainerRemoved,
    ContainerStarted,
    ContainerStopped,
    EffectFailed,
    ImageCommitted,
    ImageResolved,
    SnapshotRemoved,
    SnapshotTaken,
)
from events.record import Event
from events.replica_sets import (
    ExecutionRequested,
    ImageCommitRequested,
    PhaseRequested,
    ReplicaSetDeleted,
    RevisionAbandoned,
    RevisionRetired,
)
from events.resources import (
    GpuDisappeared,
)
from projections.evolve import FOLDS
from projections.state import (
    FINISHED_OPERATIONS_MAX,
    Execution,
    Failure,
    Step,
)
from tests.kit.folds import SSH, Fold, declared, empty_node, running_set


@pytest.fixture
def fold() -> Fold:
    return empty_node()


@pytest.fixture
def ran() -> Fold:
    return running_set()


def test_every_event_has_a_fold() -> None:
    assert set(FOLDS) == set(get_args(Event))


def test_the_state_knows_its_seq_and_what_was_touched(fold: Fold) -> None:
    assert fold.state.seq == 3
    assert fold.state.touched == {("node", "n1", 0), ("gpus", "GPU-a", 0), ("gpus", "GPU-b", 0)}
    fold.state.forget_touched()
    fold(GpuDisappeared("GPU-b"))
    assert fold.state.touched == {("gpus", "GPU-b", 0)}


def test_a_copy_goes_its_own_way(ran: Fold) -> None:
    before = ran.state.copy()
    ran.accept("stop", PhaseRequested("foo", "stopped"))
    assert before.replica_sets["foo"].phase == "running"
    assert before.replica_sets["foo"].operation is None


# -- operations -------------------------------------------------------------------------------


def test_an_accepted_operation_occupies_its_replica_set(fold: Fold) -> None:
    fold.accept("run", declared(1), id="op-1")
    operation = fold.state.operations["op-1"]
    assert (operation.seq, operation.accepted_us, operation.actor) == (4, 40, "ann")
    assert (operation.verb, operation.tenant, operation.state) == ("run", "lab", "running")
    assert fold.state.replica_sets["foo"].operation == "op-1"
    assert fold.state.replica_sets["foo"].updated_us == 40


def test_an_execution_occupies_nothing(ran: Fold) -> None:
    ran.accept("execute", ExecutionRequested("op-x", "foo", 1, ("ls",), "/"), id="op-x")
    foo = ran.state.replica_sets["foo"]
    assert foo.operation is None
    assert foo.executions == (Execution("op-x", 1, ("ls",), "/"),)


def test_progress_and_steps_are_kept_with_the_operation(fold: Fold) -> None:
    fold.accept("run", declared(1), id="op-1")
    fold(OperationProgressed("op-1", "pull", 5, 9, "layers"), operation="op-1")
    fold(ImageResolved("foo", 1, "a:1", "sha256:0"), operation="op-1")
    operation = fold.state.operations["op-1"]
    assert (operation.progress_step, operation.message) == ("pull", "layers")
    assert (operation.progress_done_bytes, operation.progress_total_bytes) == (5, 9)
    assert operation.steps == (Step(60, "image a:1 is there"),)


def test_success_ends_the_operation_and_frees_the_replica_set(ran: Fold) -> None:
    operation = ran.state.operations["op-run"]
    assert (operation.state, operation.result) == ("succeeded", {"name": "foo-1"})
    assert operation.finished_seq == ran.state.seq
    assert operation.finished_us == ran.state.seq * 10
    assert ran.state.replica_sets["foo"].operation is None


def test_failure_keeps_its_reason(ran: Fold) -> None:
    operation = ran.accept("stop", PhaseRequested("foo", "stopped"))
    ran(OperationFailed(operation, "engine", "no"), operation=operation)
    ended = ran.state.operations[operation]
    assert (ended.state, ended.reason, ended.message) == ("failed", "engine", "no")
    assert ran.state.replica_sets["foo"].operation is None


def test_an_operation_ends_once(ran: Fold) -> None:
    ran(OperationFailed("op-run", "engine", "no"))
    assert ran.state.operations["op-run"].state == "succeeded"
    assert list(ran.state.finished) == ["op-run"]


def test_what_is_said_of_an_unknown_operation_changes_nothing(ran: Fold) -> None:
    before = dict(ran.state.operations)
    ran(OperationProgressed("?", "pull", 1, 2), OperationSucceeded("?"), operation="?")
    assert ran.state.operations == before


def test_the_oldest_ended_operations_leave_memory(ran: Fold) -> None:
    ran.accept("execute", id="op-going-on")
    ran.state.forget_touched()
    for number in range(FINISHED_OPERATIONS_MAX):
        ran.accept("execute", id=f"x{number}")
        ran(OperationSucceeded(f"x{number}"))
    assert len(ran.state.finished) == FINISHED_OPERATIONS_MAX
    assert "op-run" not in ran.state.operations
    assert set(ran.state.operations) == {"op-going-on", *ran.state.finished}
    assert not ran.state.evicted  # its row was taken, so nothing needs it any more


def test_an_operation_that_leaves_memory_is_kept_until_its_row_is_taken(fold: Fold) -> None:
    for number in range(FINISHED_OPERATIONS_MAX + 1):
        fold.accept("execute", id=f"x{number}")
        fold(OperationSucceeded(f"x{number}"))
    assert list(fold.state.evicted) == ["x0"]
    assert fold.state.evicted["x0"].state == "succeeded"
    fold.state.forget_touched()
    assert not fold.state.evicted


def test_operations_ended_by_one_record_are_queued_by_age(fold: Fold) -> None:
    for name in "abc":
        fold.accept("execute", id=name)
    fold(OperationSucceeded("c"))
    fold(OperationSucceeded("b"), OperationSucceeded("a"))
    assert list(fold.state.finished) == ["c", "a", "b"]


# -- replica sets -----------------------------------------------------------------------------


def test_a_declared_revision_is_current(fold: Fold) -> None:
    fold.accept("run", declared(1, data_volume="foo"))
    revision = fold.state.revisions["foo", 1]
    assert (revision.gpus, revision.ports) == (("GPU-a",), (SSH,))
    assert (revision.created_us, revision.container) == (40, "absent")
    assert revision.data_volume == "foo"
    foo = fold.state.live("foo")
    assert foo is not None
    assert (foo.current, foo.previous, foo.newest, foo.phase) == (1, None, 1, "running")


def test_a_revision_takes_the_place_of_another_until_that_is_retired(ran: Fold) -> None:
    ran.accept("patch", declared(2, supersedes=1, disk_from=1, rolled_back_to=1))
    foo = ran.state.replica_sets["foo"]
    assert (foo.current, foo.previous, foo.newest) == (2, 1, 2)
    revision = ran.state.revisions["foo", 2]
    assert (revision.supersedes, revision.disk_from, revision.rolled_back_to) == (1, 1, 1)
    ran(RevisionRetired("foo", 1))
    assert ran.state.replica_sets["foo"].previous is None
    assert ("foo", 1) in ran.state.revisions


def test_an_abandoned_revision_never_was(ran: Fold) -> None:
    ran.accept("patch", declared(2, supersedes=1))
    ran.state.forget_touched()
    ran(RevisionAbandoned("foo", 2, 1, "running"))
    assert ("foo", 2) not in ran.state.revisions
    assert ("revisions", "foo", 2) in ran.state.touched
    foo = ran.state.replica_sets["foo"]
    assert (foo.current, foo.previous, foo.newest, foo.phase) == (1, None, 1, "running")


def test_a_first_revision_abandoned_leaves_no_live_replica_set(fold: Fold) -> None:
    fold.accept("run", declared(1))
    fold(RevisionAbandoned("foo", 1, 0, "deleted"))
    assert fold.state.live("foo") is None
    assert fold.state.replica_sets["foo"].newest == 0


def test_a_phase_can_be_asked_for_and_the_one_before_is_known(ran: Fold) -> None:
    ran.accept("pause", PhaseRequested("foo", "paused"), id="op-p")
    foo = ran.state.replica_sets["foo"]
    assert (foo.phase, foo.phase_before) == ("paused", "running")
    ran(OperationSucceeded("op-p"))
    ran.accept("stop", PhaseRequested("foo", "stopped"))
    foo = ran.state.replica_sets["foo"]
    assert (foo.phase, foo.phase_before) == ("stopped", "paused")


def test_a_deleted_replica_set_keeps_its_numbers(ran: Fold) -> None:
    ran(SnapshotTaken("foo", 1, "s:1", 5))
    ran(ReplicaSetDeleted("foo"))
    assert ran.state.live("foo") is None
    foo = ran.state.replica_sets["foo"]
    assert (foo.phase, foo.current, foo.newest, foo.snapshots) == ("deleted", 0, 1, ())


def test_an_image_is_asked_for_committed_and_forgotten(ran: Fold) -> None:
    operation = ran.accept("commit", ImageCommitRequested("foo", 1, "mine:1"))
    assert ran.state.replica_sets["foo"].image_commit == "mine:1"
    ran(ImageCommitted("foo", 1, "mine:1", "sha256:1", 2 << 30), operation=operation)
    assert ran.state.replica_sets["foo"].committed == "mine:1"
    assert ran.state.operations[operation].steps[-1].text == "saved as mine:1 (2GB)"
    ran(OperationSucceeded(operation), operation=operation)
    foo = ran.state.replica_sets["foo"]
    assert (foo.image_commit, foo.committed) == (None, None)


# -- what the engine did ----------------------------------------------------------------------


def test_the_container_of_a_revision_is_followed(fold: Fold) -> None:
    fold.accept("run", declared(1))
    fold(ImageResolved("foo", 1, "a:1", "sha256:0"))
    assert fold.state.revisions["foo", 1].image_id == "sha256:0"
    fold(ContainerCreated("foo", 1, "id-1", "e-1"))
    revision = fold.state.revisions["foo", 1]
    assert (revision.container, revision.container_id) == ("created", "id-1")
    fold(ContainerStarted("foo", 1, "2026-01-01T00:00:00Z"))
    revision = fold.state.revisions["foo", 1]
    assert (revision.container, revision.started_at) == ("running", "2026-01-01T00:00:00Z")
    fold(ContainerStopped("foo", 1, 137))
    revision = fold.state.revisions["foo", 1]
    assert (revision.container, revision.exit_code) == ("exited", 137)
    fold(ContainerStarted("foo", 1, "2026-01-02T00:00:00Z"))
    assert fold.state.revisions["foo", 1].exit_code is None
    fold(ContainerRemoved("foo", 1))
    assert fold.state.revisions["foo", 1].container == "removed"


def test_snapshots_are_listed_oldest_first(ran: Fold) -> None:
    ran.accept("patch", declared(2, supersedes=1))
    ran(SnapshotTaken("foo", 1, "s:1", 5))
    ran(SnapshotTaken("foo", 2, "s:2", 5))
    foo, revision = ran.state.replica_sets["foo"], ran.state.revisions["foo", 1]
    assert (foo.snapshots, revision.snapshot) == ((1, 2), "s:1")
    ran(SnapshotRemoved("foo", 1, "s:1"))
    foo, revision = ran.state.replica_sets["foo"], ran.state.revisions["foo", 1]
    assert (foo.snapshots, revision.snapshot) == ((2,), None)


def test_executions_end_each_on_their_own(ran: Fold) -> None:
    for name in "xyz":
        ran.accept("execute", ExecutionRequested(name, "foo", 1, ("ls",)), id=name)
    ran(CommandExecuted("y", "foo", 1, 3, 10, 0, 0), operation="y")
    assert [e.operation_id for e in ran.state.replica_sets["foo"].executions] == ["x", "z"]
    assert ran.state.operations["y"].steps[-1].text == "exit code 3"
    failed = EffectFailed("x", "e", "Execute", "replica_set", "foo", 1, "not_running", "no")
    ran(failed, operation="x")
    assert [e.operation_id for e in ran.state.replica_sets["foo"].executions] == ["z"]
    assert ran.state.replica_sets["foo"].failure is None


def test_a_failed_effect_is_the_operations_until_that_ends(ran: Fold) -> None:
    operation = ran.accept("patch", declared(2, supersedes=1))
    refused = ("PullImage", "replica_set", "foo", 2, "image_not_found", "no such image")
    ran(EffectFailed("another", "e", *refused), operation="another")
    failures = [ran.state.replica_sets["foo"].failure]
    ran(EffectFailed(operation, "e", *refused), operation=operation)
    failures.append(ran.state.replica_sets["foo"].failure)
    ran(OperationFailed(operation, "image_not_found", "no"), operation=operation)
    failures.append(ran.state.replica_sets["foo"].failure)
    assert failures == [None, Failure("image_not_found", "no such image"), None]
