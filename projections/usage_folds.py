"""What opens and closes an interval of usage: one rule per event; of other events nothing is used.

A container uses CPU, memory and GPUs from Docker's start to Docker's finish, whenever it was that
the service heard of it. A GPU is used as well while it is kept for a container that does not run
because its caller wants it so. Disks are used from the record that says they are there to the
one that says they are gone. Where two records tell of the same instant, their order decides.
"""

from collections.abc import Callable, Iterator
from typing import Any

from events.billing import Meter
from events.codec import read_time
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
from events.record import Record
from events.recovery import ContainerLost
from events.replica_sets import PhaseRequested, ReplicaSetDeleted
from events.resources import GpusReleased
from projections.state import Revision, State
from projections.usage import Interval, Kept, Note, Subject, Usage

RUNS: tuple[Meter, ...] = ("gpu", "cpu", "memory")
"""What a container uses; the others are disks."""


def meter(usage: Usage, state: State, seq: int, record: Record) -> None:
    """Fold one record, which the state has folded already. Total, as `evolve` is."""
    begun = False
    for event in record.events:
        fold = METERS.get(type(event))
        if fold is not None:
            if not begun:  # most records use nothing, and cost next to nothing here
                usage.at(seq)
                begun = True
            fold(usage, state, record, event)


# -- containers -------------------------------------------------------------------------------


def _started(
    usage: Usage, state: State, record: Record, event: ContainerStarted | ContainerFoundRunning
) -> None:
    begun_us, notes = _docker_time(event.started_at, record)
    for before in _running(usage, event.name):
        usage.end(before, begun_us)
    revision = state.revisions[event.name, event.revision]
    _run(usage, state, revision, begun_us, notes)


def _found_running(
    usage: Usage, state: State, record: Record, event: ContainerFoundRunning
) -> None:
    # Somebody else started what was not to run: it is stopped again, and is not its caller's.
    if state.replica_sets[event.name].phase not in ("paused", "stopped"):
        _started(usage, state, record, event)


def _ended(
    usage: Usage, state: State, record: Record, event: ContainerStopped | ContainerExited
) -> None:
    ended_us, notes = _docker_time(event.finished_at, record)
    for interval in _running(usage, event.name, event.revision):
        usage.end(interval, ended_us, *notes)
        ended_us = max(ended_us, interval.begun_us)
    if state.replica_sets[event.name].phase == "paused":
        _keep(usage, state, event.name, event.revision, ended_us, "paused")


def _gone(
    usage: Usage,
    state: State,
    record: Record,
    event: ContainerRemoved | ContainerVanished | ContainerLost,
) -> None:
    for interval in _running(usage, event.name, event.revision):
        usage.end(interval, record.at_us, "record_time")


def _updated(usage: Usage, state: State, record: Record, event: ContainerUpdated) -> None:
    """The same container, under another number and with other limits."""
    revision = state.revisions[event.name, event.revision]
    before = [i for i in usage.of(("replica_set", event.name)) if i.number == revision.supersedes]
    runs = False
    for interval in before:
        if interval.meter not in RUNS:
            continue
        usage.end(interval, record.at_us, "record_time")
        if interval.kept:
            _use_gpu(usage, state, revision, interval.gpu, record.at_us, (), interval.kept)
        else:
            runs = True
    if runs:
        _run(usage, state, revision, record.at_us, ("record_time",))


def _phase_requested(usage: Usage, state: State, record: Record, event: PhaseRequested) -> None:
    if event.phase != "paused":
        return
    number = state.replica_sets[event.name].current
    revision = state.revisions.get((event.name, number))
    if revision is not None and revision.container == "exited":
        _keep(usage, state, event.name, number, record.at_us, "paused")


def _retry_scheduled(usage: Usage, state: State, record: Record, event: RetryScheduled) -> None:
    """From the record on: between the end and this nobody had decided to keep anything."""
    asked = state.revisions[event.name, event.revision].spec.on_exit == "restart"
    if asked and event.attempt:
        _keep(usage, state, event.name, event.revision, record.at_us, "waiting")


def _released(usage: Usage, state: State, record: Record, event: GpusReleased) -> None:
    for uuid in event.uuids:
        lent = usage.lent.get(uuid)
        if lent is not None and (lent.name, lent.number) == (event.name, event.revision):
            usage.end(lent, record.at_us, *(() if lent.kept else ("record_time",)))


def _docker_time(text: str, record: Record) -> tuple[int, tuple[Note, ...]]:
    """Docker's instant; where it has none, or one still to come, that of the record.

    A clock that is behind tells the same lengths; one that ran ahead, and was set right later,
    would leave no time for those who use the GPU next.
    """
    at_us = read_time(text)
    if at_us is None:
        return record.at_us, ("record_time",)
    return (at_us, ()) if at_us <= record.at_us else (record.at_us, ("clock",))


def _running(usage: Usage, name: str, number: int | None = None) -> Iterator[Interval]:
    """What is open of a replica set's containers, or of one, kept GPUs left out where one is
    asked for: they outlast its end."""
    for interval in usage.of(("replica_set", name)):
        if interval.meter in RUNS and (
            number is None or (interval.number == number and not interval.kept)
        ):
            yield interval


