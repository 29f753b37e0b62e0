"""The rules for what callers ask of a replica set as it stands."""

import pytest

from events.replica_sets import (
    ExecutionRequested,
    ImageCommitRequested,
    PhaseRequested,
    ReplicaSetDeleted,
)
from events.resources import GpusReleased, PortsReleased
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import (
    CommitImage,
    Execute,
    RemoveContainer,
    RemoveSnapshot,
    Settle,
    StartContainer,
    StopContainer,
)
from service.domain.rejections import Reason
from tests.kit.builders import GIB, PORT_FIRST, patch, resize, run
from tests.kit.gwt import Step, failing, given, unfinished

COMMIT = CommitReplicaSet("foo", "saved:1")
EXECUTE = ExecuteInReplicaSet("foo", ("nvidia-smi",), "/root")
PHASE_COMMANDS: list[Command] = [
    StopReplicaSet("foo"),
    PauseReplicaSet("foo"),
    ContinueReplicaSet("foo"),
    DeleteReplicaSet("foo"),
]


@pytest.mark.parametrize("command", [*PHASE_COMMANDS, COMMIT, EXECUTE])
def test_nothing_can_be_asked_of_a_name_that_is_not_there(command: Command) -> None:
    given().when(command).rejected(Reason.REPLICA_SET_NOT_FOUND, "foo")
    given(run(), DeleteReplicaSet("foo")).when(command).rejected(Reason.REPLICA_SET_NOT_FOUND)


@pytest.mark.parametrize("command", [*PHASE_COMMANDS, COMMIT])
@pytest.mark.parametrize("going_on", [patch(), StopReplicaSet("foo"), COMMIT])
def test_one_operation_at_a_time(command: Command, going_on: Command) -> None:
    world = given(run(), unfinished(going_on))
    world.when(command).rejected(Reason.OPERATION_IN_PROGRESS, "foo.2")


@pytest.mark.parametrize("command", [*PHASE_COMMANDS, COMMIT])
def test_a_set_waits_while_its_volume_is_being_changed(command: Command) -> None:
    history: tuple[Command | Step, ...] = (
        CreateVolume("disk", 2 * GIB),
        run(mounts=("disk-1",)),
        unfinished(resize("disk", 1), effects_done=1),
    )
    given(*history).when(command).rejected(Reason.VOLUME_BUSY, "disk")


@pytest.mark.parametrize(
    ("reason", "history", "command"),
    [
        (Reason.NOT_RUNNING, (unfinished(run()),), EXECUTE),
        (Reason.NOT_RUNNING, (run(), PauseReplicaSet("foo")), EXECUTE),
        (Reason.NOT_RUNNING, (run(), StopReplicaSet("foo")), EXECUTE),
        (Reason.NOT_RUNNING, (run(), unfinished(StopReplicaSet("foo"))), EXECUTE),
        (Reason.NOT_RUNNING, (run(), unfinished(patch())), EXECUTE),
        (Reason.STOPPED, (run(), StopReplicaSet("foo")), PauseReplicaSet("foo")),
        (Reason.STOPPED, (run(), StopReplicaSet("foo")), ContinueReplicaSet("foo")),
        (
            Reason.STOPPED,
            (run(), StopReplicaSet("foo"), failing(patch(), StartContainer)),
            ContinueReplicaSet("foo"),
        ),
    ],
)
def test_what_it_is_decides_what_can_be_asked(
    reason: Reason, history: tuple[Command | Step, ...], command: Command
) -> None:
    given(*history).when(command).rejected(reason)


def test_after_a_stop_continue_is_refused_for_its_gpus_may_be_somebody_elses() -> None:
    """Predecessor: continue starts the container with GPUs that were lent again."""
    world = given(run(gpu_count=2), StopReplicaSet("foo"), run("bar", 2))
    world.when(ContinueReplicaSet("foo")).rejected(Reason.STOPPED, "restart")


def test_stop_gives_back_only_what_was_seen_stopped() -> None:
    """Predecessor: GPUs are given back before Docker has removed the container."""
    decided = given(run(gpu_count=1, ports=1)).when(StopReplicaSet("foo"))
    decided.then(PhaseRequested("foo", "stopped"))
    for effect in (StopContainer, Settle):
        assert decided.state.gpus["gpu-0"].holder == "foo"
        assert PORT_FIRST in decided.state.ports
        decided.then_due(effect)
        decided.world.succeed(decided.world.due()[0])
    assert [unit.holder for unit in decided.state.gpus.values()] == [None, None]
    assert not decided.state.ports


def test_delete_gives_back_only_what_was_seen_removed() -> None:
    decided = given(run(gpu_count=1, ports=1)).when(DeleteReplicaSet("foo"))
    for effect in (StopContainer, RemoveContainer, Settle):
        assert decided.state.gpus["gpu-0"].holder == "foo"
        assert PORT_FIRST in decided.state.ports
        decided.then_due(effect)
        decided.world.succeed(decided.world.due()[0])
    assert decided.state.gpus["gpu-0"].holder is None
    assert decided.state.live("foo") is None


