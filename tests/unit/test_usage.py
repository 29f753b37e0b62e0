"""Usage: what opens and closes intervals, and which clock says when."""

from typing import Any, get_args

import pytest

from events.observations import (
    ContainerExited,
    ContainerFoundRunning,
    ContainerVanished,
    RetryScheduled,
)
from events.outcomes import (
    ContainerRemoved,
    ContainerStarted,
    ContainerStopped,
    ContainerUpdated,
    VolumeMade,
)
from events.replica_sets import PhaseRequested
from events.values import SIZE_UNITS, Phase
from events.volumes import (
    VolumeVersionDeclared,
)
from projections.usage import Interval, Opened, Usage
from tests.kit.usage_log import UsageLog, docker, uuids

GB = SIZE_UNITS["GB"]
ONE = uuids(0)


@pytest.fixture
def log() -> UsageLog:
    return UsageLog()


def running(log: UsageLog, gpus: tuple[str, ...] = ONE, **spec: Any) -> int:
    """foo-1 runs from second 100 on, by Docker's clock; the record of it."""
    log.declare(90, 1, gpus, tenant="lab", **spec)
    return log.start(100.1)


# -- a container ------------------------------------------------------------------------------


def test_a_container_uses_what_it_has_from_dockers_start_to_dockers_finish(log: UsageLog) -> None:
    opened = running(log, uuids(0, 2), nano_cpus=1_500_000_000, memory_bytes=GB, labels={"a": "b"})
    closed = log.stop(200.1)
    log.release(201, uuids(0, 2))
    found = [one for _, one in sorted(log.rows.items())]
    assert log.spans("gpu") == [(100, 200), (100, 200)]
    assert log.spans("cpu") == log.spans("memory") == [(100, 200)]
    assert {(one.opened_seq, one.closed_seq) for one in found} == {(opened, closed)}
    assert [(one.meter, one.gpu, one.model, one.amount) for one in found] == [
        ("gpu", "GPU-0", "A100", 1),
        ("gpu", "GPU-2", "H100", 1),
        ("cpu", "", "", 1_500_000_000),
        ("memory", "", "", GB),
    ]
    assert {(one.name, one.number, one.tenant, one.labels["a"]) for one in found} == {
        ("foo", 1, "lab", "b")
    }
    assert {one.notes for one in found} == {()}
    assert log.usage.open == {}


def test_nothing_is_used_before_the_first_start(log: UsageLog) -> None:
    log.declare(10, 1, ONE)
    log(20, PhaseRequested("foo", "paused"))
    log(30, ContainerStopped("foo", 1, 0))
    log.release(60, ONE)
    assert log.rows == {}


def test_without_a_limit_nothing_is_metered_and_the_interval_says_so(log: UsageLog) -> None:
    running(log, (), memory_bytes=GB)
    (cpu,), (memory,) = log.of("cpu"), log.of("memory")
    assert (cpu.amount, cpu.notes) == (0, ("no_limit",))
    assert (memory.amount, memory.notes) == (GB, ())


def test_who_died_unseen_is_charged_to_dockers_finish(log: UsageLog) -> None:
    running(log)
    log(
        9_000,
        ContainerExited("foo", 1, 137, docker(4_000)),
        PhaseRequested("foo", "stopped"),
    )
    log.release(9_000, ONE)
    assert log.spans("gpu") == log.spans("cpu") == [(100, 4_000)]


def test_what_ended_with_the_engine_is_not_charged_until_it_runs_again(log: UsageLog) -> None:
    running(log)
    exited = ContainerExited("foo", 1, 137, docker(4_000), with_engine=True)
    log(9_000, exited, RetryScheduled("foo", 1, 0, 0))
    log.start(9_010.1)
    assert log.spans("gpu") == [(100, 4_000), (9_010, None)]


def test_a_gpu_is_kept_while_its_container_is_to_be_started_again(log: UsageLog) -> None:
    """Unless it was nobody's decision: from its end to the record, the service did not know."""
    running(log, on_exit="restart")
    exited = ContainerExited("foo", 1, 1, docker(4_000))
    noticed = log(4_500, exited, RetryScheduled("foo", 1, 1, 0))
    log(4_600, RetryScheduled("foo", 1, 2, 0))
    started = log.start(4_700.1)
    assert log.spans("gpu") == [(100, 4_000), (4_500, 4_700), (4_700, None)]
    assert log.spans("cpu") == [(100, 4_000), (4_700, None)]
    kept = log.of("gpu")[1]
    assert (kept.kept, kept.opened_seq, kept.closed_seq) == ("waiting", noticed, started)


