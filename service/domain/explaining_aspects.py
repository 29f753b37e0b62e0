"""Which record it is that something is so by: the newest that settled that aspect of a thing.

What a record came from is said in the same way: the start of a container by the retry that it
was, the retry by the exit before it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from events import observations, orphans, outcomes, recovery, replica_sets, resources, volumes
from events.record import Event, Record
from service.domain.explaining import Aspect, Source, SubjectKind, Told

_Aspects = Callable[[Any], Iterable[Aspect]]


def phase_of(name: str) -> Aspect:
    """What a replica set is meant to be."""
    return "phase", name


def container_of(name: str, number: int) -> Aspect:
    """What was last seen of a revision's container."""
    return "container", name, number


def gpus_of(name: str, number: int) -> Aspect:
    """The GPUs that a revision has, or has no more."""
    return "gpus", name, number


def ports_of(name: str, number: int) -> Aspect:
    """The host ports that a revision has, or has no more."""
    return "ports", name, number


def retry_of(name: str, number: int) -> Aspect:
    """That a revision's container is to be started again."""
    return "retry", name, number


def begun_of(name: str, number: int) -> Aspect:
    """That something was begun with a revision's container without a caller: it is started
    again, or somebody else started it."""
    return "begun", name, number


def access_of(name: str, number: int) -> Aspect:
    """Whether a revision's container may use its GPUs."""
    return "access", name, number


def disk_of(name: str, number: int) -> Aspect:
    """Whether a revision's system disk is kept."""
    return "disk", name, number


def expiry_of(name: str, number: int) -> Aspect:
    """That a revision's system disk is to be given up."""
    return "expiry", name, number


def pin_of(name: str, number: int) -> Aspect:
    """Whether a revision's system disk is kept until it is unpinned."""
    return "pin", name, number


def retired_by(name: str, number: int) -> Aspect:
    """That another revision has taken the place of one."""
    return "retired", name, number


def made_as(name: str, number: int) -> Aspect:
    """That a version of a volume can be mounted."""
    return "made", name, number


def end_of(name: str) -> Aspect:
    """That a volume is to go, or has gone."""
    return "end", name


def shown(uuid: str) -> Aspect:
    """Whether the driver shows a GPU."""
    return "shown", uuid


def occupied(uuid: str) -> Aspect:
    """Whether processes of the host are on a GPU."""
    return "occupied", uuid


def ill(uuid: str) -> Aspect:
    """That a GPU fell ill."""
    return "ill", uuid


def leased(uuid: str) -> Aspect:
    """Who has a GPU, or gave it back."""
    return "leased", uuid


def port_lent(host_port: int) -> Aspect:
    """Who has a host port, or gave it back."""
    return "port", host_port


def orphan_of(orphan: str) -> Aspect:
    """That an orphan is to be removed."""
    return "orphan", orphan


def _container(event: Any) -> tuple[Aspect, ...]:
    return (container_of(event.name, event.revision),)


def _retry(event: Any) -> tuple[Aspect, ...]:
    return (retry_of(event.name, event.revision),)


def _access(event: Any) -> tuple[Aspect, ...]:
    return (access_of(event.name, event.revision),)


def _disk(event: Any) -> tuple[Aspect, ...]:
    return (disk_of(event.name, event.revision),)


def _gpus(event: Any) -> tuple[Aspect, ...]:
    return (gpus_of(event.name, event.revision), *map(leased, event.uuids))


def _ports_leased(event: resources.PortsLeased) -> tuple[Aspect, ...]:
    lent = (port_lent(port.host_port) for port in event.ports)
    return (ports_of(event.name, event.revision), *lent)


def _ports_released(event: resources.PortsReleased) -> tuple[Aspect, ...]:
    return (ports_of(event.name, event.revision), *map(port_lent, event.host_ports))


def _recovered(event: recovery.RecoveryBegun) -> tuple[Aspect, ...]:
    name, number = event.name, event.revision
    lent = (*map(leased, event.gpus), *(port_lent(port.host_port) for port in event.ports))
    own = phase_of(name), container_of(name, number), gpus_of(name, number), ports_of(name, number)
    return (*own, *lent)


