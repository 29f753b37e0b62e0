"""Small worlds whose host is lost between any two steps, and recovered: completely."""

from typing import Any

import pytest

from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DebugReplicaSet,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    ObserveGpus,
    PauseReplicaSet,
    StopReplicaSet,
)
from service.domain.reconcile import SNAPSHOT_REPOSITORY
from service.domain.recovery_commands import RecoverReplicaSet, RecoverVolume
from tests.kit.builders import GIB, IMAGE_ID, facts, patch, resize, run
from tests.kit.gwt import given
from tests.kit.world import World
from tests.property.test_small_worlds import CARRIED, DISK, explore


@pytest.mark.parametrize("carried", CARRIED[:2])
def test_a_host_that_is_lost_between_any_two_steps(carried: dict[str, Any]) -> None:
    """With all that was kept, with nothing of it, and with a container that is there still."""
    begin = run("foo", 1, ports=1, mounts=("disk-1",), memory_bytes=GIB)
    world = given(DISK, begin, on=facts(2, gpu_runtime="cdi", **carried)).world
    names = [f"foo-{number}-foo.{count}" for number in (1, 2) for count in range(2, 6)]
    kept = (*names, *(f"{SNAPSHOT_REPOSITORY}:{name}" for name in names))
    commands: tuple[Command, ...] = (
        RecoverReplicaSet("foo"),
        RecoverReplicaSet("foo", kept=kept, images=(IMAGE_ID,)),
        RecoverReplicaSet("foo", containers=(1,), kept=kept, images=(IMAGE_ID,)),
        RecoverVolume("disk", disk=False),
        *(ObserveGpus(()), resize("disk", 4), ExecuteInReplicaSet("foo", ("true",))),
        *(patch("foo"), patch("foo", memory_bytes=2 * GIB), CommitReplicaSet("foo", "saved:1")),
        *(StopReplicaSet("foo"), PauseReplicaSet("foo"), ContinueReplicaSet("foo")),
        DeleteReplicaSet("foo"),
    )
    assert explore(world, commands, depth=3).worlds > 3_000


@pytest.mark.parametrize("carried", CARRIED[:2])
def test_a_host_that_is_lost_while_a_disk_is_copied(carried: dict[str, Any]) -> None:
    """For a debug copy: the disk, the copy, or both are not here."""
    world = given(run("foo"), patch("foo"), gpus=1, on=facts(2, **carried)).world
    kept = ("foo-1-foo.2", f"{SNAPSHOT_REPOSITORY}:foo-1-foo.2")
    commands: tuple[Command, ...] = (
        DebugReplicaSet("dbg", "foo", 1, gpu_count=1),
        DebugReplicaSet("dbg", "foo", 2),
        RecoverReplicaSet("foo"),
        RecoverReplicaSet("foo", kept=kept, images=(IMAGE_ID,)),
        RecoverReplicaSet("foo", containers=(2,), kept=kept, images=(IMAGE_ID,)),
        RecoverReplicaSet("dbg"),
        RecoverReplicaSet("dbg", containers=(1,)),
        DeleteReplicaSet("foo"),
    )
    assert explore(world, commands, depth=3).worlds > 500


def test_a_host_that_is_lost_while_a_data_disk_is_made_or_was() -> None:
    commands: tuple[Command, ...] = (
        run("foo", data_disk_bytes=GIB),
        *(RecoverVolume("foo", disk=False), RecoverVolume("foo", disk=True)),
        *(RecoverReplicaSet("foo"), RecoverReplicaSet("foo", containers=(1,))),
        *(DeleteReplicaSet("foo"), DeleteVolume("foo"), CreateVolume("foo", GIB)),
    )
    assert explore(World(1, facts(2)), commands, depth=4).worlds > 100


def test_a_port_that_another_process_has_when_what_was_recovered_is_continued() -> None:
    """It never ran, and is made anew for it: also that can fail."""
    world = given(run("foo", ports=1), PauseReplicaSet("foo"), gpus=0, on=facts(3)).world
    commands = (RecoverReplicaSet("foo"), ContinueReplicaSet("foo"), DeleteReplicaSet("foo"))
    assert explore(world, commands, depth=3, meddled=True).worlds > 100
