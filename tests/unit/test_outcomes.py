"""Reports of what the engine did: what is due becomes a fact, an old story changes nothing."""

import pytest
from msgspec.structs import replace

from events.operations import OperationFailed, OperationProgressed, OperationSucceeded
from events.outcomes import (
    CommandExecuted,
    ContainerCreated,
    ContainerRemoved,
    ContainerStarted,
    ContainerStopped,
    ContainerUpdated,
    EffectFailed,
    ImageCommitted,
    ImageResolved,
    SnapshotCompacted,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskFilled,
    SystemDiskPrecopied,
    VolumeMade,
    VolumeRemoved,
)
from events.record import Event
from events.replica_sets import PhaseRequested
from events.volumes import VolumeDeletionRequested
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    ExpireSnapshots,
    Failed,
    PauseReplicaSet,
    RecordOutcome,
    RecordProgress,
    StopReplicaSet,
    Succeeded,
)
from service.domain.effects import CreateContainer, Effect, Execute, Settle, StartContainer
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import (
    GIB,
    IMAGE,
    IMAGE_CMD,
    IMAGE_ENV,
    IMAGE_ID,
    facts,
    patch,
    resize,
    run,
)
from tests.kit.gwt import Step, given, unfinished
from tests.kit.world import FAILURE, World, success_of

EXECUTE = ExecuteInReplicaSet("foo", ("true",))
SNAPSHOT = "gpuledger/snapshot:foo-1-foo.2"


@pytest.mark.parametrize(
    ("history", "event"),
    [
        (
            (unfinished(run()),),
            ImageResolved("foo", 1, IMAGE, IMAGE_ID, IMAGE_ENV, IMAGE_CMD),
        ),
        (
            (unfinished(run(), 1),),
            ContainerCreated("foo", 1, "id of foo-1", "foo.1/create-foo-1", IMAGE_ID),
        ),
        ((unfinished(run(), 2),), ContainerStarted("foo", 1, "i")),
        ((run(), unfinished(StopReplicaSet("foo"))), ContainerStopped("foo", 1, 0)),
        ((run(), unfinished(DeleteReplicaSet("foo"), 1)), ContainerRemoved("foo", 1)),
        ((run(), unfinished(patch(), 1)), SnapshotTaken("foo", 1, SNAPSHOT, 1)),
        (
            (run(), patch(), unfinished(DeleteReplicaSet("foo"), 2)),
            SnapshotRemoved("foo", 1, SNAPSHOT),
        ),
        (
            (run(), unfinished(CommitReplicaSet("foo", "saved:1"))),
            ImageCommitted("foo", 1, "saved:1", IMAGE_ID, 1),
        ),
        ((unfinished(CreateVolume("disk", GIB)),), VolumeMade("disk", 1)),
        ((CreateVolume("disk", GIB), unfinished(resize("disk", 2))), VolumeMade("disk", 2)),
        ((CreateVolume("disk", GIB), unfinished(DeleteVolume("disk"))), VolumeRemoved("disk")),
    ],
)
def test_what_is_due_and_was_done_becomes_a_fact(
    history: tuple[Command | Step, ...], event: Event
) -> None:
    world = given(*history).world
    (effect,) = world.due()
    assert world.succeed(effect) == (event,)
    assert world.records[-1].operation_id == effect.operation_id


COPYING = facts(carry="upper")
"""Directories are carried, on a file system that cannot share their blocks."""

KEPT = "foo-1-foo.2"
LIMITED = run(memory_bytes=GIB)


@pytest.mark.parametrize(
    ("history", "event"),
    [
        ((LIMITED, unfinished(patch(memory_bytes=2 * GIB))), ContainerUpdated("foo", 2)),
        ((run(), unfinished(patch(), 1)), SystemDiskPrecopied("foo", 2, 1)),
        ((run(), unfinished(patch(), 3)), SnapshotTaken("foo", 1, KEPT, 1, "upper")),
        ((run(), unfinished(patch(), 4)), SystemDiskFilled("foo", 2, KEPT)),
        (
            (run(), patch(), unfinished(patch(), 8)),
            SnapshotCompacted("foo", 2, "foo-2-foo.3", 1),
        ),
    ],
)
def test_what_was_done_with_directories_becomes_a_fact(
    history: tuple[Command | Step, ...], event: Event
) -> None:
    world = given(*history, on=COPYING).world
    (effect,) = world.due()
    assert world.succeed(effect) == (event,)
    assert world.records[-1].operation_id == effect.operation_id


def test_a_disk_that_was_given_up_is_gone_for_the_reason_that_was_decided() -> None:
    world = given(
        run(), patch(), patch(), ExpireSnapshots("foo"), on=facts(keep_revisions=0)
    ).world
    removed = [e for e in world.records[-1].events if isinstance(e, SnapshotRemoved)]
    assert removed == [SnapshotRemoved("foo", 1, SNAPSHOT, "0 newer ones are kept")]


def test_what_only_saves_space_fails_without_undoing_anything_and_once() -> None:
    world = given(run(), patch(), unfinished(patch(), 8), on=COPYING).world
    (effect,) = world.due()
    compacted = SnapshotCompacted("foo", 2, "foo-2-foo.3", 0, FAILURE.message)
    assert world.fail(effect) == (compacted,)
    assert world.due() == ()
    assert {operation.state for operation in world.state.operations.values()} == {"succeeded"}


