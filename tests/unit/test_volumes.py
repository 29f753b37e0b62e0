"""The rules for volumes: versions, and who stands still while a disk changes size."""

import pytest

from events.operations import OperationSucceeded
from events.replica_sets import BindMoved
from events.values import Bind
from events.volumes import VolumeDeletionRequested, VolumeVersionAbandoned, VolumeVersionDeclared
from service.domain.commands import (
    Command,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    PatchReplicaSet,
    PauseReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import (
    CreateContainer,
    MakeVolume,
    RemoveVolume,
    Settle,
    SizeVolume,
    StartContainer,
    StopContainer,
)
from service.domain.recovery_commands import RecoverVolume
from service.domain.rejections import Reason
from tests.kit.builders import GIB, facts, mount, patch, remount, resize, run
from tests.kit.gwt import Decided, Step, failing, given, unfinished

DISK = CreateVolume("disk", 2 * GIB)
USER = run(gpu_count=1, mounts=("disk-1",))


@pytest.mark.parametrize(
    ("reason", "history", "command"),
    [
        (Reason.VOLUME_EXISTS, (DISK,), DISK),
        (Reason.VOLUME_EXISTS, (unfinished(DISK),), DISK),
        (Reason.VOLUME_EXISTS, (DISK, unfinished(DeleteVolume("disk"))), DISK),
        (Reason.VOLUME_EXISTS, (run(data_disk_bytes=GIB),), CreateVolume("foo", GIB)),
        (Reason.VOLUME_NOT_FOUND, (), resize("disk", 2)),
        (Reason.VOLUME_NOT_FOUND, (DISK, DeleteVolume("disk")), resize("disk", 2)),
        (Reason.VOLUME_NOT_FOUND, (failing(DISK, MakeVolume),), resize("disk", 2)),
        (Reason.OPERATION_IN_PROGRESS, (unfinished(DISK),), resize("disk", 2)),
        (Reason.OPERATION_IN_PROGRESS, (unfinished(run(data_disk_bytes=GIB)),), resize("foo", 1)),
        (Reason.SAME_SIZE, (DISK, USER, unfinished(patch())), resize("disk", 2)),
        (Reason.VOLUME_BUSY, (DISK, unfinished(USER)), resize("disk", 1)),
        (Reason.VOLUME_BUSY, (DISK, USER, unfinished(patch())), resize("disk", 1)),
        (Reason.VOLUME_NOT_FOUND, (), DeleteVolume("disk")),
        (Reason.OPERATION_IN_PROGRESS, (DISK, unfinished(resize("disk", 1))), DeleteVolume("disk")),
        (Reason.VOLUME_IN_USE, (DISK, USER), DeleteVolume("disk")),
        (Reason.VOLUME_IN_USE, (DISK, USER, StopReplicaSet("foo")), DeleteVolume("disk")),
        (
            Reason.VOLUME_IN_USE,
            (DISK, USER, unfinished(remount(mount("disk-1"), mount("/a")))),
            DeleteVolume("disk"),
        ),
        (Reason.VOLUME_IN_USE, (run(data_disk_bytes=GIB),), DeleteVolume("foo")),
    ],
)
def test_a_command_is_refused(
    reason: Reason, history: tuple[Command | Step, ...], command: Command
) -> None:
    given(*history).when(command).rejected(reason)


def test_create_makes_a_first_version() -> None:
    decided = given().when(DISK)
    decided.then(VolumeVersionDeclared("disk", 1, 2 * GIB, cause="create")).then_due(MakeVolume)
    decided.then_driven()
    assert decided.operation.result == {"name": "disk-1", "size": "2GB"}


def test_a_failed_creation_leaves_nothing_and_its_half_made_disk_is_removed() -> None:
    decided = given().when(DISK)
    decided.world.fail(decided.world.due()[0])
    decided.then_due(RemoveVolume).then_driven()
    assert decided.operation.state == "failed"
    assert decided.state.live_volume("disk") is None


def test_a_name_never_uses_a_version_twice_after_a_deletion() -> None:
    decided = given(DISK, resize("disk", 4), DeleteVolume("disk")).when(DISK)
    decided.then(VolumeVersionDeclared("disk", 3, 2 * GIB, cause="create"))


def test_a_resize_is_the_next_version_of_the_same_disk() -> None:
    decided = given(DISK).when(resize("disk", 4)).then_due(SizeVolume)
    decided.then(VolumeVersionDeclared("disk", 2, 4 * GIB, cause="resize", supersedes=1))
    decided.then_driven()
    assert decided.operation.result == {"name": "disk-2", "size": "4GB"}
    assert [v.made for v in decided.state.volumes["disk"].versions] == [True, True]


@pytest.mark.parametrize(
    ("gib", "grows_online", "shrinks_online", "halts"),
    [
        (1, False, False, True),
        (1, True, False, True),
        (1, False, True, False),
        (1, True, True, False),
        (4, False, False, True),
        (4, True, False, False),
        (4, False, True, True),
        (4, True, True, False),
    ],
)
def test_users_stand_still_unless_the_disk_can_change_size_under_them(
    gib: int, grows_online: bool, shrinks_online: bool, halts: bool
) -> None:
    on = facts(volumes_grow_online=grows_online, volumes_shrink_online=shrinks_online)
    world = given(DISK, USER, on=on)
    decided = world.when(resize("disk", gib))
    decided.then_due(StopContainer if halts else SizeVolume)


def test_the_disk_changes_size_when_all_its_users_stand_still_and_then_they_go_on() -> None:
    history = (DISK, run("foo", 1, mounts=("disk-1",)), run("bar", 1, mounts=("disk-1",)))
    decided = given(*history).when(resize("disk", 1)).then_due(StopContainer, StopContainer)
    world = decided.world
    world.succeed(world.due()[0])
    decided.then_due(StopContainer)
    world.succeed(world.due()[0])
    decided.then_due(SizeVolume)
    assert {unit.holder for unit in decided.state.gpus.values()} == {"foo", "bar"}
    world.succeed(world.due()[0])
    decided.then_due(StartContainer, StartContainer)
    world.succeed(world.due()[1])
    decided.then_due(StartContainer)
    world.succeed(world.due()[0])
    decided.then_due(Settle)


def test_a_failed_resize_lets_the_users_go_on_with_the_size_they_had() -> None:
    decided = given(DISK, USER).when(resize("disk", 1)).then_driven(SizeVolume)
    assert decided.operation.state == "failed"
    assert decided.state.revisions["foo", 1].container == "running"
    volume = decided.state.volumes["disk"]
    assert (volume.current, volume.versions[-1].size_bytes) == (1, 2 * GIB)
    abandoned = [
        e for e in decided.world.records[-1].events if isinstance(e, VolumeVersionAbandoned)
    ]
    assert abandoned == [VolumeVersionAbandoned("disk", 2, 1)]


def test_a_user_that_does_not_start_again_is_paused_and_the_resize_ends() -> None:
    decided = given(DISK, USER).when(resize("disk", 1)).then_driven(StartContainer)
    assert decided.operation.state == "succeeded"
    assert decided.state.replica_sets["foo"].phase == "paused"
    assert decided.state.gpus["gpu-0"].holder == "foo"


@pytest.mark.parametrize("command", [PauseReplicaSet("foo"), StopReplicaSet("foo")])
def test_users_that_stand_still_anyway_stay_so(command: Command) -> None:
    decided = given(DISK, USER, command).when(resize("disk", 1)).then_due(SizeVolume)
    decided.then_driven()
    assert decided.state.revisions["foo", 1].container == "exited"


def sources(decided: Decided, name: str = "foo") -> list[str]:
    """What the current version of a replica set binds."""
    current = decided.state.replica_sets[name].current
    return [bind.source for bind in decided.state.revisions[name, current].spec.binds]


@pytest.mark.parametrize(
    "history", [(), (PauseReplicaSet("foo"),), (StopReplicaSet("foo"),), (patch(),)]
)
def test_who_binds_a_volume_binds_its_next_version_afterwards(
    history: tuple[Command, ...],
) -> None:
    decided = given(DISK, USER, *history).when(resize("disk", 4)).then_driven()
    number = decided.state.replica_sets["foo"].current
    assert decided.world.records[-1].events == (
        BindMoved("foo", number, "disk-1", "disk-2"),
        OperationSucceeded("disk.2", {"name": "disk-2", "size": "4GB"}),
    )
    assert sources(decided) == ["disk-2"]


@pytest.mark.parametrize(
    "command", [run("bar", mounts=("disk-1",)), remount(mount("/x"), mount("disk-1"), "bar")]
)
def test_an_older_version_stands_for_the_disk_as_it_is_now(command: Command) -> None:
    """The engine's volume of the older name may be gone with a host, and Docker would make one."""
    history: tuple[Command, ...] = (DISK, resize("disk", 3))
    if isinstance(command, PatchReplicaSet):
        history = (*history, run("bar", mounts=("/x",)))
    decided = given(*history).when(command).then_driven()
    assert sources(decided, "bar") == ["disk-2"]


def test_every_user_binds_the_next_version_whichever_it_asked_for() -> None:
    users = (run("foo", mounts=("disk-1", "/data")), run("bar", mounts=("disk-2",)))
    decided = given(DISK, resize("disk", 3), *users).when(resize("disk", 4)).then_driven()
    assert [e for e in decided.world.records[-1].events if isinstance(e, BindMoved)] == [
        BindMoved("bar", 1, "disk-2", "disk-3"),
        BindMoved("foo", 1, "disk-2", "disk-3"),
    ]
    assert (sources(decided), sources(decided, "bar")) == (["disk-3", "/data"], ["disk-3"])


def test_who_patches_the_bind_after_a_resize_himself_gets_a_new_version() -> None:
    """The bind is there already; a client of the predecessor expects to be told foo-2."""
    world = given(DISK, USER, resize("disk", 4))
    decided = world.when(remount(mount("disk-1"), Bind("disk-2", "/mnt/disk-1"))).then_driven()
    assert decided.operation.state == "succeeded"
    assert (decided.state.replica_sets["foo"].current, sources(decided)) == (2, ["disk-2"])


def test_after_a_failed_resize_nobody_binds_what_never_was() -> None:
    decided = given(DISK, USER).when(resize("disk", 4)).then_driven(SizeVolume)
    assert sources(decided) == ["disk-1"]


def test_a_roll_back_to_before_a_resize_binds_the_disk_as_it_is_now() -> None:
    history = (DISK, USER, patch(env=("A=1",)), resize("disk", 4))
    decided = given(*history).when(RollBackReplicaSet("foo", 1)).then_driven()
    assert sources(decided) == ["disk-2"]
    assert decided.state.revisions["foo", 1].spec.binds[0].source == "disk-1"


def test_a_roll_back_does_not_bind_a_new_disk_that_has_an_old_ones_name() -> None:
    history = (DISK, USER, remount(mount("disk-1"), mount("/a")), DeleteVolume("disk"), DISK)
    given(*history).when(RollBackReplicaSet("foo", 1)).rejected(Reason.VOLUME_NOT_FOUND, "disk-1")


def test_who_stands_still_for_one_disk_is_not_halted_for_another() -> None:
    """It would start for the first while the second changes size under it."""
    two = (DISK, CreateVolume("other", 2 * GIB), run(mounts=("disk-1", "other-1")))
    for effects_done in range(3):
        world = given(*two, unfinished(resize("disk", 1), effects_done))
        world.when(resize("other", 1)).rejected(Reason.VOLUME_BUSY, "foo", "disk")
    given(*two, resize("disk", 1)).when(resize("other", 1)).then_driven()


def test_a_volume_can_be_mounted_by_any_version_that_it_had() -> None:
    decided = given(DISK, resize("disk", 4)).when(USER).then_driven()
    assert decided.operation.state == "succeeded"


def test_a_volume_is_deleted_with_all_its_versions() -> None:
    decided = given(DISK, resize("disk", 4), USER, DeleteReplicaSet("foo"))
    decided.when(DeleteVolume("disk")).then(VolumeDeletionRequested("disk"))
    (remove,) = decided.world.due()
    assert isinstance(remove, RemoveVolume)
    assert remove.volumes == ("disk-1", "disk-2")
    decided.world.drive()
    assert decided.world.state.live_volume("disk") is None


def test_a_set_that_was_to_mount_it_first_gives_it_free_when_it_fails() -> None:
    world = given(DISK, run(mounts=("/a",)), failing(
        remount(mount("/a"), mount("disk-1")), CreateContainer
    ))
    world.when(DeleteVolume("disk")).then_driven()


def test_a_name_that_a_lost_disk_had_is_free_when_a_new_one_cannot_be_made() -> None:
    lost = (DISK, failing(RecoverVolume("disk", disk=False), MakeVolume), DeleteVolume("disk"))
    again = given(*lost, failing(DISK, MakeVolume)).when(DISK)
    again.then_driven().then_state(lambda state: state.volumes["disk"].versions[-1].made)
