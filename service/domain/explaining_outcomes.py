"""What an outcome or an observation says, in one plain sentence: see `explaining_events`."""

from collections.abc import Callable
from typing import Any

from events import observations, outcomes
from events.codec import show_time
from events.values import show_size, versioned
from projections.state import State
from service.domain.explaining import bindings, numbered, to_the_second, whose, words


def _stopped(event: outcomes.ContainerStopped, state: State) -> str:
    return f"the container {whose(event)} was stopped; exit code {event.exit_code}"


def _snapshot(event: outcomes.SnapshotTaken, state: State) -> str:
    how = "as an image" if event.carry == "commit" else "as a directory"
    return f"the system disk of {whose(event)} is kept {how}, {show_size(event.size_bytes)}"


def _snapshot_removed(event: outcomes.SnapshotRemoved, state: State) -> str:
    why = f": {words(event.why)}" if event.why else ""
    return f"the system disk of {whose(event)} is kept no more{why}"


def _compacted(event: outcomes.SnapshotCompacted, state: State) -> str:
    if event.message:
        return f"the kept disk of {whose(event)} shares no files: {words(event.message)}"
    saved = show_size(event.saved_bytes)
    return f"the kept disk of {whose(event)} shares files with the one before, {saved} less"


def _precopied(event: outcomes.SystemDiskPrecopied, state: State) -> str:
    if event.message:
        return f"the system disk of {whose(event)} was not copied ahead: {words(event.message)}"
    size = show_size(event.size_bytes)
    return f"{size} of the system disk of {whose(event)} were copied ahead"


def _effect_failed(event: outcomes.EffectFailed, state: State) -> str:
    target = versioned(event.name, event.number) if event.number else event.name
    return f"{event.effect} of {target} failed ({event.reason}): {words(event.message)}"


def _exited(event: observations.ContainerExited, state: State) -> str:
    if event.with_engine:
        return f"the container {whose(event)} ended because Docker, or its host, did"
    killed = "; it was short of memory" * event.oom_killed
    return f"the container {whose(event)} ended by itself with exit code {event.exit_code}{killed}"


def _access_lost(event: observations.GpuAccessLost, state: State) -> str:
    message = f": {words(event.message)}" if event.message else ""
    return f"the container {whose(event)} may not use its GPUs any more{message}"


def _retry(event: observations.RetryScheduled, state: State) -> str:
    count = f", attempt {event.attempt}" if event.attempt else ""
    due = to_the_second(show_time(event.due_us))
    return f"{whose(event)} is to be started again at {due}{count}"


def _port_refused(event: observations.PortRefused, state: State) -> str:
    until = to_the_second(show_time(event.until_us))
    said = f": {words(event.message)}" if event.message else ""
    return (
        f"host port {event.host_port} of {whose(event)} has another process, and rests until"
        f" {until}{said}"
    )


SENTENCES: dict[type[Any], Callable[[Any, State], str]] = {
    outcomes.ImageResolved: lambda event, state: f"the image {event.image} is there",
    outcomes.ContainerCreated: lambda event, state: f"the container {whose(event)} was made",
    outcomes.ContainerUpdated: lambda event, state: (
        f"the running container goes on as {whose(event)}, with other limits"
    ),
    outcomes.ContainerStarted: lambda event, state: (
        f"the container {whose(event)} runs since {to_the_second(event.started_at)}"
    ),
    outcomes.ContainerStopped: _stopped,
    outcomes.ContainerRemoved: lambda event, state: f"the container {whose(event)} was removed",
    outcomes.SnapshotTaken: _snapshot,
    outcomes.SnapshotRemoved: _snapshot_removed,
    outcomes.SnapshotCompacted: _compacted,
    outcomes.SystemDiskPrecopied: _precopied,
    outcomes.SystemDiskFilled: lambda event, state: (
        f"a kept system disk was carried into {whose(event)}"
    ),
    outcomes.SystemDiskPutBack: lambda event, state: f"{whose(event)} has its system disk again",
    outcomes.ImageCommitted: lambda event, state: (
        f"the system disk of {whose(event)} was saved as {event.image}"
    ),
    outcomes.CommandExecuted: lambda event, state: (
        f"the command in {whose(event)} ended with exit code {event.exit_code}"
    ),
    outcomes.VolumeMade: lambda event, state: f"volume {numbered(event)} can be mounted",
    outcomes.VolumeRemoved: lambda event, state: f"the disk of volume {event.name} is gone",
    outcomes.EffectFailed: _effect_failed,
    observations.ContainerExited: _exited,
    observations.ContainerVanished: lambda event, state: (
        f"the container {whose(event)} was removed by somebody else"
    ),
    observations.ContainerFoundRunning: lambda event, state: (
        f"the container {whose(event)} was started by somebody else"
    ),
    observations.GpuAccessLost: _access_lost,
    observations.GpuAccessRestored: lambda event, state: (
        f"the container {whose(event)} may use its GPUs again"
    ),
    observations.RetryScheduled: _retry,
    observations.RetryBegun: lambda event, state: f"{whose(event)} is started again now",
    observations.PortRefused: _port_refused,
    observations.PortsMoved: lambda event, state: (
        f"{whose(event)} gets the host ports {bindings(event.ports)}; its container is made anew"
    ),
}
