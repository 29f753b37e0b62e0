"""A second book beside the state, kept from the events alone: what the rules must never mix up.

- a GPU or port is leased only when it is free or with the same replica set, and given back once,
  by who holds it, when its container was seen not running, or could not have the port;
- a port that another process has is not leased before it has rested;
- a GPU that is not lent (in quarantine, gone, or with a process of the host on it) goes to nobody
  new; only a container that stays, with other limits, keeps it under its next number;
- a system disk is kept once and given up once, and never while it is pinned, or while something
  lies on it or is being made of it;
- a disk that is lent to a debug copy is kept, and in its place, until it is given back; the image
  of a debug copy goes before its replica set has ended;
- a version that a caller was told of is never declared a second time;
- nothing starts beside another container of the same replica set, or is renamed while it stands.
"""

from collections.abc import Callable, Iterable, Mapping

from events.observations import ContainerExited, ContainerVanished, PortRefused
from events.operations import OperationSucceeded
from events.outcomes import (
    ContainerStarted,
    ContainerUpdated,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskFilled,
    SystemDiskPutBack,
)
from events.record import Event
from events.recovery import ContainerLost
from events.replica_sets import RevisionDeclared, SnapshotExpired
from events.resources import GpusLeased, GpusReleased, PortsLeased, PortsReleased
from events.volumes import VolumeVersionDeclared
from projections.state import Revision, State
from service.domain.effects import (
    CompactSnapshot,
    CreateContainer,
    Effect,
    FillDisk,
    MakeDebugImage,
)
from service.domain.invariants import IN_USE
from service.domain.reconcile import SNAPSHOT_REPOSITORY
from tests.kit.debug_book import DebugBook

Holder = tuple[str, int]
Thing = str | int
"""A GPU's UUID or a host port."""

Explain = Callable[[str], str]
"""From what is wrong to a message with the history that led there."""


