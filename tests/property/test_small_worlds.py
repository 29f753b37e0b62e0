"""Small worlds, completely: every sequence of commands, interleaved with effects in every way.

From each world that can be reached the search goes on with every command that is left and with
every outcome of every effect that is due. `World` looks at everything after every record; where
nothing is due any more, every operation must have ended. Worlds that go on the same are visited
once. The search is depth first, so a failing assertion tells one history that leads to it.

Depths are chosen so that all searches together take about a minute.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, get_args

import pytest
from msgspec import Struct

from events.gpu_health import GpuError, GpuReport, MissingGpu
from events.values import Carry
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    ExpireSnapshots,
    ObserveGpus,
    PauseReplicaSet,
    PinRevision,
    QuarantineGpu,
    ReportGpuErrors,
    RestartReplicaSet,
    RestoreGpu,
    RollBackReplicaSet,
    StopReplicaSet,
    UnpinRevision,
)
from service.domain.effects import PutBackDisk, Settle, StartContainer
from service.domain.observing_commands import RetryReplicaSet
from service.domain.rejections import Rejected
from tests.kit.builders import GIB, facts, gpu, mount, patch, remount, resize, run
from tests.kit.gwt import given
from tests.kit.sightings import access, ended, gone, running
from tests.kit.world import NEVER_FAIL, World


class Found(Struct):
    """How much a search has seen."""

    worlds: int
    ends: int


def explore(
    world: World, commands: Sequence[Command], depth: int, *, meddled: bool = False
) -> Found:
    """Every history of at most `depth` accepted commands from here.

    `meddled`: also other processes take host ports, and people remove containers.
    """
    found = Found(0, 0)
    seen: set[bytes] = set()
    waiting = [(world, depth)]
    while waiting:
        here, left = waiting.pop()
        key = blake2b(here.key() + bytes([left]), digest_size=16).digest()
        if key in seen:
            continue
        seen.add(key)
        found.worlds += 1
        if not here.due():
            here.check_ended()
            found.ends += 1
        for effect in here.due():
            there = here.copy()
            assert not isinstance(there.succeed(effect), Rejected)
            waiting.append((there, left))
            if not isinstance(effect, NEVER_FAIL):
                there = here.copy()
                assert not isinstance(there.fail(effect), Rejected)
                waiting.append((there, left))
            if meddled and isinstance(effect, StartContainer) and here.has_ports(effect):
                there = here.copy()
                assert not isinstance(there.refuse_port(effect), Rejected)
                waiting.append((there, left))
            if meddled and isinstance(effect, PutBackDisk):
                there = here.copy()
                assert not isinstance(there.find_gone(effect), Rejected)
                waiting.append((there, left))
        for command in commands if left else ():
            there = here.copy()
            if not isinstance(there.send(command), Rejected):
                waiting.append((there, left - 1))
    return found


def life_of(name: str, gpus: int = 2) -> tuple[Command, ...]:
    """Every command that a replica set knows in its life."""
    return (
        *(run(name, count, ports=1) for count in range(gpus + 1)),
        *(patch(name, count) for count in range(gpus + 1)),
        StopReplicaSet(name),
        PauseReplicaSet(name),
        ContinueReplicaSet(name),
        RestartReplicaSet(name),
        RollBackReplicaSet(name, 1),
        DeleteReplicaSet(name),
    )


CARRIED = [
    pytest.param({"carry": "commit"}, id="images"),
    pytest.param({"carry": "upper", "clones_share_blocks": True}, id="shared"),
    pytest.param({"carry": "upper", "clones_share_blocks": False}, id="copied"),
]
"""The ways to carry a system disk."""

DISK = CreateVolume("disk", 2 * GIB)
OTHER = CreateVolume("other", 2 * GIB)


@pytest.mark.parametrize("carry", get_args(Carry))
def test_two_sets_from_nothing(carry: Carry) -> None:
    world = World(2, facts(3, carry=carry))
    found = explore(world, life_of("foo") + life_of("bar"), depth=3)
    assert found.worlds > 20_000


def test_two_sets_that_have_all_gpus_between_them() -> None:
    world = given(run("foo", 1, ports=1), run("bar", 1, ports=1), on=facts(3)).world
    found = explore(world, life_of("foo") + life_of("bar"), depth=2)
    assert found.worlds > 4_000


@pytest.mark.parametrize("carried", CARRIED)
def test_one_set_for_long(carried: dict[str, Any]) -> None:
    found = explore(World(2, facts(2, **carried)), life_of("foo"), depth=4)
    assert found.worlds > 10_000


@pytest.mark.parametrize("carried", CARRIED)
def test_kept_disks_that_are_pinned_and_given_up(carried: dict[str, Any]) -> None:
    """Versions in place and on another image among them."""
    on = facts(2, keep_revisions=1, **carried)
    world = given(run("foo", memory_bytes=GIB), patch("foo"), gpus=0, on=on).world
    commands = (
        patch("foo"),
        patch("foo", memory_bytes=2 * GIB),
        patch("foo", image="b:1"),
        PinRevision("foo", 1),
        PinRevision("foo", 2),
        UnpinRevision("foo", 1),
        ExpireSnapshots("foo"),
        ExpireSnapshots("foo", "1GB were free"),
        RollBackReplicaSet("foo", 1),
        RollBackReplicaSet("foo", 2),
        PauseReplicaSet("foo"),
        DeleteReplicaSet("foo"),
    )
    assert explore(world, commands, depth=3).worlds > 1_500


@pytest.mark.parametrize("carried", CARRIED)
def test_versions_in_place_after_each_other(carried: dict[str, Any]) -> None:
    on = facts(2, keep_revisions=0, gpu_runtime="cdi", **carried)
    world = given(run("foo", 1, ports=1, memory_bytes=GIB), gpus=2, on=on).world
    commands = (
        patch("foo", memory_bytes=2 * GIB),
        patch("foo", memory_bytes=GIB),
        patch("foo", memory_bytes=0),
        patch("foo", 2),
        PinRevision("foo", 1),
        ExpireSnapshots("foo"),
        RollBackReplicaSet("foo", 1),
        RollBackReplicaSet("foo", 2),
        RestartReplicaSet("foo"),
        ExecuteInReplicaSet("foo", ("true",)),
    )
    assert explore(world, commands, depth=3).worlds > 1_000


def test_ports_that_do_not_suffice() -> None:
    commands = (*life_of("foo", gpus=0), run("bar", ports=2), patch("bar"), DeleteReplicaSet("bar"))
    assert explore(World(0, facts(2)), commands, depth=4).worlds > 1_000


def test_a_set_and_its_data_disk() -> None:
    commands = (
        run("foo", 1, data_disk_bytes=GIB),
        run("foo", mounts=("foo-1",)),
        run("foo", mounts=("foo-1", "foo-2"), data_disk_bytes=GIB),
        patch("foo"),
        StopReplicaSet("foo"),
        RestartReplicaSet("foo"),
        DeleteReplicaSet("foo"),
        CreateVolume("foo", GIB),
        resize("foo", 4),
        DeleteVolume("foo"),
    )
    assert explore(World(1, facts(2)), commands, depth=5).worlds > 4_000


def test_a_volume_that_comes_and_goes() -> None:
    commands = (
        DISK,
        resize("disk", 1),
        resize("disk", 4),
        DeleteVolume("disk"),
        run("foo", 1, mounts=("disk-1",)),
        patch("foo"),
        PauseReplicaSet("foo"),
        ContinueReplicaSet("foo"),
        DeleteReplicaSet("foo"),
    )
    assert explore(World(1, facts(2)), commands, depth=5).worlds > 2_000


@pytest.mark.parametrize(("grows", "shrinks"), [(False, False), (True, False), (True, True)])
def test_two_disks_that_change_size_under_their_users(grows: bool, shrinks: bool) -> None:
    on = facts(2, volumes_grow_online=grows, volumes_shrink_online=shrinks)
    world = given(DISK, OTHER, run("foo", 1, 1, ("disk-1", "other-1")), gpus=1, on=on).world
    commands = (
        resize("disk", 1),
        resize("disk", 4),
        resize("other", 1),
        DeleteVolume("other"),
        patch("foo"),
        StopReplicaSet("foo"),
        PauseReplicaSet("foo"),
        ContinueReplicaSet("foo"),
        RollBackReplicaSet("foo", 1),
        DeleteReplicaSet("foo"),
        remount(mount("other-1"), mount("/data")),
        run("bar", mounts=("disk-1",)),
        DeleteReplicaSet("bar"),
    )
    assert explore(world, commands, depth=3).worlds > 5_000


def test_executions_and_commits_beside_everything_and_gpus_that_come_and_go() -> None:
    world = given(run("foo", 1, ports=1), on=facts(3)).world
    commands = (
        ExecuteInReplicaSet("foo", ("true",)),
        CommitReplicaSet("foo", "saved:1"),
        patch("foo", 2),
        StopReplicaSet("foo"),
        RestartReplicaSet("foo"),
        DeleteReplicaSet("foo"),
        run("bar", 1, ports=1),
        ObserveGpus((gpu(1),)),
        ObserveGpus((gpu(0), gpu(1))),
    )
    assert explore(world, commands, depth=3).worlds > 4_000


def test_gpus_that_fall_ill_and_recover_under_their_holders() -> None:
    on = facts(3, gpu_runtime="cdi")
    world = given(run("foo", 1, ports=1, memory_bytes=GIB), on=on).world
    both = (gpu(0), gpu(1))
    commands = (
        ReportGpuErrors((GpuError("gpu-0", 79),), "b1"),
        ObserveGpus(both, (GpuReport("gpu-0", ecc_uncorrected=1),), boot="b1"),
        ObserveGpus(both, (GpuReport("gpu-1", pids=(7,)),), boot="b1"),
        ObserveGpus((gpu(1),), missing=(MissingGpu(0, True, "lost"),), boot="b1"),
        ObserveGpus(both, boot="b2"),
        QuarantineGpu("gpu-1", "noise"),
        RestoreGpu("gpu-0"),
        RestoreGpu("gpu-1"),
        patch("foo"),
        patch("foo", 2),
        patch("foo", memory_bytes=2 * GIB),
        RestartReplicaSet("foo"),
        run("bar", 1),
    )
    assert explore(world, commands, depth=2).worlds > 1_500


@pytest.mark.parametrize("carried", CARRIED)
@pytest.mark.parametrize("kept_up", [{}, {"on_exit": "restart", "max_retries": 1}])
def test_what_happens_by_itself_between_any_two_steps(
    kept_up: dict[str, Any], carried: dict[str, Any]
) -> None:
    begin = run("foo", 1, ports=1, **kept_up)
    world = given(begin, patch("foo"), on=facts(3, **carried)).world
    commands: tuple[Command, ...] = (
        *life_of("foo", gpus=1),
        *(ended("foo"), ended("foo", 137, with_engine=True), gone("foo"), running("foo")),
        *(RetryReplicaSet("foo", attempt) for attempt in range(2)),
        CommitReplicaSet("foo", "saved:1"),
    )
    assert explore(world, commands, depth=3).worlds > 1_500


def test_gpus_that_are_lost_between_any_two_steps() -> None:
    begin = run("foo", 1, mounts=("disk-1",), on_gpu_lost="restart", max_retries=1)
    commands: tuple[Command, ...] = (
        *(access("foo"), access("foo", lost=False), RetryReplicaSet("foo", 1)),
        *(patch("foo"), patch("foo", memory_bytes=GIB), resize("disk", 1)),
        *(PauseReplicaSet("foo"), ContinueReplicaSet("foo"), ended("foo"), running("foo")),
    )
    assert explore(given(DISK, begin).world, commands, depth=3).worlds > 300


@pytest.mark.parametrize("carried", CARRIED)
def test_meddlers_at_any_step(carried: dict[str, Any]) -> None:
    world = World(1, facts(3, **carried))
    commands = (
        *(run("foo", 1, ports=1, on_exit="restart"), patch("foo"), RestartReplicaSet("foo")),
        *(PauseReplicaSet("foo"), ContinueReplicaSet("foo"), DeleteReplicaSet("foo")),
        *(ended("foo"), RetryReplicaSet("foo", 1)),
    )
    assert explore(world, commands, depth=3, meddled=True).worlds > 1_000


@pytest.mark.parametrize("kept_up", [{}, {"on_exit": "restart"}])
def test_what_happens_by_itself_while_disks_change_size(kept_up: dict[str, Any]) -> None:
    begin = run("foo", mounts=("disk-1",), **kept_up)
    commands: tuple[Command, ...] = (
        *(resize("disk", 1), resize("disk", 4), patch("foo"), PauseReplicaSet("foo")),
        *(ContinueReplicaSet("foo"), DeleteReplicaSet("foo")),
        *(ended("foo"), ended("foo", 137, with_engine=True), gone("foo"), running("foo")),
        *(RetryReplicaSet("foo", attempt) for attempt in range(2)),
    )
    assert explore(given(DISK, begin).world, commands, depth=4).worlds > 1_500


def test_a_search_finds_what_nobody_ends() -> None:
    """The search itself: a world with an operation that nothing ends must not pass."""
    world = World(0)
    world.send(DISK)
    (make,) = world.due()
    world.succeed(make)
    (settle,) = world.due()
    assert isinstance(settle, Settle)
    world._due = {}
    with pytest.raises(AssertionError, match=r"disk\.1.* wait for ever"):
        explore(world, (), depth=0)