def test_paused_time_counts_the_gpu_and_nothing_else(log: UsageLog) -> None:
    running(log, nano_cpus=10**9)
    paused = log.pause(200.1)
    log(300, PhaseRequested("foo", "running"))
    continued = log.start(301.1)
    log.stop(400.1)
    log.release(400.2, ONE)
    assert log.spans("gpu") == [(100, 200), (200, 301), (301, 400)]
    assert log.spans("cpu") == [(100, 200), (301, 400)]
    kept = [(one.kept, one.opened_seq, one.closed_seq) for one in log.of("gpu")][1]
    assert kept == ("paused", paused, continued)


def test_what_was_paused_is_charged_until_the_gpu_is_given_back(log: UsageLog) -> None:
    running(log)
    log.pause(200.1)
    log(500, PhaseRequested("foo", "stopped"))
    released = log.release(501, ONE)
    assert log.spans("gpu") == [(100, 200), (200, 501)]
    assert (log.of("gpu")[1].closed_seq, log.of("gpu")[1].notes) == (released, ())


def test_to_pause_what_stands_still_keeps_its_gpu_from_then_on(log: UsageLog) -> None:
    running(log)
    log.stop(200.1)
    log(250, PhaseRequested("foo", "paused"))
    log(260, PhaseRequested("foo", "paused"))
    assert log.spans("gpu") == [(100, 200), (250, None)]


def test_a_patch_hands_a_gpu_on(log: UsageLog) -> None:
    """Neither revision is charged for the moment in which the disk is carried over."""
    running(log, uuids(0, 1))
    log.declare(150, 2, ONE, cause="patch", supersedes=1, tenant="somebody else")
    log.stop(200.1)
    log.start(230.1, 2)
    log.release(231, uuids(0, 1))
    assert [(one.number, one.gpu, one.tenant) for one in log.of("gpu")] == [
        (1, "GPU-0", "lab"),
        (1, "GPU-1", "lab"),
        (2, "GPU-0", "lab"),
    ]
    assert log.spans("gpu") == [(100, 200), (100, 200), (230, None)]


def test_limits_changed_in_place_close_and_open_at_the_record(log: UsageLog) -> None:
    running(log, nano_cpus=10**9, memory_bytes=GB)
    limits: dict[str, Any] = {"nano_cpus": 2 * 10**9, "memory_bytes": GB}
    log.declare(150, 2, ONE, cause="patch", supersedes=1, in_place=True, **limits)
    seq = log(160, ContainerUpdated("foo", 2))
    log.release(160, ONE, 1)
    log.stop(200.1, 2)
    assert log.spans("cpu") == log.spans("gpu") == [(100, 160), (160, 200)]
    assert [(one.amount, one.number) for one in log.of("cpu")] == [(10**9, 1), (2 * 10**9, 2)]
    before, after = log.of("gpu")
    assert (before.closed_seq, after.opened_seq) == (seq, seq)


def test_removed_or_vanished_is_charged_to_the_record_and_says_so(log: UsageLog) -> None:
    running(log)
    log(300, ContainerRemoved("foo", 1))
    log.release(300, ONE)
    log.declare(400, 2, ONE)
    log.start(410.1, 2)
    log(500, ContainerVanished("foo", 2))
    log.release(500, ONE, 2)
    assert log.spans("gpu") == [(100, 300), (410, 500)]
    assert [one.notes for one in log.of("gpu")] == [("record_time",)] * 2


def test_who_was_found_running_again_goes_on(log: UsageLog) -> None:
    running(log)
    log(300, ContainerFoundRunning("foo", 1, docker(250)))
    assert log.spans("gpu") == [(100, 250), (250, None)]
    log.stop(400.1)
    log(500, ContainerFoundRunning("foo", 1, docker(450)))
    assert log.spans("gpu") == [(100, 250), (250, 400), (450, None)]


@pytest.mark.parametrize("phase", get_args(Phase)[1:3])
def test_who_was_started_by_somebody_else_is_not_charged(log: UsageLog, phase: Phase) -> None:
    running(log)
    log(190, PhaseRequested("foo", phase))
    log.stop(200.1)
    log.release(201, ONE)
    log(300, ContainerFoundRunning("foo", 1, docker(290)))
    log.stop(310)
    assert log.spans("cpu") == [(100, 200)]
    assert log.usage.open == {}


# -- clocks -----------------------------------------------------------------------------------


