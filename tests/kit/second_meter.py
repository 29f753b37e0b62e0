"""A second, naive way to say what was used: what is in use now, summed up from record to record.

It knows neither the state nor intervals, and no times but those of the records: for logs in which
Docker's clock is the ledger's, and tells the instant of the record.
"""

from collections import Counter
from collections.abc import Sequence

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
    SnapshotCompacted,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskPutBack,
    VolumeMade,
    VolumeRemoved,
)
from events.record import Event, Record
from events.recovery import ContainerLost
from events.replica_sets import PhaseRequested, RevisionAbandoned, RevisionDeclared
from events.resources import GpusLeased, GpusReleased
from events.volumes import VolumeDeletionRequested, VolumeVersionDeclared

Used = Counter[tuple[str, str]]
"""By meter and name: microseconds times the amount."""


def used_between(records: Sequence[Record], begin_us: int, end_us: int) -> Used:
    """All that was used in a window; what goes on goes on to its end."""
    used: Used = Counter()
    meter = SecondMeter()
    last_us = begin_us
    for record in records:
        now_us = min(record.at_us, end_us)
        if now_us > last_us:
            used += _times(meter.now(), now_us - last_us)
            last_us = now_us
        if record.at_us >= end_us:
            return used
        for event in record.events:
            meter.note(event)
    return used + _times(meter.now(), max(0, end_us - last_us))


def _times(amounts: Used, length_us: int) -> Used:
    return Counter({key: amount * length_us for key, amount in amounts.items()})


class SecondMeter:
    """What the events have said so far, and what is in use by that."""

    def __init__(self) -> None:
        self._declared: dict[tuple[str, int], RevisionDeclared] = {}
        self._current: dict[str, int] = {}
        self._phase: dict[str, str] = {}
        self._running: dict[str, int] = {}
        self._exited: set[tuple[str, int]] = set()
        self._ran: set[tuple[str, int]] = set()
        self._leased: set[tuple[str, int, str]] = set()
        self._kept: set[tuple[str, int, str]] = set()
        self._sizes: dict[tuple[str, int], int] = {}
        self._volumes: dict[str, int] = {}
        self._unwanted: set[str] = set()
        self._disks: dict[tuple[str, int], int] = {}

    def now(self) -> Used:
        """By meter and name: the amount."""
        used: Used = Counter()
        for name, number in self._running.items():
            spec = self._declared[name, number].spec
            used["gpu", name] += len([one for one in self._leased if one[:2] == (name, number)])
            used["cpu", name] += spec.nano_cpus or 0
            used["memory", name] += spec.memory_bytes or 0
        used.update(("gpu", name) for name, _, _ in self._kept)
        for name, size in self._volumes.items():
            used["volume", name] += size
        for (name, _), size in self._disks.items():
            used["snapshot", name] += size
        return used

    def note(self, event: Event) -> None:
        """Remember what an event says."""
        match event:
            case RevisionDeclared(name=name, number=number):
                self._declared[name, number] = event
                self._current[name], self._phase[name] = number, "running"
            case RevisionAbandoned(name=name):
                self._current[name], self._phase[name] = event.back_to, event.phase
            case PhaseRequested(name=name):
                self._phase[name] = event.phase
                number = self._current[name]
                if event.phase == "paused" and (name, number) in self._exited:
                    self._keep(name, number)
            case GpusLeased(name=name, revision=number):
                self._leased |= {(name, number, uuid) for uuid in event.uuids}
            case GpusReleased(name=name, revision=number):
                given = {(name, number, uuid) for uuid in event.uuids}
                self._leased -= given
                self._kept -= given
            case RetryScheduled(name=name, revision=number):
                asked = self._declared[name, number].spec.on_exit == "restart"
                if asked and event.attempt:
                    self._keep(name, number)
            case (
                VolumeVersionDeclared()
                | VolumeMade()
                | VolumeDeletionRequested()
                | VolumeRemoved()
            ):
                self._note_volume(event)
            case SnapshotTaken() | SnapshotCompacted() | SnapshotRemoved() | SystemDiskPutBack():
                self._note_disk(event)
            case _:
                self._note_container(event)

    def _note_container(self, event: Event) -> None:
        match event:
            case ContainerFoundRunning(name=name) if self._phase[name] in ("paused", "stopped"):
                pass
            case (
                ContainerStarted(name=name, revision=number)
                | ContainerFoundRunning(name=name, revision=number)
            ):
                self._running[name] = number
                self._ran.add((name, number))
                self._exited.discard((name, number))
                self._kept = {one for one in self._kept if one[0] != name}
            case (
                ContainerStopped(name=name, revision=number)
                | ContainerExited(name=name, revision=number)
            ):
                self._end(name, number)
                self._exited.add((name, number))
                if self._phase[name] == "paused":
                    self._keep(name, number)
            case (
                ContainerRemoved(name=name, revision=number)
                | ContainerVanished(name=name, revision=number)
                | ContainerLost(name=name, revision=number)
            ):
                self._end(name, number)
                self._exited.discard((name, number))
            case ContainerUpdated(name=name, revision=number):
                self._running[name] = number
                self._ran.add((name, number))
            case _:
                pass

    def _end(self, name: str, number: int) -> None:
        if self._running.get(name) == number:
            del self._running[name]

    def _keep(self, name: str, number: int) -> None:
        if (name, number) in self._ran and name not in self._running:
            self._kept |= {one for one in self._leased if one[:2] == (name, number)}

    def _note_volume(
        self, event: VolumeVersionDeclared | VolumeMade | VolumeDeletionRequested | VolumeRemoved
    ) -> None:
        match event:
            case VolumeVersionDeclared():
                self._sizes[event.name, event.number] = event.size_bytes
                self._unwanted.discard(event.name)
            case VolumeDeletionRequested():
                self._unwanted.add(event.name)
            case VolumeMade():
                self._volumes[event.name] = self._sizes[event.name, event.number]
            case VolumeRemoved() if event.name in self._unwanted:
                self._volumes.pop(event.name, None)
            case VolumeRemoved():
                pass  # only the version of a resize that failed

    def _note_disk(
        self, event: SnapshotTaken | SnapshotCompacted | SnapshotRemoved | SystemDiskPutBack
    ) -> None:
        disk = event.name, event.revision
        match event:
            case SnapshotTaken():
                self._disks[disk] = event.size_bytes
            case SnapshotCompacted():
                self._disks[disk] = max(0, self._disks[disk] - event.saved_bytes)
            case _:
                self._disks.pop(disk, None)
