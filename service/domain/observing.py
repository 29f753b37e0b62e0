"""The rules for what was seen of containers that nobody asked the service to touch.

A container ends by itself, is killed for its memory, is removed or started by somebody else, or
ends with the engine. What was looked at before the fold last told of the container is an old
story, and so is what is seen of a replica set that something goes on with: the executor reports
that itself.
"""

from events.observations import (
    ContainerExited,
    ContainerFoundRunning,
    ContainerVanished,
    GpuAccessLost,
    GpuAccessRestored,
    RetryBegun,
    RetryScheduled,
)
from events.record import Event
from events.replica_sets import PhaseRequested
from projections.state import ReplicaSet, Revision, State
from service.domain.commands import Envelope, RestartReplicaSet
from service.domain.effects import StartContainer
from service.domain.guards import Decision, idle
from service.domain.observing_commands import (
    ObserveContainer,
    ObserveGpuAccess,
    RetryReplicaSet,
    SeenContainer,
)
from service.domain.port_moves import resting_ports
from service.domain.reconcile_idle import is_under_way
from service.domain.rejections import Reason, Rejected
from service.domain.release import release
from service.domain.revisions import restart

UP = ("running", "paused", "restarting")
"""Docker's words for a container whose processes are there."""

RETRY_S_MIN, RETRY_S_MAX = 1, 300
"""The first pause before an ended container is started again, and the longest; each is twice the
one before."""

SETTLED_S = 600
"""A container that ran for so long is none that fails at once: its next end is a first one."""

ENGINE_RETRIES_MAX = 10
"""So often it is tried to start what ended with the engine, whatever its own retries are: for about
ten minutes, as after a boot drivers and mounts may come late."""


def observe(state: State, envelope: Envelope, command: ObserveContainer) -> Decision:
    """What the look at a replica set's container says that the ledger does not know."""
    events = observed(state, envelope.issued_at_us, command)
    if not events:
        return Rejected(Reason.NOTHING_NEW, f"{command.name} is as the ledger says")
    return events


def observes(state: State, name: str) -> bool:
    """Is nothing being done with it, so that what is seen of it is none of our doing?"""
    replica_set = idle(state, name)
    if isinstance(replica_set, Rejected):
        return False
    return not is_under_way(state.revisions[name, replica_set.current])


def observed(state: State, now_us: int, command: ObserveContainer) -> tuple[Event, ...]:
    """The facts, and what follows from them."""
    if not observes(state, command.name):
        return ()
    replica_set = state.replica_sets[command.name]
    revision = state.revisions[command.name, replica_set.current]
    seen = command.seen
    if revision.seen_seq > command.looked_at_seq or revision.container == "removed":
        return ()
    if seen is None:
        vanished = ContainerVanished(revision.name, revision.number)
        return (vanished, *_give_up(state, revision))
    if seen.status in UP:
        if revision.container == "running" and seen.started_at == revision.started_at:
            return ()
        return (ContainerFoundRunning(revision.name, revision.number, seen.started_at),)
    if revision.container != "running":
        return ()
    return _exited(state, now_us, command, replica_set, revision, seen)


def observe_access(state: State, envelope: Envelope, command: ObserveGpuAccess) -> Decision:
    """What the look at a container's access to its GPUs says that the ledger does not know."""
    events = observed_access(state, envelope.issued_at_us, command)
    if not events:
        return Rejected(Reason.NOTHING_NEW, f"{command.name} is as the ledger says")
    return events


def has_gpus(revision: Revision) -> bool:
    """Does its running container have GPUs that are really there?"""
    handed_over = revision.gpu_runtime in ("nvidia", "cdi")
    return revision.container == "running" and bool(revision.gpus) and handed_over


def observed_access(
    state: State, now_us: int, command: ObserveGpuAccess
) -> tuple[Event, ...]:
    """The facts, and the start that is to give it back, where that is wanted.

    One that is without it still, after as many starts as it may have, stays as it is: it runs.
    """
    if not observes(state, command.name):
        return ()
    replica_set = state.replica_sets[command.name]
    revision = state.revisions[command.name, replica_set.current]
    if revision.seen_seq > command.looked_at_seq or not has_gpus(revision):
        return ()
    known = revision.gpu_access_lost_us > 0
    if not command.lost:
        return (GpuAccessRestored(revision.name, revision.number),) if known else ()
    lost = () if known else (GpuAccessLost(revision.name, revision.number, command.message),)
    if revision.spec.on_gpu_lost != "restart" or replica_set.retry_due_us:
        return lost
    attempt = 1 if not known and command.ran_s >= SETTLED_S else replica_set.retry + 1
    most = revision.spec.max_retries
    if most and attempt > most:
        return lost
    return (*lost, _scheduled(now_us, revision, attempt, command.jitter))


