"""The fold of what became of containers by themselves, and of what is done about it."""

from typing import Any

from msgspec.structs import replace

from events.observations import (
    ContainerExited,
    ContainerFoundRunning,
    ContainerVanished,
    GpuAccessLost,
    GpuAccessRestored,
    PortRefused,
    PortsMoved,
    RetryBegun,
    RetryScheduled,
)
from events.record import Record
from events.values import versioned
from projections.evolve_replica_sets import (
    add_step,
    put_replica_set,
    put_revision,
    running_since,
)
from projections.state import Folds, RestingPort, State


def _seen(state: State, name: str, number: int, **changes: Any) -> None:
    put_revision(state, replace(state.revisions[name, number], seen_seq=state.seq, **changes))


def _exited(state: State, record: Record, event: ContainerExited) -> None:
    known = state.revisions[event.name, event.revision].started_at
    _seen(
        state,
        event.name,
        event.revision,
        container="exited",
        started_at=event.started_at or known,
        exit_code=event.exit_code,
        oom_killed=event.oom_killed,
        finished_at=event.finished_at,
        ended_alone=True,
        ended_with_engine=event.with_engine,
        refused=0,
        gpu_access_lost_us=0,
    )


def _vanished(state: State, record: Record, event: ContainerVanished) -> None:
    is_kept = state.revisions[event.name, event.revision].snapshot is not None
    gone = "" if is_kept else "its container was removed by somebody else"
    _seen(
        state,
        event.name,
        event.revision,
        container="removed",
        lost=None,
        gone=gone,
        pinned=False,
        gpu_access_lost_us=0,
    )


def _found_running(state: State, record: Record, event: ContainerFoundRunning) -> None:
    known = state.replica_sets[event.name]
    if known.phase in ("paused", "stopped"):
        _seen(state, event.name, event.revision, stray=True)
        return
    put_replica_set(state, replace(known, retry_due_us=0))
    _seen(
        state,
        event.name,
        event.revision,
        **running_since(event.started_at),
    )


def _gpu_access_lost(state: State, record: Record, event: GpuAccessLost) -> None:
    _seen(state, event.name, event.revision, gpu_access_lost_us=record.at_us)


def _gpu_access_restored(state: State, record: Record, event: GpuAccessRestored) -> None:
    _seen(state, event.name, event.revision, gpu_access_lost_us=0)
    put_replica_set(state, replace(state.replica_sets[event.name], retry_due_us=0))


def _retry_scheduled(state: State, record: Record, event: RetryScheduled) -> None:
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, retry=event.attempt, retry_due_us=event.due_us))


def _retry_begun(state: State, record: Record, event: RetryBegun) -> None:
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, retry_due_us=0))
    revision = state.revisions[event.name, event.revision]
    put_revision(state, replace(revision, retrying=state.seq))


def _port_refused(state: State, record: Record, event: PortRefused) -> None:
    add_step(
        state,
        record.operation_id,
        record.at_us,
        f"host port {event.host_port} has another process: {event.message}",
    )
    if state.node is not None:
        still = tuple(
            port
            for port in state.node.resting
            if port.until_us > record.at_us and port.host_port != event.host_port
        )
        resting = (*still, RestingPort(event.host_port, event.until_us))
        state.node = replace(state.node, resting=resting)
        state.touched.add(("node", state.node.node, 0))


def _ports_moved(state: State, record: Record, event: PortsMoved) -> None:
    revision = state.revisions[event.name, event.revision]
    put_revision(state, replace(revision, ports=event.ports, remake=True))
    add_step(
        state,
        record.operation_id,
        record.at_us,
        f"{versioned(event.name, event.revision)} gets other host ports",
    )


FOLDS: Folds = {
    ContainerExited: _exited,
    ContainerVanished: _vanished,
    ContainerFoundRunning: _found_running,
    GpuAccessLost: _gpu_access_lost,
    GpuAccessRestored: _gpu_access_restored,
    RetryScheduled: _retry_scheduled,
    RetryBegun: _retry_begun,
    PortRefused: _port_refused,
    PortsMoved: _ports_moved,
}
