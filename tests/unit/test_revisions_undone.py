"""What a failed run, patch, restart or roll back leaves behind: what was there before it."""

import pytest

from events.replica_sets import RevisionAbandoned
from service.domain.commands import Command, PauseReplicaSet, StopReplicaSet
from service.domain.effects import (
    CreateContainer,
    EnsureImage,
    MakeVolume,
    PutBackDisk,
    RemoveContainer,
    RemoveVolume,
    StartContainer,
    TakeSnapshot,
)
from tests.kit.builders import GIB, PORT_FIRST, facts, patch, run
from tests.kit.gwt import given, unfinished


@pytest.mark.parametrize("failing_effect", [EnsureImage, CreateContainer, StartContainer])
def test_a_failed_run_gives_everything_back(failing_effect: type[EnsureImage]) -> None:
    decided = given().when(run(gpu_count=2, ports=2, data_disk_bytes=GIB))
    decided.then_driven(failing_effect)
    state = decided.state
    assert decided.operation.state == "failed"
    assert decided.operation.message == "the engine does not want to"
    assert {unit.holder for unit in state.gpus.values()} == {None}
    assert not state.ports
    assert state.live("foo") is None
    assert state.live_volume("foo") is None
    assert not state.revisions


def test_a_failed_run_removes_its_data_disk_only_when_its_container_is_gone() -> None:
    world = given(unfinished(run(data_disk_bytes=GIB), effects_done=3)).world
    (start,) = world.due()
    assert isinstance(start, StartContainer)
    world.fail(start)
    (remove,) = world.due()
    assert isinstance(remove, RemoveContainer)
    world.succeed(remove)
    assert [type(effect) for effect in world.due()] == [RemoveVolume]


def test_a_failed_data_disk_fails_the_run() -> None:
    decided = given().when(run(gpu_count=1, data_disk_bytes=GIB)).then_driven(MakeVolume)
    assert decided.operation.state == "failed"
    assert decided.state.live_volume("foo") is None
    assert decided.state.gpus["gpu-0"].holder is None


@pytest.mark.parametrize("failing_effect", [TakeSnapshot, CreateContainer, StartContainer])
def test_a_failed_patch_leaves_the_data_disk_alone(failing_effect: type[TakeSnapshot]) -> None:
    decided = given(run(data_disk_bytes=GIB)).when(patch(memory_bytes=GIB))
    decided.then_driven(failing_effect)
    volume = decided.state.live_volume("foo")
    assert volume is not None
    assert not volume.deleting
    assert volume.versions[0].made


@pytest.mark.parametrize("failing_effect", [TakeSnapshot, CreateContainer])
@pytest.mark.parametrize("before", ["running", "paused", "stopped"])
def test_a_failed_patch_goes_back_with_leases_as_before(
    failing_effect: type[TakeSnapshot], before: str
) -> None:
    history: list[Command] = [run(gpu_count=1, ports=1), run("bar", 1)]
    if before == "paused":
        history.append(PauseReplicaSet("foo"))
    if before == "stopped":
        history.append(StopReplicaSet("foo"))
    world = given(*history, gpus=3)
    gpus, ports = dict(world.world.state.gpus), dict(world.world.state.ports)
    decided = world.when(patch(gpu_count=2)).then_driven(failing_effect)
    state = decided.state
    assert decided.operation.state == "failed"
    assert (state.gpus, state.ports) == (gpus, ports)
    assert state.replica_sets["foo"].phase == before
    assert state.replica_sets["foo"].current == 1
    running = state.revisions["foo", 1].container == "running"
    assert running == (before == "running")
    assert state.revisions["foo", 1].snapshot is None


def test_when_the_old_container_does_not_start_again_it_is_paused_with_its_leases() -> None:
    world = given(run(gpu_count=1, ports=1))
    decided = world.when(patch(gpu_count=2)).then_driven(CreateContainer, StartContainer)
    state = decided.state
    assert state.replica_sets["foo"].phase == "paused"
    assert state.gpus["gpu-0"].revisions == (1,)
    assert state.gpus["gpu-1"].holder is None
    assert state.ports[PORT_FIRST].revisions == (1,)


def test_a_failed_patch_is_no_version() -> None:
    decided = given(run()).when(patch()).then_driven(CreateContainer)
    abandoned = [
        event
        for record in decided.world.records
        for event in record.events
        if isinstance(event, RevisionAbandoned)
    ]
    assert abandoned == [RevisionAbandoned("foo", 2, 1, "running")]
    assert ("foo", 2) not in decided.state.revisions


@pytest.mark.parametrize("lost", [False, True])
def test_when_the_old_container_is_gone_its_disk_is_kept_unless_it_was_put_back(lost: bool) -> None:
    world = given(run(), on=facts(carry="upper")).world
    world.send(patch(env=("A=1",)))
    while world.due():
        effect = world.due()[0]
        if isinstance(effect, PutBackDisk):
            world.find_gone(effect, lost=lost)
        elif isinstance(effect, StartContainer):
            world.fail(effect)
        else:
            world.succeed(effect)
    revision = world.state.revisions["foo", 1]
    assert world.state.replica_sets["foo"].phase == "stopped"
    assert (revision.snapshot is None) == lost
    assert bool(revision.gone) == lost
