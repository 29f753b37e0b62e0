"""Versions that need no container of their own: the running one is given other limits."""

import pytest

from events.operations import OperationFailed, OperationSucceeded
from events.outcomes import ContainerRemoved
from events.record import Event
from events.replica_sets import RevisionAbandoned, RevisionDeclared, RevisionRetired
from events.resources import GpusLeased, GpusReleased, PortsLeased, PortsReleased
from service.domain.commands import (
    Command,
    ContinueReplicaSet,
    CreateVolume,
    DeleteVolume,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    PinRevision,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import (
    CreateContainer,
    Effect,
    Execute,
    FillDisk,
    Settle,
    StartContainer,
    TakeSnapshot,
    UpdateContainer,
)
from service.domain.rejections import Reason
from tests.kit.builders import GIB, facts, mount, patch, run
from tests.kit.gwt import Given, given, steps, unfinished
from tests.kit.world import FAILURE

LIMITED = run(gpu_count=1, ports=1, memory_bytes=GIB)
BIGGER, BIGGEST = patch(memory_bytes=2 * GIB), patch(memory_bytes=3 * GIB)
ON = facts(gpu_runtime="cdi", carry="upper", clones_share_blocks=True)


def limited(*history: Command) -> Given:
    """foo-1 runs with a limit, a GPU and a port; and then this."""
    return given(LIMITED, *history, on=ON)


@pytest.mark.parametrize(
    ("history", "command"),
    [
        ((), BIGGER),
        ((), patch(memory_bytes=GIB // 2)),
        ((), patch(nano_cpus=5, pids_limit=7)),
        ((BIGGER,), BIGGEST),
        ((BIGGER,), RollBackReplicaSet("foo", 1)),
        ((PauseReplicaSet("foo"), ContinueReplicaSet("foo")), BIGGER),
        ((patch(),), BIGGER),
    ],
)
def test_other_limits_are_two_steps(history: tuple[Command, ...], command: Command) -> None:
    world = limited(*history).world
    name = f"foo-{world.state.replica_sets['foo'].newest + 1}"
    assert steps(world, command) == [f"update-{name}", "settle"]


@pytest.mark.parametrize(
    ("history", "command"),
    [
        ((), patch()),
        ((), patch(memory_bytes=0)),
        ((), patch(shm_bytes=GIB)),
        ((), patch(memory_bytes=2 * GIB, env=("A=1",))),
        ((), patch(memory_bytes=2 * GIB, image="train:2")),
        ((), patch(gpu_count=0)),
        ((PauseReplicaSet("foo"),), BIGGER),
        ((StopReplicaSet("foo"),), BIGGER),
        ((BIGGER,), RestartReplicaSet("foo")),
        ((BIGGER, patch(env=("A=1",))), RollBackReplicaSet("foo", 2)),
    ],
)
def test_anything_else_is_another_container(
    history: tuple[Command, ...], command: Command
) -> None:
    made = [step for step in steps(limited(*history).world, command) if step[:6] == "create"]
    assert len(made) == 1


def test_a_container_with_gpus_of_the_hook_is_created_anew() -> None:
    world = given(LIMITED, on=facts(carry="upper")).world
    assert "create-foo-2" in steps(world, BIGGER)


def test_it_is_handed_in_as_a_runtime_of_now_and_kept_as_the_one_it_began_with() -> None:
    """What the container got its GPUs by does not change with the settings."""
    world = limited()
    world.world.facts = facts(gpu_runtime="nvidia", carry="commit")
    decided = world.when(BIGGER)
    declared = decided.events[0]
    assert isinstance(declared, RevisionDeclared)
    assert (declared.in_place, declared.copies) == (True, False)
    assert declared.gpu_runtime == "cdi"


def test_all_that_it_has_passes_over_to_the_next_version() -> None:
    decided = limited().when(BIGGER)
    ports = decided.state.revisions["foo", 1].ports
    decided.then(
        RevisionDeclared(
            name="foo",
            number=2,
            cause="patch",
            spec=decided.state.revisions["foo", 2].spec,
            gpus=("gpu-0",),
            ports=ports,
            gpu_runtime="cdi",
            supersedes=1,
            disk_from=1,
            in_place=True,
        ),
        GpusLeased("foo", 2, ("gpu-0",)),
        PortsLeased("foo", 2, ports),
    )
    (update,) = decided.world.due()
    assert update == UpdateContainer(
        "foo.2/update-foo-2",
        "foo.2",
        "foo",
        2,
        was="foo-1",
        container="foo-2",
        resources={"Memory": 2 * GIB, "MemorySwap": 4 * GIB},
    )
    before = decided.state.revisions["foo", 1]
    decided.world.succeed(update)
    old, new = (decided.state.revisions["foo", number] for number in (1, 2))
    assert (old.container, old.continued_as, old.snapshot) == ("removed", 2, None)
    kept = ("container", "container_id", "started_at", "image_id", "base_image", "origin")
    assert [getattr(new, name) for name in kept] == [getattr(before, name) for name in kept]
    assert new.container == "running"


def test_a_container_that_stays_has_the_label_and_the_variable_it_was_made_with() -> None:
    """Neither can be changed; its image and its config say the version that they were made for."""
    world = limited(BIGGER, BIGGEST)
    assert [world.world.state.revisions["foo", n].made_as for n in (1, 2, 3)] == [0, 1, 1]
    decided = world.when(patch(env=("A=1",))).then_driven()
    assert decided.state.revisions["foo", 4].made_as == 0


def settled(world: Given, command: Command, *fails: type[Effect]) -> tuple[Event, ...]:
    """What ends a command."""
    return world.when(command).then_driven(*fails).world.records[-1].events


def test_its_leases_are_given_back_by_the_version_before() -> None:
    world = limited()
    assert settled(world, BIGGER) == (
        RevisionRetired("foo", 1),
        GpusReleased("foo", 1, ("gpu-0",)),
        PortsReleased("foo", 1, (40000,)),
        OperationSucceeded("foo.2", {"containerName": "foo-2"}),
    )
    assert world.world.state.gpus["gpu-0"].revisions == (2,)


def test_refused_limits_leave_the_container_as_it_was() -> None:
    world = limited()
    before = world.world.state.revisions["foo", 1]
    assert settled(world, BIGGER, UpdateContainer) == (
        GpusReleased("foo", 2, ("gpu-0",)),
        PortsReleased("foo", 2, (40000,)),
        RevisionAbandoned("foo", 2, 1, "running"),
        OperationFailed("foo.2", FAILURE.reason, FAILURE.message),
    )
    state = world.world.state
    assert state.revisions["foo", 1] == before
    assert (state.replica_sets["foo"].current, state.gpus["gpu-0"].revisions) == (1, (1,))


def test_refused_limits_never_remove_a_container() -> None:
    world = limited(BIGGER).world
    done = steps(world, BIGGEST, lambda effect: isinstance(effect, UpdateContainer))
    assert done == ["update-foo-3!", "settle"]
    assert steps(world, BIGGEST) == ["update-foo-3", "settle"]


def test_a_roll_back_to_a_version_that_went_on_keeps_the_disk_it_has() -> None:
    decided = limited(BIGGER, BIGGEST).when(RollBackReplicaSet("foo", 1)).then_driven()
    back = decided.state.revisions["foo", 4]
    assert (back.disk_from, back.rolled_back_to, back.in_place) == (3, 1, True)
    assert back.spec == LIMITED.spec
    assert decided.state.replica_sets["foo"].snapshots == ()


def test_a_roll_back_that_needs_a_container_of_its_own_takes_the_disk_along() -> None:
    """foo-1 had no limit, and Docker can take none away."""
    world = given(run(), BIGGER, on=ON)
    decided = world.when(RollBackReplicaSet("foo", 1))
    assert decided.state.revisions["foo", 3].disk_from == 2
    fills = []
    while decided.world.due():
        effect = decided.world.due()[0]
        fills += [effect.image] if isinstance(effect, FillDisk) else []
        decided.world.succeed(effect)
    assert fills == [decided.state.revisions["foo", 2].snapshot]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_roll_back_to_any_of_a_chain_takes_the_disk_kept_of_its_last(version: int) -> None:
    world = limited(BIGGER, BIGGEST, patch(env=("A=1",)))
    state = world.world.state
    assert state.replica_sets["foo"].snapshots == (3,)
    decided = world.when(RollBackReplicaSet("foo", version))
    back = decided.state.revisions["foo", 5]
    assert (back.disk_from, back.rolled_back_to, back.in_place) == (3, version, False)
    assert back.spec == state.revisions["foo", version].spec
    decided.then_driven()
    assert decided.operation.state == "succeeded"
    assert decided.state.revisions["foo", 5].filled


def test_the_next_container_starts_with_the_disk_of_the_one_that_went_on() -> None:
    done = steps(limited(BIGGER).world, patch(env=("A=1",)))
    assert done == [
        "create-foo-3",
        "stop-foo-2",
        "snapshot-foo-2",
        "fill-foo-3",
        "start-foo-3",
        "remove-foo-2",
        "settle",
    ]


@pytest.mark.parametrize(
    "failing_effect", [CreateContainer, TakeSnapshot, FillDisk, StartContainer]
)
def test_a_failed_patch_goes_back_to_a_version_in_place(failing_effect: type[Effect]) -> None:
    decided = limited(BIGGER).when(patch(env=("A=1",)))
    decided.world.drive(
        lambda effect: isinstance(effect, failing_effect)
        and not (isinstance(effect, StartContainer) and effect.number == 2)
    )
    events = [event for record in decided.world.records for event in record.events]
    assert [e.revision for e in events if isinstance(e, ContainerRemoved)] == [3]
    back = decided.state.revisions["foo", 2]
    assert (back.container, back.snapshot) == ("running", None)
    assert decided.operation.state == "failed"


def test_a_pin_goes_on_with_the_disk() -> None:
    world = limited(PinRevision("foo", 1), BIGGER, patch(env=("A=1",)))
    assert [world.world.state.revisions["foo", n].pinned for n in (1, 2, 3)] == [False, True, False]


def test_a_volume_stays_mounted_and_in_use() -> None:
    disk = CreateVolume("disk", GIB)
    world = given(disk, run(mounts=("disk-1",)), BIGGER, on=ON)
    assert world.world.state.revisions["foo", 2].spec.binds == (mount("disk-1"),)
    world.when(DeleteVolume("disk")).rejected(Reason.VOLUME_IN_USE)


def test_nothing_is_executed_while_the_container_changes_its_name() -> None:
    execute = ExecuteInReplicaSet("foo", ("true",))
    given(LIMITED, unfinished(BIGGER), on=ON).when(execute).rejected(Reason.NOT_RUNNING)
    given(LIMITED, unfinished(BIGGER, 1), on=ON).when(execute).then_due(Execute, Settle)


def test_a_command_meant_for_the_version_before_runs_in_the_same_container() -> None:
    world = limited().world
    execute, update = ExecuteInReplicaSet("foo", ("true",)), BIGGER
    world.send(execute)
    world.send(update)
    world.succeed(next(e for e in world.due() if isinstance(e, UpdateContainer)))
    due = next(e for e in world.due() if isinstance(e, Execute))
    assert (due.number, due.container) == (1, "foo-2")


def test_a_refused_rollback_names_those_that_can_be_had() -> None:
    unknown = RollBackReplicaSet("foo", 9)
    limited(BIGGER).when(unknown).rejected(Reason.REVISION_NOT_FOUND, "roll back to: 1")
    limited(BIGGER, patch()).when(unknown).rejected(Reason.REVISION_NOT_FOUND, "to: 1, 2")
    limited(patch(gpu_count=0)).when(unknown).rejected(Reason.REVISION_NOT_FOUND, "to: 1")
