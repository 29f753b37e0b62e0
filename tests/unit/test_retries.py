"""An ended container that is started again: when, how often, and beside whatever is asked."""

import pytest
from msgspec.structs import replace

from events.observations import RetryBegun, RetryScheduled
from events.outcomes import EffectFailed
from events.record import Event
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    DeleteReplicaSet,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    StopReplicaSet,
)
from service.domain.decide import decide
from service.domain.effects import Settle, StartContainer, StopContainer
from service.domain.observing import ENGINE_RETRIES_MAX, RETRY_S_MAX, SETTLED_S
from service.domain.observing_commands import RetryReplicaSet
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import GIB, facts, patch, resize, run
from tests.kit.gwt import given, steps, unfinished
from tests.kit.retrying import EXITED, GIVEN_UP, KEEPS_ON, RUN, TWICE, scheduled
from tests.kit.sightings import ended
from tests.kit.world import World


@pytest.mark.parametrize(
    ("attempt", "jitter", "due_s"),
    [(1, 0.0, 0.5), (1, 1.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 2.0), (9, 1.0, 256.0)],
)
def test_the_pause_doubles_and_is_spread_over_half_of_it(
    attempt: int, jitter: float, due_s: float
) -> None:
    before = RetryScheduled("foo", 1, attempt - 1, 0)
    decided = given(KEEPS_ON, before).when(ended(jitter=jitter))
    decided.then(EXITED, scheduled(attempt, due_s))


@pytest.mark.parametrize("attempt", [10, 50, 10_000])
def test_the_pause_has_an_end(attempt: int) -> None:
    before = RetryScheduled("foo", 1, attempt - 1, 0)
    decided = given(KEEPS_ON, before).when(ended(jitter=1.0))
    decided.then(EXITED, scheduled(attempt, RETRY_S_MAX))


def test_it_keeps_what_it_holds_while_it_waits() -> None:
    state = given(KEEPS_ON, ended()).world.state
    assert state.replica_sets["foo"].phase == "running"
    assert (state.gpus["gpu-0"].holder, list(state.ports)) == ("foo", [40000])


def test_it_begins_when_it_is_due() -> None:
    decided = given(KEEPS_ON, ended()).when(RetryReplicaSet("foo", 1))
    decided.then(RetryBegun("foo", 1, 1))
    (effect,) = decided.world.due()
    assert isinstance(effect, StartContainer)
    assert (effect.container, effect.operation_id) == ("foo-1", "")
    decided.world.drive()
    assert decided.state.revisions["foo", 1].container == "running"
    assert decided.state.replica_sets["foo"].retry == 1


@pytest.mark.parametrize("attempt", [0, 2])
def test_another_attempt_is_an_old_story(attempt: int) -> None:
    given(KEEPS_ON, ended()).when(RetryReplicaSet("foo", attempt)).rejected(Reason.NOTHING_NEW)


def test_not_before_its_time() -> None:
    world = given(KEEPS_ON, ended()).world
    due_us = world.state.replica_sets["foo"].retry_due_us
    early = world._envelope(RetryReplicaSet("foo", 1), "early")
    assert early.issued_at_us == due_us
    # The world sends it when it is due; a clock that is behind does not.
    decision = decide(world.state, replace(early, issued_at_us=due_us - 1))
    assert isinstance(decision, Rejected)


def test_not_twice() -> None:
    history = (KEEPS_ON, ended(), unfinished(RetryReplicaSet("foo", 1)))
    given(*history).when(RetryReplicaSet("foo", 1)).rejected(Reason.NOTHING_NEW)


@pytest.mark.parametrize(
    "asked", [StopReplicaSet("foo"), PauseReplicaSet("foo"), DeleteReplicaSet("foo"), patch()]
)
def test_not_once_something_else_was_asked(asked: Command) -> None:
    decided = given(KEEPS_ON, ended(), asked).when(RetryReplicaSet("foo", 1))
    decided.rejected(Reason.NOTHING_NEW)


def test_it_is_given_up_after_so_many() -> None:
    history = (TWICE, ended(), RetryReplicaSet("foo", 1), ended(), RetryReplicaSet("foo", 2))
    given(*history).when(ended()).then(EXITED, *GIVEN_UP)


def test_the_last_of_them_is_still_tried() -> None:
    history = (TWICE, ended(), RetryReplicaSet("foo", 1))
    given(*history).when(ended()).then(EXITED, scheduled(2, 1.0))


@pytest.mark.parametrize(("ran_s", "attempt"), [(SETTLED_S - 1, 3), (SETTLED_S, 1)])
def test_after_a_long_run_it_begins_anew(ran_s: float, attempt: int) -> None:
    before = RetryScheduled("foo", 1, 2, 0)
    decided = given(KEEPS_ON, before).when(ended(ran_s=ran_s, jitter=1.0))
    decided.then(EXITED, scheduled(attempt, 2 ** (attempt - 1)))


def test_a_refused_start_counts_as_an_end() -> None:
    world = given(TWICE, ended(), unfinished(RetryReplicaSet("foo", 1))).world
    events = world.fail(world.due()[0])
    assert not isinstance(events, Rejected)
    assert isinstance(events[0], EffectFailed)
    assert events[1:] == (RetryScheduled("foo", 1, 2, 2_000_000),)
    world.send(RetryReplicaSet("foo", 2))
    events = world.fail(world.due()[0])
    assert not isinstance(events, Rejected)
    assert events[1:] == GIVEN_UP


