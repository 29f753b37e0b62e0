"""What is seen of containers that nobody asked the service to touch, and what is done about it."""

from collections.abc import Callable

import pytest

from events.observations import (
    ContainerExited,
    ContainerFoundRunning,
    ContainerVanished,
)
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    DeleteReplicaSet,
    PauseReplicaSet,
    PinRevision,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.effects import Settle, StartContainer, StopContainer
from service.domain.observing_commands import ObserveContainer, RetryReplicaSet, SeenContainer
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import GIB, facts, patch, resize, run
from tests.kit.gwt import given, unfinished
from tests.kit.retrying import EXITED, GIVEN_UP, KEEPS_ON, RUN, TWICE, scheduled
from tests.kit.sightings import ELSEWHERE, ended, gone, running
from tests.kit.world import World


class TestExits:
    def test_it_is_stopped_and_gives_everything_back(self) -> None:
        decided = given(RUN).when(ended()).then(EXITED, *GIVEN_UP)
        current = decided.state.revisions["foo", 1]
        assert (current.container, current.exit_code) == ("exited", 1)
        assert current.finished_at == "an end"
        assert current.ended_alone
        assert decided.state.replica_sets["foo"].phase == "stopped"
        assert (decided.world.due(), decided.state.ports) == ((), {})

    def test_want_of_memory_is_told(self) -> None:
        exited = ContainerExited("foo", 1, 137, "an end", oom_killed=True)
        decided = given(RUN).when(ended(exit_code=137, oom_killed=True)).then(exited, *GIVEN_UP)
        assert decided.state.revisions["foo", 1].oom_killed

    @pytest.mark.parametrize("status", ["exited", "dead", "removing", "created"])
    def test_whatever_is_not_up_has_ended(self, status: str) -> None:
        given(RUN).when(ended(status=status)).then(EXITED, *GIVEN_UP)

    def test_it_is_told_once(self) -> None:
        given(RUN, ended()).when(ended()).rejected(Reason.NOTHING_NEW)

    def test_what_ended_with_the_engine_is_to_go_on_whatever_is_asked(self) -> None:
        exited = ContainerExited("foo", 1, 137, "an end", with_engine=True)
        given(RUN).when(ended(exit_code=137, with_engine=True)).then(exited, scheduled(0, 0))

    def test_that_does_not_count_as_a_retry(self) -> None:
        world = World(2)
        for command in (TWICE, ended(), RetryReplicaSet("foo", 1)):
            world.send(command)
            world.drive()
        events = world.send(ended(with_engine=True))
        assert not isinstance(events, Rejected)
        assert events[1] == scheduled(1, 0)

    @pytest.mark.parametrize("phase", [StopReplicaSet("foo"), PauseReplicaSet("foo")])
    def test_what_stands_still_anyway_does_not_end(self, phase: Command) -> None:
        given(RUN, phase).when(ended()).rejected(Reason.NOTHING_NEW)

    def test_a_new_start_forgets_the_end(self) -> None:
        state = given(RUN, ended(oom_killed=True), RestartReplicaSet("foo")).world.state
        current = state.revisions["foo", 2]
        assert (current.exit_code, current.oom_killed, current.finished_at) == (None, False, "")
        assert not current.ended_alone

    def test_a_stop_of_ours_is_none_of_its_own(self) -> None:
        state = given(KEEPS_ON, running(started_at="again"), StopReplicaSet("foo")).world.state
        assert not state.revisions["foo", 1].ended_alone


class TestVanished:
    def test_it_is_stopped_and_gives_everything_back(self) -> None:
        decided = given(RUN).when(gone()).then(ContainerVanished("foo", 1), *GIVEN_UP)
        current = decided.state.revisions["foo", 1]
        assert (current.container, current.gone) == (
            "removed",
            "its container was removed by somebody else",
        )

    def test_also_when_it_was_paused(self) -> None:
        decided = given(RUN, PauseReplicaSet("foo")).when(gone())
        decided.then(ContainerVanished("foo", 1), *GIVEN_UP)

    def test_also_when_it_waits_for_a_retry(self) -> None:
        decided = given(KEEPS_ON, ended()).when(gone())
        decided.then(ContainerVanished("foo", 1), *GIVEN_UP)
        assert decided.state.replica_sets["foo"].retry_due_us == 0

    def test_what_is_stopped_has_nothing_to_give_back(self) -> None:
        given(RUN, StopReplicaSet("foo")).when(gone()).then(ContainerVanished("foo", 1))

    @pytest.mark.parametrize("seen", [gone(), ended(), running()])
    def test_after_that_nothing_is_seen(self, seen: ObserveContainer) -> None:
        given(RUN, gone()).when(seen).rejected(Reason.NOTHING_NEW)

    @pytest.mark.parametrize(
        "command",
        [
            *(patch(), patch(gpu_count=2), RestartReplicaSet("foo")),
            *(CommitReplicaSet("foo", "a:1"), PinRevision("foo", 2)),
        ],
    )
    def test_its_disk_is_gone(self, command: Command) -> None:
        given(RUN, patch(), gone()).when(command).rejected(Reason.SYSTEM_DISK_GONE)

    def test_the_refusal_names_what_can_be_had_back(self) -> None:
        decided = given(RUN, patch(), patch(), gone()).when(RestartReplicaSet("foo"))
        decided.rejected(Reason.SYSTEM_DISK_GONE, "foo-3", "removed by somebody else", "(1, 2)")

    def test_a_version_on_the_same_disk_is_gone_too(self) -> None:
        limited = run("foo", memory_bytes=GIB)
        decided = given(limited, patch(memory_bytes=2 * GIB), gone())
        decided.when(RollBackReplicaSet("foo", 1)).rejected(Reason.SYSTEM_DISK_GONE, "(none)")

    @pytest.mark.parametrize("carry", ["commit", "upper"])
    def test_another_version_can_be_had_back(self, carry: str) -> None:
        on = facts(carry=carry, clones_share_blocks=False)
        world = given(RUN, patch(), patch(), gone(), on=on).world
        world.send(RollBackReplicaSet("foo", 1))
        world.drive()
        assert world.state.revisions["foo", 4].container == "running"
        assert world.state.replica_sets["foo"].snapshots == (1, 2)

    def test_another_image_can_be_put_in_its_place(self) -> None:
        world = given(RUN, gone(), patch(image="b:1")).world
        assert world.state.revisions["foo", 2].container == "running"
        assert world.state.replica_sets["foo"].snapshots == ()

    def test_a_rollback_that_fails_leaves_it_stopped(self) -> None:
        world = given(RUN, patch(), gone()).world
        world.send(RollBackReplicaSet("foo", 1))
        world.drive(lambda effect: isinstance(effect, StartContainer))
        replica_set = world.state.replica_sets["foo"]
        assert (replica_set.phase, replica_set.current) == ("stopped", 2)

    def test_it_can_be_deleted(self) -> None:
        state = given(RUN, patch(), gone(), DeleteReplicaSet("foo")).world.state
        assert state.live("foo") is None

    def test_a_pin_goes_with_the_disk(self) -> None:
        state = given(RUN, PinRevision("foo", 1), gone()).world.state
        assert not state.revisions["foo", 1].pinned