def retry(state: State, envelope: Envelope, command: RetryReplicaSet) -> Decision:
    """Begin, once it is time, unless something else was done meanwhile."""
    found = idle(state, command.name)
    due = (
        not isinstance(found, Rejected)
        and is_retry_due(found.retry_due_us, envelope.issued_at_us)
        and found.retry == command.attempt
        and _is_to_start_again(state.revisions[command.name, found.current])
    )
    if isinstance(found, Rejected) or not due:
        return Rejected(Reason.NOTHING_NEW, f"{command.name} is not to be started again now")
    if _lost_a_port(state, envelope.issued_at_us, state.revisions[command.name, found.current]):
        anew = restart(state, envelope, RestartReplicaSet(command.name))
        if not isinstance(anew, Rejected):
            return anew
    return (RetryBegun(command.name, found.current, command.attempt),)


def is_retry_due(due_us: int, now_us: int) -> bool:
    """Is it time? Also when more than the longest pause is left: then the clock was set back."""
    return due_us > 0 and not 0 < due_us - now_us <= RETRY_S_MAX * 1_000_000


def _lost_a_port(state: State, now_us: int, revision: Revision) -> bool:
    """Has another process one of its host ports? Docker gives a container others only when it
    creates it: one that ran is restarted, which carries its system disk to a new one."""
    resting = resting_ports(state, now_us)
    return any(binding.host_port in resting for binding in revision.ports)


def retry_failed(state: State, now_us: int, effect: StartContainer) -> tuple[Event, ...]:
    """The engine did not start it: that counts as an end. An operation decides for itself."""
    replica_set = state.replica_sets[effect.name]
    if replica_set.operation is not None:
        return ()
    revision = state.revisions[effect.name, effect.number]
    if revision.ended_with_engine or revision.spec.on_exit != "restart":
        # None of its own doing: it does not count as one of its retries.
        refused = revision.refused + 1
        if refused > ENGINE_RETRIES_MAX:
            return _give_up(state, revision)
        due_us = _due_us(now_us, refused, jitter=1.0)
        return (RetryScheduled(revision.name, revision.number, replica_set.retry, due_us),)
    most = revision.spec.max_retries
    return _again(state, now_us, revision, replica_set.retry + 1, most, jitter=1.0)


def _exited(
    state: State,
    now_us: int,
    command: ObserveContainer,
    replica_set: ReplicaSet,
    revision: Revision,
    seen: SeenContainer,
) -> tuple[Event, ...]:
    exited = ContainerExited(
        revision.name,
        revision.number,
        exit_code=seen.exit_code,
        finished_at=seen.finished_at,
        oom_killed=seen.oom_killed,
        with_engine=seen.with_engine,
        started_at=seen.started_at if seen.started_at != revision.started_at else "",
    )
    before = 0 if seen.ran_s >= SETTLED_S else replica_set.retry
    if seen.with_engine:
        return exited, RetryScheduled(revision.name, revision.number, before, now_us)
    if revision.spec.on_exit != "restart":
        return (exited, *_give_up(state, revision))
    most = revision.spec.max_retries
    return (exited, *_again(state, now_us, revision, before + 1, most, command.jitter))


def _again(
    state: State, now_us: int, revision: Revision, attempt: int, most: int, jitter: float
) -> tuple[Event, ...]:
    """After a pause, unless it was tried as often as `most` says (0: any number of times)."""
    if most and attempt > most:
        return _give_up(state, revision)
    return (_scheduled(now_us, revision, attempt, jitter),)


def _scheduled(now_us: int, revision: Revision, attempt: int, jitter: float) -> RetryScheduled:
    due_us = _due_us(now_us, attempt, jitter)
    return RetryScheduled(revision.name, revision.number, attempt, due_us)


def _is_to_start_again(revision: Revision) -> bool:
    without = revision.container == "running" and revision.gpu_access_lost_us > 0
    return revision.container == "exited" or without


def _due_us(now_us: int, attempt: int, jitter: float) -> int:
    """`jitter` from 0 to 1 spreads those that ended together over half of the pause."""
    pause_s = min(RETRY_S_MIN * 2 ** min(attempt - 1, 20), RETRY_S_MAX)
    return now_us + int(pause_s * (0.5 + jitter / 2) * 1_000_000)


def _give_up(state: State, revision: Revision) -> tuple[Event, ...]:
    """It is stopped now: its GPUs and ports were seen to be used no more."""
    if state.replica_sets[revision.name].phase == "stopped":
        return ()
    stopped = PhaseRequested(revision.name, "stopped")
    return (stopped, *release(state, revision.name, revision.number))