class SecondBook:
    """`write` every event before it is folded; then `compare` with the state."""

    def __init__(self) -> None:
        self.told: set[tuple[str, str, int]] = set()
        """Kind, name and number of the versions that callers know of."""
        self._leases: dict[Thing, tuple[Holder, ...]] = {}
        self._kept: dict[str, Holder] = {}
        self._debug = DebugBook()
        self._resting: dict[Thing, int] = {}
        """Ports that were refused, and until when they rest."""
        self._now_us = 0
        self._seen_still: Holder | None = None
        """Whose container was found ended or gone in the record that is being written."""
        self._stays: Holder | None = None
        """The revision declared last, if its container is the one that runs already."""

    def copy(self) -> "SecondBook":
        """An independent book that says the same."""
        other = SecondBook()
        other.told = self.told.copy()
        other._leases = self._leases.copy()
        other._kept = self._kept.copy()
        other._debug = self._debug.copy()
        other._resting = self._resting.copy()
        return other

    def begin(self, now_us: int) -> None:
        """The events of the next record follow, of this instant."""
        self._now_us, self._seen_still = now_us, None

    def write(self, event: Event, state: State, explain: Explain) -> None:
        """Note an event, on a state that does not know it yet."""
        self._debug.write(event, explain)
        match event:
            case GpusLeased():
                self._expect_lent(event, state, explain)
                self._lease(event.uuids, (event.name, event.revision), explain)
            case PortsLeased():
                ports = tuple(binding.host_port for binding in event.ports)
                resting = [p for p in ports if self._resting.get(p, 0) > self._now_us]
                assert not resting, explain(f"{resting} rest, and are leased")
                self._lease(ports, (event.name, event.revision), explain)
            case ContainerExited() | ContainerVanished() | ContainerLost():
                self._seen_still = event.name, event.revision
            case PortRefused():
                self._resting[event.host_port] = event.until_us
            case GpusReleased():
                self._release(event.uuids, (event.name, event.revision), state, explain)
            case PortsReleased():
                self._release(event.host_ports, (event.name, event.revision), state, explain)
            case ContainerStarted():
                _expect_alone(state, event.name, event.revision, explain)
            case ContainerUpdated():
                before = state.revisions[event.name, event.revision].supersedes or 0
                runs = state.revisions[event.name, before].container == "running"
                assert runs, explain(f"{event.name}-{before} is renamed and does not run")
            case SnapshotTaken() | SnapshotRemoved() | SystemDiskPutBack() | SystemDiskFilled():
                self._keep(event, explain)
            case SnapshotExpired():
                expired = state.revisions[event.name, event.revision]
                assert not expired.pinned, explain(f"{event} is pinned")
                above = _lying_on(state, expired)
                assert not above, explain(f"{event}, and {above} lie on it")
            case OperationSucceeded():
                operation = state.operations.get(event.operation_id)
                # An execution and a pin tell of no version; the latter ends as it is accepted.
                if operation is not None and operation.verb != "execute":
                    self._tell(operation.kind, operation.name, state)
            case RevisionDeclared():
                self._stays = (event.name, event.number) if event.in_place else None
                self._expect_new("replica_set", event.name, event.number, explain)
            case VolumeVersionDeclared():
                self._expect_new("volume", event.name, event.number, explain)

    def compare(self, state: State, due: Iterable[Effect], explain: Explain) -> None:
        """Leases and kept disks are the same in the state, and nothing is made of what is gone."""
        held = {thing: holders for thing, holders in self._leases.items() if holders}
        told = _leases_of(state)
        assert told == held, explain(f"the state says {told}, the events say {held}")
        kept = {r.snapshot: (r.name, r.number) for r in state.revisions.values() if r.snapshot}
        assert kept == self._kept, explain(f"the state keeps {kept}, the events say {self._kept}")
        effects = tuple(due)
        self._debug.compare(state, effects, explain)
        there = {*self._kept, *self._debug.images}
        for effect in effects:
            gone = [disk for disk in _made_of(effect) if disk not in there]
            assert not gone, explain(f"{effect.effect_id} needs {gone}")

    def _keep(
        self,
        event: SnapshotTaken | SnapshotRemoved | SystemDiskPutBack | SystemDiskFilled,
        explain: Explain,
    ) -> None:
        holder = event.name, event.revision
        if isinstance(event, SnapshotTaken):
            fresh = event.image not in self._kept and holder not in self._kept.values()
            assert fresh, explain(f"{event} while {self._kept}")
            self._kept[event.image] = holder
        elif isinstance(event, SystemDiskFilled):
            assert event.image in self._kept, explain(f"{event} while {self._kept}")
        else:
            assert self._kept.pop(event.image, None) == holder, explain(f"{event} was not kept")

    def _expect_lent(self, event: GpusLeased, state: State, explain: Explain) -> None:
        if self._stays == (event.name, event.revision):
            return
        not_lent = {uuid: state.gpus[uuid].obstacle for uuid in event.uuids}
        assert not any(not_lent.values()), explain(f"{event}, and {not_lent}")

    def _lease(self, things: Iterable[Thing], holder: Holder, explain: Explain) -> None:
        for thing in things:
            before = self._leases.get(thing, ())
            free = all(name == holder[0] and number != holder[1] for name, number in before)
            assert free, explain(f"{thing} goes to {holder}, and {before} have it")
            self._leases[thing] = (*before, holder)

    def _release(
        self, things: Iterable[Thing], holder: Holder, state: State, explain: Explain
    ) -> None:
        phase = state.revisions[holder].container
        for thing in things:
            still = phase in ("absent", "exited", "removed") or holder == self._seen_still
            made_again = state.revisions[holder].lost is not None  # and not started
            never_had = phase == "created" and (made_again or thing in self._resting)
            assert still or never_had, explain(
                f"{holder} gives {thing} back while its container is {phase}"
            )
            before = self._leases.get(thing, ())
            assert holder in before, explain(f"{holder} gives {thing} back, which it has not")
            self._leases[thing] = tuple(one for one in before if one != holder)

    def _tell(self, kind: str, name: str, state: State) -> None:
        """The caller learns that an operation succeeded, and with it which versions there are: of
        a volume not that of a replica set whose data disk it is."""
        replica_set = state.replica_sets.get(name) if kind == "replica_set" else None
        if replica_set is not None:
            self.told.add(("replica_set", name, replica_set.current))
        if (volume := state.volumes.get(name)) is not None:
            self.told.add(("volume", name, volume.current))

    def _expect_new(self, kind: str, name: str, number: int, explain: Explain) -> None:
        known = (kind, name, number) in self.told
        assert not known, explain(f"{kind} {name}-{number} is declared a second time")


def _expect_alone(state: State, name: str, number: int, explain: Explain) -> None:
    """What starts may have the GPUs and ports of another revision, which must stand still."""
    others = [
        revision.number
        for revision in state.revisions.values()
        if revision.name == name and revision.container == "running"
    ]
    assert not others, explain(f"{name}-{number} starts beside {others}")


def _lying_on(state: State, kept: Revision) -> list[int]:
    """Versions whose container, or kept directory, is nothing without this kept image."""
    return [
        r.number
        for r in state.revisions.values()
        if r.name == kept.name
        and r.base_image == kept.snapshot
        and (r.container in IN_USE or (r.snapshot and r.snapshot_carry == "upper"))
    ]


def _leases_of(state: State) -> Mapping[Thing, tuple[Holder, ...]]:
    told: dict[Thing, tuple[Holder, ...]] = {
        unit.uuid: tuple((unit.holder or "", number) for number in unit.revisions)
        for unit in state.gpus.values()
        if unit.revisions
    }
    for port, lease in state.ports.items():
        told[port] = tuple((lease.holder, number) for number in lease.revisions)
    return told


def _made_of(effect: Effect) -> tuple[str, ...]:
    """The kept system disks that an effect needs to be there."""
    match effect:
        case FillDisk():
            return (effect.image,)
        case CompactSnapshot():
            return effect.image, effect.other
        case CreateContainer():
            image = effect.config["Image"]
            return (image,) if image.startswith(SNAPSHOT_REPOSITORY) else ()
        case MakeDebugImage(live=False):
            return (effect.source,)
        case _:
            return ()