def test_stop_then_delete_frees_once_and_nobody_elses() -> None:
    """Predecessor: stop then delete frees the same GPUs twice, and another container's."""
    world = given(run(gpu_count=1, ports=1), StopReplicaSet("foo"), run("bar", 1, ports=1))
    decided = world.when(DeleteReplicaSet("foo")).then_driven()
    freed = [
        (event.name, event.revision)
        for record in decided.world.records
        for event in record.events
        if isinstance(event, GpusReleased | PortsReleased)
    ]
    assert freed == [("foo", 1), ("foo", 1)]
    assert decided.state.gpus["gpu-0"].holder == "bar"


def test_pause_keeps_leases_and_continue_starts_the_same_container() -> None:
    world = given(run(gpu_count=1, ports=1), PauseReplicaSet("foo"), run("bar", 1, ports=1))
    assert world.world.state.gpus["gpu-0"].holder == "foo"
    decided = world.when(ContinueReplicaSet("foo")).then_due(StartContainer)
    effect = decided.world.due()[0]
    assert effect.number == 1
    decided.then_driven()
    assert decided.state.revisions["foo", 1].container == "running"


def test_a_continue_that_fails_leaves_it_paused() -> None:
    world = given(run(gpu_count=1), PauseReplicaSet("foo"))
    decided = world.when(ContinueReplicaSet("foo")).then_driven(StartContainer)
    assert decided.operation.state == "failed"
    assert decided.state.replica_sets["foo"].phase == "paused"
    assert decided.state.gpus["gpu-0"].holder == "foo"


@pytest.mark.parametrize(
    ("history", "command"),
    [
        ((), ContinueReplicaSet("foo")),
        ((PauseReplicaSet("foo"),), PauseReplicaSet("foo")),
        ((StopReplicaSet("foo"),), StopReplicaSet("foo")),
    ],
)
def test_to_where_it_is_already_is_done_at_once(
    history: tuple[Command, ...], command: Command
) -> None:
    decided = given(run(gpu_count=1), *history).when(command).then_due(Settle).then_driven()
    assert decided.operation.state == "succeeded"


def test_a_paused_one_can_be_stopped_and_gives_back() -> None:
    world = given(run(gpu_count=1), PauseReplicaSet("foo"))
    decided = world.when(StopReplicaSet("foo")).then_due(Settle).then_driven()
    assert decided.state.gpus["gpu-0"].holder is None


def test_delete_drops_kept_system_disks_and_leaves_the_history_and_volumes() -> None:
    world = given(run(data_disk_bytes=GIB), patch(), patch())
    decided = world.when(DeleteReplicaSet("foo"))
    dropped = []
    while decided.world.due():
        effect = decided.world.due()[0]
        dropped += [effect.number] if isinstance(effect, RemoveSnapshot) else []
        decided.world.succeed(effect)
    assert dropped == [1, 2]
    assert [number for _, number in decided.state.revisions] == [1, 2, 3]
    assert decided.state.live_volume("foo") is not None
    assert "foo" not in decided.state.volume_users
    assert any(isinstance(e, ReplicaSetDeleted) for e in decided.world.records[-1].events)


@pytest.mark.parametrize(
    ("history", "pause"), [((), True), ((PauseReplicaSet("foo"),), False)]
)
def test_commit_saves_the_current_revision(history: tuple[Command, ...], pause: bool) -> None:
    decided = given(run(), *history).when(COMMIT)
    decided.then(ImageCommitRequested("foo", 1, "saved:1")).then_due(CommitImage)
    (effect,) = decided.world.due()
    assert isinstance(effect, CommitImage)
    assert (effect.container, effect.image, effect.pause) == ("foo-1", "saved:1", pause)
    decided.then_driven()
    assert decided.operation.result == {"imageName": "saved:1"}
    given(run(), COMMIT).when(COMMIT).then_due(CommitImage)  # the same again is a new image


def test_a_commit_that_fails_changes_nothing() -> None:
    decided = given(run(gpu_count=1)).when(COMMIT).then_driven(CommitImage)
    assert decided.operation.state == "failed"
    replica_set = decided.state.replica_sets["foo"]
    assert (replica_set.phase, replica_set.operation) == ("running", None)
    assert decided.state.revisions["foo", 1].container == "running"


def test_commands_are_executed_beside_each_other_and_beside_a_commit() -> None:
    decided = given(run(), unfinished(EXECUTE), unfinished(COMMIT)).when(EXECUTE)
    decided.then(ExecutionRequested("foo.4", "foo", 1, ("nvidia-smi",), "/root"))
    decided.then_due(Execute, CommitImage).then_driven()
    assert decided.operation.result["exitCode"] == 0


def test_a_command_that_fails_fails_alone() -> None:
    decided = given(run()).when(EXECUTE).then_driven(Execute)
    assert decided.operation.state == "failed"
    assert decided.state.replica_sets["foo"].executions == ()
    assert decided.state.revisions["foo", 1].container == "running"


def test_a_commit_does_not_freeze_what_executes_something() -> None:
    world = given(run("foo")).world
    world.send(ExecuteInReplicaSet("foo", ("true",)))
    world.send(CommitReplicaSet("foo", "mine:1"))
    world.send(ExecuteInReplicaSet("foo", ("later",)))
    execute, commit = world.due()
    assert isinstance(execute, Execute)
    assert execute.cmd == ("true",)
    assert isinstance(commit, CommitImage)
    assert not commit.pause
    world.succeed(execute)
    (commit,) = world.due()
    assert isinstance(commit, CommitImage)
    assert commit.pause
    world.succeed(commit)
    assert [type(effect) for effect in world.due()] == [Execute, Settle]