def _run(
    usage: Usage, state: State, revision: Revision, begun_us: int, notes: tuple[Note, ...]
) -> None:
    """Everything that a container uses while it runs."""
    for uuid in revision.gpus:
        _use_gpu(usage, state, revision, uuid, begun_us, notes)
    limits: tuple[tuple[Meter, int | None], ...] = (
        ("cpu", revision.spec.nano_cpus),
        ("memory", revision.spec.memory_bytes),
    )
    for what, limit in limits:
        known: tuple[Note, ...] = notes if limit else (*notes, "no_limit")
        usage.begin(
            Interval(
                opened_seq=usage.seq,
                place=usage.next_place(),
                meter=what,
                name=revision.name,
                number=revision.number,
                amount=limit or 0,
                begun_us=begun_us,
                tenant=_tenant(state, revision.name),
                labels=revision.spec.labels,
                notes=known,
            )
        )


def _keep(usage: Usage, state: State, name: str, number: int, at_us: int, kept: Kept) -> None:
    """A GPU is kept from now on, unless it is already or its container has never run."""
    revision = state.revisions[name, number]
    if not revision.started_at:
        return
    for uuid in revision.gpus:
        if uuid not in usage.lent:
            _use_gpu(usage, state, revision, uuid, at_us, (), kept)


def _use_gpu(
    usage: Usage,
    state: State,
    revision: Revision,
    uuid: str,
    begun_us: int,
    notes: tuple[Note, ...],
    kept: Kept = "",
) -> None:
    """A GPU is used, if it is lent to the revision."""
    unit = state.gpus.get(uuid)
    if unit is None or unit.holder != revision.name or revision.number not in unit.revisions:
        return
    usage.begin(
        Interval(
            opened_seq=usage.seq,
            place=usage.next_place(),
            meter="gpu",
            name=revision.name,
            number=revision.number,
            amount=1,
            begun_us=begun_us,
            tenant=_tenant(state, revision.name),
            labels=revision.spec.labels,
            gpu=uuid,
            model=unit.name,
            kept=kept,
            notes=notes,
        )
    )


def _tenant(state: State, name: str) -> str:
    return state.replica_sets[name].tenant


# -- disks ------------------------------------------------------------------------------------


def _volume_made(usage: Usage, state: State, record: Record, event: VolumeMade) -> None:
    volume = state.volumes[event.name]
    _end_all(usage, ("volume", event.name), record)
    sizes = (v.size_bytes for v in volume.versions if v.number == event.number)
    usage.begin(
        Interval(
            opened_seq=usage.seq,
            place=usage.next_place(),
            meter="volume",
            name=event.name,
            number=event.number,
            amount=next(sizes, 0),
            begun_us=record.at_us,
            tenant=volume.tenant,
        )
    )


def _volume_removed(usage: Usage, state: State, record: Record, event: VolumeRemoved) -> None:
    # Of a resize that failed it is the version that is gone, and its disk is as it was.
    if state.volumes[event.name].deleting:
        _end_all(usage, ("volume", event.name), record)


def _snapshot_taken(usage: Usage, state: State, record: Record, event: SnapshotTaken) -> None:
    _keep_disk(usage, state, record, event.name, event.revision, event.size_bytes)


def _compacted(usage: Usage, state: State, record: Record, event: SnapshotCompacted) -> None:
    is_kept = ("snapshot", event.revision, "") in usage.open.get(("replica_set", event.name), {})
    if event.saved_bytes and is_kept:
        left = state.revisions[event.name, event.revision].snapshot_bytes
        _keep_disk(usage, state, record, event.name, event.revision, left)


def _keep_disk(
    usage: Usage, state: State, record: Record, name: str, number: int, size_bytes: int
) -> None:
    usage.begin(
        Interval(
            opened_seq=usage.seq,
            place=usage.next_place(),
            meter="snapshot",
            name=name,
            number=number,
            amount=size_bytes,
            begun_us=record.at_us,
            tenant=_tenant(state, name),
            labels=state.revisions[name, number].spec.labels,
            notes=() if size_bytes else ("no_size",),
        )
    )


def _snapshot_gone(
    usage: Usage, state: State, record: Record, event: SnapshotRemoved | SystemDiskPutBack
) -> None:
    for interval in usage.of(("replica_set", event.name)):
        if (interval.meter, interval.number) == ("snapshot", event.revision):
            usage.end(interval, record.at_us)


def _set_deleted(usage: Usage, state: State, record: Record, event: ReplicaSetDeleted) -> None:
    _end_all(usage, ("replica_set", event.name), record)


def _end_all(usage: Usage, subject: Subject, record: Record) -> None:
    for interval in usage.of(subject):
        usage.end(interval, record.at_us)


METERS: dict[type[Any], Callable[[Usage, State, Record, Any], None]] = {
    ContainerStarted: _started,
    ContainerFoundRunning: _found_running,
    ContainerStopped: _ended,
    ContainerExited: _ended,
    ContainerRemoved: _gone,
    ContainerVanished: _gone,
    ContainerLost: _gone,
    ContainerUpdated: _updated,
    PhaseRequested: _phase_requested,
    RetryScheduled: _retry_scheduled,
    GpusReleased: _released,
    VolumeMade: _volume_made,
    VolumeRemoved: _volume_removed,
    SnapshotTaken: _snapshot_taken,
    SnapshotCompacted: _compacted,
    SnapshotRemoved: _snapshot_gone,
    SystemDiskPutBack: _snapshot_gone,
    ReplicaSetDeleted: _set_deleted,
}