def test_an_execution_ends_its_operation_in_the_same_record() -> None:
    world = given(run(), unfinished(EXECUTE)).world
    facts = {"exit_code": 3, "duration_us": 41_500, "stdout_bytes": 7, "stderr_bytes": 1}
    result = {"exitCode": 3, "durationMs": 41, "stdoutBytes": 7, "stderrBytes": 1}
    assert world.report(world.due()[0], Succeeded(facts)) == (
        CommandExecuted("foo.2", "foo", 1, 3, 41_500, 7, 1),
        OperationSucceeded("foo.2", result),
    )


def failed(effect: Effect, kind: str = "replica_set") -> EffectFailed:
    """The event that says that an effect was refused."""
    return EffectFailed(
        effect.operation_id,
        effect.effect_id,
        type(effect).__name__,
        kind,
        effect.name,
        effect.number,
        FAILURE.reason,
        FAILURE.message,
    )


@pytest.mark.parametrize(
    ("history", "more"),
    [
        ((unfinished(run(gpu_count=1)),), ()),
        ((unfinished(run(data_disk_bytes=GIB), 2),), (VolumeDeletionRequested("foo"),)),
        ((run(data_disk_bytes=GIB), unfinished(patch(), 1)), ()),
        ((run(data_disk_bytes=GIB), unfinished(patch(), 3)), ()),
        (
            (run(), PauseReplicaSet("foo"), unfinished(ContinueReplicaSet("foo"))),
            (PhaseRequested("foo", "paused"),),
        ),
        (
            (run(), unfinished(EXECUTE)),
            (OperationFailed("foo.2", FAILURE.reason, FAILURE.message),),
        ),
    ],
)
def test_what_is_due_and_was_refused_says_what_is_undone(
    history: tuple[Command | Step, ...], more: tuple[Event, ...]
) -> None:
    world = given(*history).world
    (effect,) = world.due()
    assert world.fail(effect) == (failed(effect), *more)


def test_a_data_disk_is_asked_to_go_once() -> None:
    world = given(unfinished(run(data_disk_bytes=GIB))).world
    (make,) = world.due()
    assert world.fail(make) == (failed(make, "volume"),)
    world.drive()


def test_the_caller_is_told_the_engines_own_words() -> None:
    world = given(unfinished(run())).world
    world.report(world.due()[0], Failed("image_not_found", "No such image: train:1"))
    world.drive()
    operation = world.state.operations["foo.1"]
    assert (operation.reason, operation.message) == ("image_not_found", "No such image: train:1")
    assert "EnsureImage failed: No such image: train:1" in [step.text for step in operation.steps]


@pytest.mark.parametrize("outcome", [FAILURE, Succeeded({"image_id": "sha256:other"})])
def test_a_report_that_comes_late_or_twice_changes_nothing(outcome: Succeeded | Failed) -> None:
    world = given(unfinished(run(gpu_count=1))).world
    (effect,) = world.due()
    for _ in range(4):  # it is late at every step that follows, and after the end
        world.succeed(world.due()[0])
        given_up = given_late(world, effect, outcome)
        assert given_up.reason == Reason.STALE_OUTCOME
    assert not world.due()


def given_late(world: World, effect: Effect, outcome: Succeeded | Failed) -> Rejected:
    """The refusal of a late report; the state is as before."""
    before, seq = world.key(), world.state.seq
    decision = world.send(RecordOutcome(effect, outcome))
    assert isinstance(decision, Rejected)
    assert (world.key(), world.state.seq) == (before, seq)
    return decision


def test_a_report_on_another_operation_is_none_on_this() -> None:
    world = given(unfinished(run())).world
    (effect,) = world.due()
    other = replace(effect, effect_id="foo.9/image-foo-1")
    assert given_late(world, other, success_of(other)).reason == Reason.STALE_OUTCOME


def test_a_settlement_before_its_time_is_refused() -> None:
    world = given(unfinished(run(gpu_count=1))).world
    early = Settle("foo.1/settle", "foo.1", "foo", 1, "replica_set")
    assert given_late(world, early, Succeeded()).reason == Reason.STALE_OUTCOME


def test_a_second_failure_while_undoing_does_not_ask_again_for_the_disk_to_go() -> None:
    world = given(run(), unfinished(patch(), 3)).world
    (start,) = world.due()
    assert isinstance(start, StartContainer)
    world.fail(start)
    world.drive(lambda effect: isinstance(effect, StartContainer))
    assert world.state.replica_sets["foo"].phase == "paused"


def test_progress_is_kept_on_the_operation_while_the_effect_is_due() -> None:
    world = given(unfinished(run())).world
    (effect,) = world.due()
    assert world.progress(effect, 10, 100) == (
        OperationProgressed("foo.1", "EnsureImage", 10, 100),
    )
    operation = world.state.operations["foo.1"]
    assert (operation.progress_step, operation.progress_done_bytes) == ("EnsureImage", 10)
    assert world.due() == (effect,)
    world.succeed(effect)
    late = world.send(RecordProgress(effect, 20, 100))
    assert isinstance(late, Rejected)
    assert late.reason == Reason.STALE_OUTCOME


def test_an_execution_outlives_its_container_and_still_ends() -> None:
    world = given(run(), unfinished(EXECUTE), unfinished(DeleteReplicaSet("foo"), 0)).world
    execute = next(effect for effect in world.due() if isinstance(effect, Execute))
    while others := [effect for effect in world.due() if effect != execute]:
        world.succeed(others[0])
    assert world.state.live("foo") is None
    world.fail(execute)
    world.check_ended()


def test_the_create_effect_is_the_same_after_a_crash() -> None:
    """Its id and body come from the state alone, so an engine that has it knows it again."""
    (before,) = given(unfinished(run(gpu_count=1), 1)).world.due()
    (after,) = given(unfinished(run(gpu_count=1), 1)).world.due()
    assert isinstance(before, CreateContainer)
    assert before == after