class TestFoundRunning:
    FOUND = ContainerFoundRunning("foo", 1, ELSEWHERE)

    @pytest.mark.parametrize("phase", [StopReplicaSet("foo"), PauseReplicaSet("foo")])
    def test_what_is_not_to_run_is_stopped_again(self, phase: Command) -> None:
        decided = given(RUN, phase).when(running()).then(self.FOUND)
        (effect,) = decided.world.due()
        assert isinstance(effect, StopContainer)
        assert (effect.container, effect.operation_id) == ("foo-1", "")
        decided.world.drive()
        assert not decided.state.revisions["foo", 1].stray

    def test_each_time_anew(self) -> None:
        again = running(started_at="once more")
        world = given(RUN, StopReplicaSet("foo"), running()).world
        assert not isinstance(world.send(again), Rejected)
        world.drive()

    def test_while_it_is_being_stopped_nothing_is_new(self) -> None:
        history = (RUN, StopReplicaSet("foo"), unfinished(running()))
        for seen in (running(started_at="once more"), gone(), ended()):
            given(*history).when(seen).rejected(Reason.NOTHING_NEW)

    def test_what_is_asked_meanwhile_waits_for_the_stop(self) -> None:
        world = given(RUN, PauseReplicaSet("foo"), unfinished(running())).world
        world.send(ContinueReplicaSet("foo"))
        done = []
        while world.due():
            done.append(type(world.due()[0]))
            world.succeed(world.due()[0])
        assert done == [StopContainer, StartContainer, Settle]
        assert world.state.revisions["foo", 1].container == "running"

    def test_a_restart_from_outside_is_noted(self) -> None:
        decided = given(RUN).when(running()).then(self.FOUND)
        assert decided.state.revisions["foo", 1].started_at == ELSEWHERE
        assert decided.world.due() == ()

    def test_one_that_waits_for_a_retry_need_not_be_started(self) -> None:
        decided = given(KEEPS_ON, ended(oom_killed=True)).when(running()).then(self.FOUND)
        current = decided.state.revisions["foo", 1]
        assert (current.container, current.exit_code) == ("running", None)
        assert not current.oom_killed
        assert decided.state.replica_sets["foo"].retry_due_us == 0
        assert not current.ended_alone

    @pytest.mark.parametrize("status", ["running", "paused", "restarting"])
    def test_what_it_is_known_to_do_is_nothing_new(self, status: str) -> None:
        world = given(RUN).world
        known = world.state.revisions["foo", 1].started_at
        seen = SeenContainer(status, 0, known, "")
        decision = world.send(ObserveContainer("foo", seen, world.state.seq, 0.0))
        assert isinstance(decision, Rejected)


@pytest.mark.parametrize("seen", [ended, gone, running])
class TestOldStories:
    def test_before_the_fold_last_told_of_it(self, seen: Callable[..., ObserveContainer]) -> None:
        world = given(RUN).world
        told = world.state.revisions["foo", 1].seen_seq
        assert told == world.state.seq - 1
        early = world.send(seen(at_seq=told - 1))
        assert isinstance(early, Rejected)
        assert early.reason == Reason.NOTHING_NEW
        assert not isinstance(world.send(seen(at_seq=told)), Rejected)

    def test_while_something_goes_on_with_it(self, seen: Callable[..., ObserveContainer]) -> None:
        busy = given(RUN, unfinished(patch()))
        busy.when(seen()).rejected(Reason.NOTHING_NEW)

    def test_while_a_volume_of_it_changes_size(self, seen: Callable[..., ObserveContainer]) -> None:
        busy = given(run("foo", data_disk_bytes=GIB), unfinished(resize("foo", 2)))
        busy.when(seen()).rejected(Reason.NOTHING_NEW)

    def test_of_what_is_not_there(self, seen: Callable[..., ObserveContainer]) -> None:
        given().when(seen()).rejected(Reason.NOTHING_NEW)
        deleted = given(RUN, DeleteReplicaSet("foo"))
        deleted.when(seen()).rejected(Reason.NOTHING_NEW)