def test_without_a_time_of_dockers_that_of_the_record_is_taken(log: UsageLog) -> None:
    log.declare(90, 1, ONE)
    log(100, ContainerStarted("foo", 1, "?"))
    log(200, ContainerStopped("foo", 1, 0))
    assert log.spans("gpu") == [(100, 200)]
    assert log.of("gpu")[0].notes == ("record_time",)


def test_an_end_before_the_start_is_no_time_at_all(log: UsageLog) -> None:
    running(log)
    log(200, ContainerStopped("foo", 1, 0, docker(50)))
    assert log.spans("gpu") == [(100, 100)]
    assert log.of("gpu")[0].notes == ("clock",)


def test_a_clock_that_runs_ahead_tells_the_time_of_the_record(log: UsageLog) -> None:
    """It is right again for the next one, who is charged for all of its time."""
    log.declare(90, 1, ONE)
    log.start(100, started=docker(1e9))
    log(200, ContainerStopped("foo", 1, 0, docker(1e9 + 100)))
    log.release(201, ONE)
    log.declare(250, 2, ONE)
    log.start(300.1, 2)
    assert log.spans("gpu") == [(100, 200), (300, None)]
    assert [one.notes for one in log.of("gpu")] == [("clock",), ()]


def test_a_clock_that_is_behind_tells_the_right_length(log: UsageLog) -> None:
    log.declare(3_690, 1, ONE)
    log.start(3_700, started=docker(100))
    log(3_800, ContainerStopped("foo", 1, 0, docker(200)))
    assert log.spans("gpu") == [(100, 200)]
    assert log.of("gpu")[0].notes == ()


def test_one_gpu_is_never_used_twice_at_a_time(log: UsageLog) -> None:
    """Docker's clock was set back meanwhile: the next holder begins where the last one ended."""
    running(log)
    log.stop(1_000.1)
    log.release(1_001, ONE)
    log.declare(1_010, 1, ONE, name="bar")
    log.start(1_020, started=docker(500), name="bar")
    log.stop(1_100.1, name="bar")
    assert log.spans("gpu") == [(100, 1_000), (1_000, 1_100)]
    assert log.of("gpu")[1].notes == ("clock",)
    assert log.spans("cpu")[1] == (500, 1_100)


def test_a_gpu_that_another_has_by_now_is_not_used_by_both(log: UsageLog) -> None:
    """The rules never lend it so; if records ever said it, it would be charged once."""
    running(log)
    log.declare(170, 1, ONE, name="bar")
    log.start(180.1, name="bar")
    assert log.spans("gpu") == [(100, 180), (180, None)]


# -- the fold taken up again ------------------------------------------------------------------


def test_a_fold_taken_up_from_its_rows_goes_on_the_same(log: UsageLog) -> None:
    running(log)
    log.pause(200.1)
    log(250, VolumeVersionDeclared("bar", 1, GB, "create"), VolumeMade("bar", 1))
    again = Usage()
    by_record: dict[int, list[Interval]] = {}
    for (seq, _), one in sorted(log.rows.items()):
        by_record.setdefault(seq, []).append(one)
    rows = [Opened(seq, tuple(some)) for seq, some in by_record.items()]
    open_ones = [row for row in rows if row.ended_us is None]
    again.load(log.state.seq, open_ones, log.usage.until.values())
    assert (again.open, again.lent, again.until) == (
        log.usage.open,
        log.usage.lent,
        log.usage.until,
    )
    log.usage = again
    log.start(150.1)  # a clock set back, while the GPU is known to be used until 200
    assert log.spans("gpu") == [(100, 200), (200, 200), (200, None)]


def test_a_row_keeps_all_that_its_record_opened_until_the_last_has_ended(log: UsageLog) -> None:
    """Also when the fold is taken up again between their ends."""
    running(log, uuids(0, 1))
    paused = log.pause(200.1)
    log.release(300, uuids(0))
    again = Usage()
    row = Opened(paused, (log.rows[paused, 0], log.rows[paused, 1]))
    assert (row.ended_us, row.closed_seq, row.begun_us) == (None, None, row.intervals[1].begun_us)
    again.load(log.state.seq, [row], log.usage.until.values())
    log.usage = again
    closed = log.release(400, uuids(1))
    log.release(401, uuids(1))
    assert again.take() == ([], [])
    assert log.spans("gpu")[2:] == [(200, 300), (200, 400)]
    ended = Opened(paused, (log.rows[paused, 0], log.rows[paused, 1]))
    assert (ended.ended_us, ended.closed_seq) == (ended.intervals[1].ended_us, closed)
    assert log.written[-1] == [ended]