def _found_running(event: observations.ContainerFoundRunning) -> tuple[Aspect, ...]:
    return (*_container(event), begun_of(event.name, event.revision))


def _expired(event: replica_sets.SnapshotExpired) -> tuple[Aspect, ...]:
    return (*_disk(event), expiry_of(event.name, event.revision))


def _begun(event: observations.RetryBegun) -> tuple[Aspect, ...]:
    return (begun_of(event.name, event.revision),)


def _pin(event: Any) -> tuple[Aspect, ...]:
    return (pin_of(event.name, event.number),)


_SETTLES: dict[type[Any], _Aspects] = {
    replica_sets.RevisionDeclared: lambda event: (phase_of(event.name),),
    replica_sets.PhaseRequested: lambda event: (phase_of(event.name),),
    replica_sets.RevisionAbandoned: lambda event: (phase_of(event.name),),
    replica_sets.ReplicaSetDeleted: lambda event: (phase_of(event.name),),
    replica_sets.RevisionRetired: lambda event: (retired_by(event.name, event.number),),
    replica_sets.RevisionPinned: _pin,
    replica_sets.RevisionUnpinned: _pin,
    replica_sets.SnapshotExpired: _expired,
    volumes.VolumeVersionAbandoned: lambda event: (end_of(event.name),),
    volumes.VolumeDeletionRequested: lambda event: (end_of(event.name),),
    volumes.VolumeDeleted: lambda event: (end_of(event.name),),
    resources.GpuAppeared: lambda event: (shown(event.uuid),),
    resources.GpuDisappeared: lambda event: (shown(event.uuid),),
    resources.GpuFellIll: lambda event: (ill(event.uuid),),
    resources.GpuOccupied: lambda event: (occupied(event.uuid),),
    resources.GpuVacated: lambda event: (occupied(event.uuid),),
    resources.GpusLeased: _gpus,
    resources.GpusReleased: _gpus,
    resources.PortsLeased: _ports_leased,
    resources.PortsReleased: _ports_released,
    outcomes.ContainerCreated: _container,
    outcomes.ContainerUpdated: _container,
    outcomes.ContainerStarted: _container,
    outcomes.ContainerStopped: _container,
    outcomes.ContainerRemoved: _container,
    outcomes.SnapshotTaken: _disk,
    outcomes.SnapshotRemoved: _disk,
    outcomes.SystemDiskPutBack: _disk,
    outcomes.VolumeMade: lambda event: (made_as(event.name, event.number),),
    observations.ContainerExited: _container,
    observations.ContainerVanished: _container,
    observations.ContainerFoundRunning: _found_running,
    observations.GpuAccessLost: _access,
    observations.GpuAccessRestored: _access,
    observations.RetryScheduled: _retry,
    observations.RetryBegun: _begun,
    orphans.OrphanExpired: lambda event: (orphan_of(event.orphan),),
    recovery.ContainerLost: _container,
    recovery.RecoveryBegun: _recovered,
    recovery.VolumeLost: lambda event: (made_as(event.name, event.number),),
}


def settled_by(record: Record) -> set[Aspect]:
    """What a record settles, until a later one does."""
    found: set[Aspect] = set()
    for event in record.events:
        found.update(_SETTLES.get(type(event), lambda _: ())(event))
    return found


def came_from(record: Record) -> set[Aspect]:
    """What a record came from that no operation tells: aspects that one before it settled."""
    found: set[Aspect] = set()
    for event in record.events:
        found.update(_origins(event, record))
    return found - settled_by(record)


