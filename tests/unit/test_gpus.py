"""How GPUs fare: what becomes an event, what is not lent because of it, and when it is again."""

from typing import Any

import pytest

from events.gpu_health import GpuError, GpuReport, MissingGpu
from events.operations import OperationSucceeded
from events.resources import (
    GpuAppeared,
    GpuDisappeared,
    GpuErrorReported,
    GpuFellIll,
    GpuOccupied,
    GpuQuarantined,
    GpuRecovered,
    GpuRestored,
    GpusLeased,
    GpuVacated,
)
from projections.gpu_unit import GpuUnit, Quarantine
from service.domain.commands import (
    Command,
    ContinueReplicaSet,
    DebugReplicaSet,
    ObserveGpus,
    PauseReplicaSet,
    QuarantineGpu,
    ReportGpuErrors,
    Request,
    RestartReplicaSet,
    RestoreGpu,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.domain.gpus import APPLICATION_XIDS, SAME_ERROR_US, applies_for_gpus
from service.domain.rejections import Reason
from tests.kit.builders import GIB, facts, gpu, patch, run, unit
from tests.kit.gwt import Given, Step, at, given

BOTH = (gpu(0), gpu(1))
LOST = MissingGpu(0, lost=True, message="GPU is lost")
MUTE = MissingGpu(0, lost=False, message="Unknown Error")
SICK: dict[str, Any] = {"ecc_uncorrected": 2}


def seen(uuid: str = "gpu-0", boot: str = "b1", **report: Any) -> ObserveGpus:
    """Both GPUs answer, and of one there is this to say."""
    return ObserveGpus(BOTH, (GpuReport(uuid, **report),), boot=boot)


def without_first(*missing: MissingGpu) -> ObserveGpus:
    """Only the second GPU answers."""
    return ObserveGpus((gpu(1),), missing=missing, boot="b1")


def xid(*numbers: int, boot: str = "b1") -> ReportGpuErrors:
    """The driver reported these errors of the first GPU."""
    return ReportGpuErrors(tuple(GpuError("gpu-0", n, (7,)) for n in numbers), boot)


def first(world: Given, command: Command) -> GpuUnit:
    """The first GPU, after a command that changes something."""
    return world.when(command).state.gpus["gpu-0"]


def told(*commands: Command) -> Step:
    """What the watcher saw."""

    def step(world: Any) -> None:
        for command in commands:
            world.send(command)

    return step


class TestFaults:
    @pytest.mark.parametrize(
        ("report", "cause", "number", "words"),
        [
            ({"ecc_uncorrected": 1}, "ecc", 1, "1 uncorrected memory error since"),
            ({"ecc_uncorrected": 3}, "ecc", 3, "3 uncorrected memory errors since"),
            ({"remap_pending": True}, "row_remap", 0, "reset it"),
            ({"remap_failed": True}, "remap_failed", 0, "replaced"),
            ({"retirement_pending": True}, "page_retirement", 0, "reset it"),
        ],
    )
    def test_quarantine_and_when_gone_it_is_lent_again(
        self, report: dict[str, Any], cause: Any, number: int, words: str
    ) -> None:
        decided = given().when(seen(**report))
        fell_ill, quarantined = decided.events
        assert isinstance(fell_ill, GpuFellIll)
        assert (fell_ill.cause, fell_ill.number, fell_ill.boot) == (cause, number, "b1")
        assert words in fell_ill.message
        assert quarantined == GpuQuarantined("gpu-0", fell_ill.message)
        given(told(seen(**report))).when(seen(**report)).rejected(Reason.NOTHING_NEW)
        given(told(seen(**report))).when(seen()).then(
            GpuRecovered("gpu-0", cause, number), GpuRestored("gpu-0")
        )

    def test_of_two_faults_both_must_be_gone(self) -> None:
        two = seen(remap_pending=True, ecc_uncorrected=1)
        world = given(told(two))
        assert len(world.world.state.gpus["gpu-0"].ailments) == 2
        world.when(seen(remap_pending=True)).then(GpuRecovered("gpu-0", "ecc", 1))
        world.when(seen()).then(GpuRecovered("gpu-0", "row_remap"), GpuRestored("gpu-0"))

    def test_more_errors_are_news_and_the_holder_is_named(self) -> None:
        decided = given(run("foo", 1), told(seen(**SICK))).when(seen(ecc_uncorrected=3))
        message = "3 uncorrected memory errors since it was last reset"
        decided.then(GpuFellIll("gpu-0", "ecc", message, 3, "b1", "foo-1"))
        assert decided.state.gpus["gpu-0"].holder == "foo"

    def test_a_gpu_that_is_lost_is_ill_and_comes_back_when_it_is_seen(self) -> None:
        lost = without_first(LOST)
        words = "it fell off the bus (GPU is lost)"
        given().when(lost).then(
            GpuDisappeared("gpu-0"),
            GpuFellIll("gpu-0", "lost", words, boot="b1"),
            GpuQuarantined("gpu-0", words),
        )
        given(told(lost)).when(lost).rejected(Reason.NOTHING_NEW)
        appeared, *rest = given(told(lost)).when(seen()).events
        assert isinstance(appeared, GpuAppeared)
        assert rest == [GpuRecovered("gpu-0", "lost"), GpuRestored("gpu-0")]

    def test_one_that_is_gone_altogether_is_not_ill(self) -> None:
        given().when(without_first()).then(GpuDisappeared("gpu-0"))
        given(told(without_first())).when(without_first(LOST)).rejected(Reason.NOTHING_NEW)

    def test_one_that_does_not_answer_is_ill_until_it_does_or_is_lost(self) -> None:
        mute = without_first(MUTE)
        ailments = first(given(), mute).ailments
        assert [(a.cause, a.message) for a in ailments] == [
            ("no_answer", "it does not answer the driver (Unknown Error)")
        ]
        then_lost = given(told(mute)).when(without_first(LOST))
        assert [type(e) for e in then_lost.events] == [GpuRecovered, GpuFellIll]
        assert [a.cause for a in then_lost.state.gpus["gpu-0"].ailments] == ["lost"]

    def test_a_new_gpu_may_be_ill_at_first_sight(self) -> None:
        events = given(gpus=0).when(seen(remap_pending=True)).events
        assert [type(e) for e in events] == [GpuAppeared, GpuAppeared, GpuFellIll, GpuQuarantined]


class TestErrors:
    @pytest.mark.parametrize("number", sorted(APPLICATION_XIDS))
    def test_a_program_s_own_are_told_and_nothing_else(self, number: int) -> None:
        given(run("foo", 1)).when(xid(number)).then(
            GpuErrorReported("gpu-0", number, (7,), "foo-1")
        )

    @pytest.mark.parametrize("number", [48, 63, 64, 74, 79, 92, 94, 95, 119, 120, 999])
    def test_the_hardware_s_quarantine(self, number: int) -> None:
        reported, fell_ill, quarantined = given().when(xid(number)).events
        assert reported == GpuErrorReported("gpu-0", number, (7,))
        assert isinstance(fell_ill, GpuFellIll)
        assert (fell_ill.cause, fell_ill.number) == ("xid", number)
        assert f"XID {number}" in fell_ill.message
        assert quarantined == GpuQuarantined("gpu-0", fell_ill.message)

    def test_the_same_is_told_once_a_minute(self) -> None:
        known = given(told(xid(13)))
        known.when(xid(13)).rejected(Reason.NOTHING_NEW)
        known.when(xid(31)).then(GpuErrorReported("gpu-0", 31, (7,)))
        later = given(told(xid(13)), at(SAME_ERROR_US))
        later.when(xid(13, 13)).then(GpuErrorReported("gpu-0", 13, (7,)))

    def test_two_at_once_quarantine_once(self) -> None:
        events = given().when(xid(48, 79, 48)).events
        assert [type(event) for event in events].count(GpuQuarantined) == 1
        assert [e.xid for e in events if isinstance(e, GpuErrorReported)] == [48, 79]

    def test_of_a_gpu_that_nobody_knows_there_is_nothing_to_tell(self) -> None:
        unknown = ReportGpuErrors((GpuError("gpu-9", 79),))
        given().when(unknown).rejected(Reason.NOTHING_NEW)

    def test_it_stays_ill_until_it_was_reset(self) -> None:
        ill = given(told(xid(79), seen()))
        ill.when(seen()).rejected(Reason.NOTHING_NEW)
        ill.when(seen(boot="")).rejected(Reason.NOTHING_NEW)
        booted = given(told(xid(79))).when(seen(boot="b2"))
        booted.then(GpuRecovered("gpu-0", "xid", 79), GpuRestored("gpu-0"))
        away = given(told(xid(79), without_first(LOST))).when(seen())
        assert away.events[1:] == (
            GpuRecovered("gpu-0", "xid", 79),
            GpuRecovered("gpu-0", "lost"),
            GpuRestored("gpu-0"),
        )

    def test_one_that_was_only_mute_was_not_reset(self) -> None:
        back = given(told(xid(119), without_first(MUTE))).when(seen())
        assert back.events[1:] == (GpuRecovered("gpu-0", "no_answer"),)
        assert back.state.gpus["gpu-0"].quarantine is not None

    def test_after_it_was_restored_the_next_one_quarantines_again_at_once(self) -> None:
        restored = given(told(xid(79)), RestoreGpu("gpu-0"))
        assert isinstance(restored.when(xid(79)).events[-1], GpuQuarantined)


class TestByHand:
    def test_it_stays_however_healthy_it_is(self) -> None:
        decided = given().when(QuarantineGpu("gpu-0", "fan noise"))
        done = OperationSucceeded(decided.operation.id)
        decided.then(GpuQuarantined("gpu-0", "fan noise", by_hand=True), done)
        assert decided.operation.state == "succeeded"
        given(told(seen(**SICK)), QuarantineGpu("gpu-0", "fan noise")).when(seen()).then(
            GpuRecovered("gpu-0", "ecc", 2)
        )

    def test_an_ill_one_that_is_restored_goes_back_only_when_it_gets_worse(self) -> None:
        restored = given(told(seen(**SICK)), RestoreGpu("gpu-0"))
        unit = restored.world.state.gpus["gpu-0"]
        assert (unit.quarantine, unit.obstacle, len(unit.ailments)) == (None, "", 1)
        restored.when(seen(**SICK)).rejected(Reason.NOTHING_NEW)
        worse = restored.when(seen(ecc_uncorrected=3)).state.gpus["gpu-0"].quarantine
        assert worse is not None
        assert not worse.by_hand

    def test_what_is_not_in_quarantine_can_be_restored(self) -> None:
        decided = given().when(RestoreGpu("gpu-0"))
        decided.then(OperationSucceeded(decided.operation.id))

    @pytest.mark.parametrize("command", [QuarantineGpu("gpu-9", "x"), RestoreGpu("gpu-9")])
    def test_no_such_gpu(self, command: Command) -> None:
        given().when(command).rejected(Reason.GPU_NOT_FOUND, "gpu-9")

    def test_the_second_reason_takes_the_place_of_the_first(self) -> None:
        both = given(at(5), told(seen(**SICK)), QuarantineGpu("gpu-0", "fan noise"))
        assert both.world.state.gpus["gpu-0"].quarantine == Quarantine("fan noise", 5, True)


class TestLending:
    def test_a_quarantined_gpu_is_passed_over_and_the_refusal_says_why(self) -> None:
        ill = given(told(xid(79)))
        ill.when(run("foo", 1)).then_state(lambda state: state.gpus["gpu-1"].holder == "foo")
        given(told(xid(79)), gpus=3).when(run("foo", 3)).rejected(
            Reason.GPUS_EXHAUSTED,
            "3 GPUs asked for, 2 free, 1 quarantined (GPU 0: XID 79 (the GPU fell off the bus))",
        )

    def test_its_holder_keeps_it_and_others_do_not_notice(self) -> None:
        held = given(run("foo", 1), run("bar", 1), told(xid(79)))
        assert {u.holder for u in held.world.state.gpus.values()} == {"foo", "bar"}
        paused = given(run("foo", 1), PauseReplicaSet("foo"), told(xid(79)))
        paused.when(ContinueReplicaSet("foo")).then_driven()
        assert paused.world.state.gpus["gpu-0"].holder == "foo"

    @pytest.mark.parametrize("command", [patch("foo"), RestartReplicaSet("foo")])
    def test_its_holder_leaves_it_behind(self, command: Command) -> None:
        decided = given(run("foo", 1), told(xid(79))).when(command)
        assert GpusLeased("foo", 2, ("gpu-1",)) in decided.events
        decided.then_driven()
        assert decided.state.gpus["gpu-0"].holder is None

    def test_when_there_is_no_other_it_is_refused(self) -> None:
        held = given(run("foo", 1), told(xid(79)), gpus=1)
        held.when(patch("foo")).rejected(
            Reason.GPUS_EXHAUSTED, "1 GPUs asked for, 0 free, 1 quarantined (GPU 0: XID 79"
        )
        assert held.world.state.gpus["gpu-0"].holder == "foo"

    def test_limits_change_on_the_running_container_with_the_gpu_that_it_has(self) -> None:
        on = facts(gpu_runtime="cdi")
        held = given(run("foo", 1, memory_bytes=GIB), told(xid(79)), gpus=1, on=on)
        held.when(patch("foo", memory_bytes=2 * GIB)).then_driven()
        assert held.world.state.gpus["gpu-0"].revisions == (2,)


class TestForeignProcesses:
    def test_a_gpu_that_nobody_leases_is_busy_while_they_are_there(self) -> None:
        given().when(seen(pids=(4711,))).then(GpuOccupied("gpu-0", (4711,)))
        busy = given(told(seen(pids=(4711,))))
        busy.when(seen(pids=(4711, 4712))).rejected(Reason.NOTHING_NEW)
        busy.when(run("foo", 2)).rejected(
            Reason.GPUS_EXHAUSTED,
            "2 GPUs asked for, 1 free, 1 busy (GPU 0: process 4711 of the host is on it)",
        )
        busy.when(seen(pids=(4712,))).then(GpuOccupied("gpu-0", (4712,)))
        busy.when(seen()).then(GpuVacated("gpu-0"))
        busy.when(run("foo", 2)).then_driven()

    def test_on_a_leased_gpu_they_are_its_holder_s_business(self) -> None:
        given(run("foo", 1)).when(seen(pids=(4711,))).rejected(Reason.NOTHING_NEW)

    def test_of_those_that_outlive_the_lease_it_is_told(self) -> None:
        given(run("foo", 1), StopReplicaSet("foo")).when(seen(pids=(4711,))).then(
            GpuOccupied("gpu-0", (4711,))
        )

    def test_on_one_that_is_gone_there_are_none(self) -> None:
        given(told(seen(pids=(4711,)))).when(without_first()).then(
            GpuDisappeared("gpu-0"), GpuVacated("gpu-0")
        )


@pytest.mark.parametrize(
    ("pids", "words"),
    [
        ((1,), "process 1 of the host is on it"),
        ((1, 2), "processes 1, 2 of the host are on it"),
        ((1, 2, 3, 4, 5), "processes 1, 2, 3 and 2 more of the host are on it"),
    ],
)
def test_some_of_the_processes_are_named(pids: tuple[int, ...], words: str) -> None:
    assert unit(0, occupants=pids).obstacle == words


def test_of_many_gpus_some_are_named() -> None:
    ill = ReportGpuErrors(tuple(GpuError(f"gpu-{n}", 48) for n in range(5)))
    given(told(ill), gpus=5).when(run("foo", 1)).rejected(
        Reason.GPUS_EXHAUSTED, "0 free, 5 quarantined (GPU 0: XID 48", "GPU 2", "; 2 more)"
    )


@pytest.mark.parametrize(
    ("command", "applies"),
    [
        (run("new", 1), True),
        (run("new", 0), False),
        (patch("foo", 0), False),
        (patch("foo", 2), True),
        (patch("foo"), True),
        (patch("none", 1), False),
        (RestartReplicaSet("foo"), True),
        (RestartReplicaSet("bare"), False),
        (RollBackReplicaSet("bare", 1), True),
        (RollBackReplicaSet("bare", 9), False),
        (DebugReplicaSet("bug", "foo", 1, gpu_count=1), True),
        (DebugReplicaSet("bug", "foo", 1), False),
        (StopReplicaSet("foo"), False),
    ],
)
def test_which_commands_apply_for_gpus(command: Request, applies: bool) -> None:
    world = given(run("foo", 1), run("bare", 1), patch("bare", 0)).world
    assert applies_for_gpus(world.state, command) == applies
