"""A running container that may not use its GPUs any more: what is recorded, and what is done."""

import pytest

from events.observations import GpuAccessLost, GpuAccessRestored, RetryBegun, RetryScheduled
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    PauseReplicaSet,
    RestartReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import StartContainer, StopContainer
from service.domain.observing import SETTLED_S
from service.domain.observing_commands import RetryReplicaSet
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import GIB, facts, patch, resize, run
from tests.kit.gwt import given, steps, unfinished
from tests.kit.retrying import RUN, scheduled
from tests.kit.sightings import access, ended, running
from tests.kit.world import World

COMES_BACK = run("foo", 1, 1, on_gpu_lost="restart")
TWICE = run("foo", 1, 1, on_gpu_lost="restart", max_retries=2)
LOST = GpuAccessLost("foo", 1, "not permitted")


def lost_us(world: World, number: int = 1) -> int:
    return world.state.revisions["foo", number].gpu_access_lost_us


def test_it_is_recorded_once_and_nothing_is_done() -> None:
    decided = given(RUN).when(access())
    decided.then(LOST)
    assert lost_us(decided.world) == 1
    assert decided.world.due() == ()
    given(RUN, access()).when(access()).rejected(Reason.NOTHING_NEW)
    given(RUN, access()).when(access(lost=False)).then(GpuAccessRestored("foo", 1))
    given(RUN).when(access(lost=False)).rejected(Reason.NOTHING_NEW)


@pytest.mark.parametrize(
    "before",
    [
        (run("foo", 0, 1),),
        (COMES_BACK, PauseReplicaSet("foo")),
        (COMES_BACK, StopReplicaSet("foo")),
        (COMES_BACK, ended()),
        (COMES_BACK, DeleteReplicaSet("foo")),
        (COMES_BACK, unfinished(patch("foo"))),
        (RUN, CreateVolume("vol", GIB), unfinished(CommitReplicaSet("foo", "saved:1"))),
    ],
)
def test_of_these_nothing_is_recorded(before: tuple[Command, ...]) -> None:
    given(*before).when(access()).rejected(Reason.NOTHING_NEW)


def test_what_was_looked_at_before_is_an_old_story() -> None:
    given(RUN).when(access(at_seq=1)).rejected(Reason.NOTHING_NEW)


def test_simulated_gpus_cannot_be_lost() -> None:
    on = facts(gpu_runtime="simulated")
    given(COMES_BACK, on=on).when(access()).rejected(Reason.NOTHING_NEW)


def test_with_the_policy_it_is_stopped_and_started_when_it_is_due() -> None:
    decided = given(COMES_BACK).when(access(jitter=1.0))
    decided.then(LOST, scheduled(1, 1.0))
    world = decided.world
    assert world.due() == ()
    assert world.send(RetryReplicaSet("foo", 1)) == (RetryBegun("foo", 1, 1),)
    (stop,) = world.due()
    assert isinstance(stop, StopContainer)
    assert (stop.container, stop.operation_id) == ("foo-1", "")
    world.succeed(stop)
    assert (lost_us(world), world.state.gpus["gpu-0"].holder) == (0, "foo")
    (start,) = world.due()
    assert isinstance(start, StartContainer)
    world.succeed(start)
    assert world.state.revisions["foo", 1].container == "running"
    assert world.due() == ()
    world.check_ended()


def test_it_is_told_once_while_it_waits() -> None:
    given(COMES_BACK, access()).when(access()).rejected(Reason.NOTHING_NEW)


def test_one_that_is_well_again_by_itself_is_left_alone() -> None:
    decided = given(COMES_BACK, access(), access(lost=False)).when(RetryReplicaSet("foo", 1))
    decided.rejected(Reason.NOTHING_NEW)


AGAIN: tuple[Command, ...] = (access(), RetryReplicaSet("foo", 1))


def test_the_pauses_double_while_it_does_not_help_and_end_after_so_many() -> None:
    given(TWICE, *AGAIN).when(access(jitter=1.0)).then(LOST, scheduled(2, 2.0))
    given(TWICE, *AGAIN, access(), RetryReplicaSet("foo", 2)).when(access()).then(LOST)


@pytest.mark.parametrize(("ran_s", "attempt"), [(SETTLED_S - 1, 2), (SETTLED_S, 1)])
def test_a_loss_after_a_long_run_is_a_first_one(ran_s: float, attempt: int) -> None:
    decided = given(TWICE, *AGAIN).when(access(ran_s=ran_s, jitter=1.0))
    decided.then(LOST, scheduled(attempt, attempt))


def test_one_that_is_given_up_is_not_begun_anew_by_time() -> None:
    given(TWICE, *AGAIN, access(), RetryReplicaSet("foo", 2), access()).when(
        access(ran_s=SETTLED_S)
    ).rejected(Reason.NOTHING_NEW)


def test_a_start_that_is_refused_is_tried_again() -> None:
    world = given(COMES_BACK, access(), unfinished(RetryReplicaSet("foo", 1), 1)).world
    events = world.fail(world.due()[0])
    assert not isinstance(events, Rejected)
    assert isinstance(events[-1], RetryScheduled)
    world.send(RetryReplicaSet("foo", events[-1].attempt))
    world.drive()
    assert world.state.revisions["foo", 1].container == "running"


@pytest.mark.parametrize(
    "asked", [StopReplicaSet("foo"), PauseReplicaSet("foo"), DeleteReplicaSet("foo"), patch()]
)
@pytest.mark.parametrize("done", [0, 1])
def test_what_is_asked_while_it_is_started_again_waits_for_it(asked: Command, done: int) -> None:
    world = given(COMES_BACK, access(), unfinished(RetryReplicaSet("foo", 1), done)).world
    begun = [world.due()[0].effect_id]
    assert steps(world, asked)[: 2 - done] == ["retry-stop foo-1", "retry foo-1"][done:]
    assert begun[0].startswith(("retry-stop/", "retry/"))
    assert not any(r.gpu_access_lost_us for r in world.state.revisions.values())


@pytest.mark.parametrize(
    "asked",
    [
        (PauseReplicaSet("foo"), ContinueReplicaSet("foo")),
        (RestartReplicaSet("foo"),),
        (patch("foo"),),
        (running("foo"),),
    ],
)
def test_any_other_start_is_as_good(asked: tuple[Command, ...]) -> None:
    world = given(COMES_BACK, access(), *asked).world
    current = world.state.replica_sets["foo"].current
    assert world.state.revisions["foo", current].container == "running"
    assert (lost_us(world, current), world.state.replica_sets["foo"].retry_due_us) == (0, 0)


def test_a_patch_in_place_carries_it_on_and_the_next_look_schedules_it_anew() -> None:
    world = given(RUN, access()).world
    world.send(patch("foo", on_gpu_lost="restart"))
    world.drive()
    assert (lost_us(world), lost_us(world, 2)) == (0, 1)
    decision = world.send(access(jitter=1.0))
    assert decision == (RetryScheduled("foo", 2, 1, 1_000_001),)


def test_a_stop_for_a_volume_is_as_good() -> None:
    begin = run("foo", 1, mounts=("vol-1",), on_gpu_lost="restart")
    world = given(CreateVolume("vol", 2 * GIB), begin, access(), resize("vol", 1)).world
    assert world.state.revisions["foo", 1].container == "running"
    assert (lost_us(world), world.state.replica_sets["foo"].retry_due_us) == (0, 0)