def _origins(event: Event, record: Record) -> Iterator[Aspect]:
    match event:
        case replica_sets.RevisionDeclared() if record.verb == "retry" and event.supersedes:
            yield retry_of(event.name, event.supersedes)
        case observations.RetryBegun():
            yield retry_of(event.name, event.revision)
        case resources.GpuQuarantined() if not event.by_hand:
            yield ill(event.uuid)
        case resources.GpuRecovered():
            yield ill(event.uuid)
        case resources.GpuVacated():
            yield occupied(event.uuid)
    if not record.operation_id:
        yield from _origins_without_caller(event)


def _origins_without_caller(event: Event) -> Iterator[Aspect]:
    match event:
        case outcomes.ContainerStarted() | outcomes.ContainerStopped():
            yield begun_of(event.name, event.revision)
        case outcomes.EffectFailed() if event.effect == "StartContainer":
            yield begun_of(event.name, event.number)
        case outcomes.SnapshotRemoved():
            yield expiry_of(event.name, event.revision)
        case orphans.OrphanRemoved() | orphans.OrphanSpared():
            yield orphan_of(event.orphan)


def concerns(record: Record, kind: SubjectKind, name: str, number: int = 0) -> bool:
    """Is a record about a thing: was it addressed to it, or does one of its events name it?

    A GPU's name is its UUID, an operation's its id, a record's its command's id. `number` is the
    version that it is asked of; 0 is all of them.
    """
    match kind:
        case "replicaSet" if number:
            return any(number in _versions(event, name) for event in record.events)
        case "replicaSet":
            addressed = (record.kind, record.name) == ("replica_set", name)
            return addressed or any(_versions(event, name) for event in record.events)
        case "volume":
            addressed = (record.kind, record.name) == ("volume", name)
            return addressed or any(_is_of_volume(event, name) for event in record.events)
        case "gpu":
            return any(name in _uuids(event) for event in record.events)
        case "port":
            return any(int(name) in _host_ports(event) for event in record.events)
        case "operation":
            return record.operation_id == name
        case "record":
            return record.command_id == name


def _versions(event: Any, name: str) -> tuple[int, ...]:
    """The versions of a replica set that an event names."""
    if isinstance(event, _OF_VOLUMES) or getattr(event, "name", "") != name:
        return ()
    fields = ("revision", "number", "supersedes", "rolled_back_to", "back_to")
    found = (getattr(event, field, None) for field in fields)
    return tuple(number for number in found if number)


_OF_VOLUMES = (
    volumes.VolumeVersionDeclared,
    volumes.VolumeVersionAbandoned,
    volumes.VolumeDeletionRequested,
    volumes.VolumeDeleted,
    outcomes.VolumeMade,
    outcomes.VolumeRemoved,
    recovery.VolumeLost,
)


def _is_of_volume(event: Any, name: str) -> bool:
    if isinstance(event, replica_sets.BindMoved):
        return event.new.rpartition("-")[0] == name
    if isinstance(event, replica_sets.RevisionDeclared):
        return any(bind.source.rpartition("-")[0] == name for bind in event.spec.binds)
    return isinstance(event, _OF_VOLUMES) and event.name == name


def _uuids(event: Any) -> tuple[str, ...]:
    made_again = event.gpus if isinstance(event, recovery.RecoveryBegun) else ()
    return (*made_again, *getattr(event, "uuids", ()), getattr(event, "uuid", ""))


def _host_ports(event: Any) -> tuple[int, ...]:
    ports = (port.host_port for port in getattr(event, "ports", ()))
    return (*ports, *getattr(event, "host_ports", ()), getattr(event, "host_port", 0))


class Search:
    """Records, the newest first: by which of them it is as it is."""

    def __init__(self, wanted: Iterable[Aspect]) -> None:
        self.places: dict[Aspect | Source, int] = {}
        """By aspect: the record that settled it."""
        self._wanted = set(wanted)

    @property
    def is_over(self) -> bool:
        """Is there nothing left to look for?"""
        return not self._wanted

    def look(self, told: Told) -> bool:
        """Take the next record, which must be older than those before; was it looked for?"""
        answered = settled_by(told.record) & self._wanted
        self.places.update(dict.fromkeys(answered, told.seq))
        self._wanted -= answered
        return bool(answered)