def test_what_ended_with_the_engine_is_tried_for_a_while() -> None:
    told = refused_again_and_again(given(RUN, ended(with_engine=True)).world, 0)
    assert len(told) == ENGINE_RETRIES_MAX + 1
    assert told[-1] == GIVEN_UP


def test_what_ended_with_the_engine_is_tried_for_a_while_also_on_its_last_retry() -> None:
    history = (TWICE, ended(), RetryReplicaSet("foo", 1), ended(), RetryReplicaSet("foo", 2))
    told = refused_again_and_again(given(*history, ended(with_engine=True)).world, 2)
    assert len(told) == ENGINE_RETRIES_MAX + 1
    assert told[-1] == GIVEN_UP


def test_starts_that_the_engine_refused_are_none_of_its_retries() -> None:
    world = given(TWICE, ended(with_engine=True), unfinished(RetryReplicaSet("foo", 0))).world
    for pause_s in (1, 2, 4):
        events = world.fail(world.due()[0])
        assert not isinstance(events, Rejected)
        now_us = world.now_us
        (again,) = events[1:]
        assert isinstance(again, RetryScheduled)
        assert (again.attempt, again.due_us) == (0, now_us + pause_s * 1_000_000)
        world.now_us = again.due_us
        world.send(RetryReplicaSet("foo", 0))
    world.drive()
    assert world.state.revisions["foo", 1].refused == 0
    events = world.send(ended(jitter=1.0))
    assert not isinstance(events, Rejected)
    assert isinstance(events[1], RetryScheduled)
    assert events[1].attempt == 1


def refused_again_and_again(world: World, attempt: int) -> list[tuple[Event, ...]]:
    """What follows from each refusal, until it is given up."""
    told: list[tuple[Event, ...]] = []
    while not told or isinstance(told[-1][0], RetryScheduled):
        assert not isinstance(world.send(RetryReplicaSet("foo", attempt)), Rejected)
        (effect,) = world.due()
        events = world.fail(effect)
        assert not isinstance(events, Rejected)
        told.append(events[1:])
    return told


def test_each_start_has_an_id_of_its_own() -> None:
    """`World` would find the second one due although it was reported."""
    world = given(KEEPS_ON, ended(), unfinished(RetryReplicaSet("foo", 1))).world
    first = world.due()[0].effect_id
    world.fail(world.due()[0])
    world.send(RetryReplicaSet("foo", 2))
    assert world.due()[0].effect_id != first


def test_a_commit_of_one_that_waits_does_not_start_it() -> None:
    world = given(KEEPS_ON, ended()).world
    assert steps(world, CommitReplicaSet("foo", "saved:1")) == ["commit-foo-1", "settle"]
    assert world.state.replica_sets["foo"].retry_due_us


def test_continue_starts_it_now_and_counts_anew() -> None:
    world = given(KEEPS_ON, ended()).world
    assert steps(world, ContinueReplicaSet("foo")) == ["start-foo-1", "settle"]
    assert world.state.replica_sets["foo"].retry == 0


def test_what_is_asked_meanwhile_waits_for_the_start() -> None:
    world = given(KEEPS_ON, ended(), unfinished(RetryReplicaSet("foo", 1))).world
    world.send(StopReplicaSet("foo"))
    done = []
    while world.due():
        done.append(type(world.due()[0]))
        world.succeed(world.due()[0])
    assert done == [StartContainer, StopContainer, Settle]


def test_a_start_that_fails_under_an_operation_leaves_the_rest_to_it() -> None:
    world = given(KEEPS_ON, ended(), unfinished(RetryReplicaSet("foo", 1))).world
    world.send(StopReplicaSet("foo"))
    events = world.fail(world.due()[0])
    assert not isinstance(events, Rejected)
    assert [type(event) for event in events] == [EffectFailed]
    world.drive()
    assert world.state.replica_sets["foo"].phase == "stopped"


def test_a_volume_changes_size_while_it_waits_and_does_not_start_it() -> None:
    keeps_on = run("foo", data_disk_bytes=GIB, on_exit="restart")
    world = given(keeps_on, ended()).world
    assert steps(world, resize("foo", 2)) == ["size-foo-2", "settle"]
    assert world.state.revisions["foo", 1].container == "exited"


def test_a_volume_waits_for_a_start_that_is_under_way() -> None:
    keeps_on = run("foo", data_disk_bytes=GIB, on_exit="restart")
    begun = unfinished(RetryReplicaSet("foo", 1))
    world = given(keeps_on, ended(), begun, on=facts(volumes_grow_online=False)).world
    world.send(resize("foo", 2))
    assert [effect.effect_id[:6] for effect in world.due()] == ["retry/"]
    world.drive()
    assert world.state.revisions["foo", 1].container == "running"


def test_nothing_begins_while_a_volume_of_it_changes_size() -> None:
    keeps_on = run("foo", data_disk_bytes=GIB, on_exit="restart")
    decided = given(keeps_on, ended(), unfinished(resize("foo", 2)))
    decided.when(RetryReplicaSet("foo", 1)).rejected(Reason.NOTHING_NEW)


def test_a_command_is_refused_in_words_while_it_waits() -> None:
    asked = ExecuteInReplicaSet("foo", ("true",))
    given(KEEPS_ON, ended()).when(asked).rejected(Reason.NOT_RUNNING, "not running (exited)")
