"""What an explanation is made of: records as they were stored, and facts that cite them.

    conclusion (facts) ◀── the records that still matter ◀── the records that these came from

Nothing here decides or looks anything up. A fact says by what its record can be found: by its
place, by the aspect that it settled, or by what it says; whoever reads the ledger puts the place.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from msgspec import Struct

from events.record import Record
from events.replica_sets import RevisionDeclared
from events.resources import GpuFellIll, GpuQuarantined
from events.values import PortBinding, versioned
from events.volumes import VolumeVersionDeclared
from projections.gpu_unit import Ailment, GpuUnit
from projections.state import State

SubjectKind = Literal["replicaSet", "volume", "gpu", "port", "operation", "record"]
"""What can be explained, in the words of the API."""

SUBJECT_KINDS: tuple[SubjectKind, ...] = get_args(SubjectKind)

NAMED_MAX = 8
"""So many things of a kind are named in a sentence; of the others it says how many they are."""

WORDS_MAX = 300
"""So many characters of somebody else's words, such as Docker's, stand in a sentence."""

Address = tuple[str, str]
"""Kind and name of a record."""

Aspect = tuple[str | int, ...]
"""Something of a thing that a record settles until a later one does, such as its phase."""


class Told(Struct, frozen=True):
    """A record, and its place in the ledger."""

    seq: int
    record: Record


class Source(Struct, frozen=True):
    """A record that is known by what it says: it is one of the addresses' (without any: of
    whomever), of that instant, and has an event of that type with these fields."""

    addresses: tuple[Address, ...]
    at_us: int
    event: type[Any]
    fields: tuple[tuple[str, str | int], ...]

    def is_in(self, record: Record) -> bool:
        """Does a record say this?"""
        return any(
            isinstance(event, self.event)
            and all(getattr(event, field) == value for field, value in self.fields)
            for event in record.events
        )


class Fact(Struct, frozen=True):
    """Something that is so, for people, and the record that it is so by."""

    text: str
    seq: int | None = None
    """The record; None when there is none, or none was found."""
    source: Source | Aspect | None = None
    """By what it is to be found, until `seq` says which it is."""


class Link(Struct, frozen=True):
    """One record of a chain, in plain words."""

    seq: int
    record: Record
    says: tuple[str, ...]
    """A sentence for each of its events."""
    grounds: tuple[Fact, ...] = ()
    """What it was decided from."""
    outcome: str = ""
    """Of a record that accepted a command: how that ended."""
    ended_seq: int | None = None
    """And where."""
    cause: int | None = None
    """The record that it came from."""


class Explanation(Struct, frozen=True):
    """The answer, and the records that it follows from, in the order of the ledger."""

    answer: tuple[Fact, ...]
    chain: tuple[Link, ...]
    older: bool = False
    """There are older records that say something about it; they were not looked at."""


def revision_source(state: State, name: str, number: int) -> Source | None:
    """The record that declared a revision; None when there is no such revision."""
    revision = state.revisions.get((name, number))
    if revision is None:
        return None
    return Source(
        (("replica_set", name),),
        revision.created_us,
        RevisionDeclared,
        (("name", name), ("number", number)),
    )


def volume_source(state: State, name: str, number: int) -> Source | None:
    """The record that declared a version of a volume; a data disk is declared by its set's."""
    volume = state.volumes.get(name)
    versions = volume.versions if volume is not None else ()
    found = next((one for one in reversed(versions) if one.number == number), None)
    if found is None:
        return None
    return Source(
        (("volume", name), ("replica_set", name)),
        found.created_us,
        VolumeVersionDeclared,
        (("name", name), ("number", number)),
    )


def ailment_source(gpu: GpuUnit, ailment: Ailment) -> Source:
    """The record by which a GPU has a fault."""
    fields = (("uuid", gpu.uuid), ("cause", ailment.cause), ("number", ailment.number))
    return Source(gpu_addresses(gpu.uuid), ailment.since_us, GpuFellIll, fields)


def quarantine_source(gpu: GpuUnit) -> Source | None:
    """The record by which a GPU is in quarantine; None when it is in none."""
    if gpu.quarantine is None:
        return None
    at_us = gpu.quarantine.since_us
    return Source(gpu_addresses(gpu.uuid), at_us, GpuQuarantined, (("uuid", gpu.uuid),))


def gpu_addresses(uuid: str) -> tuple[Address, ...]:
    """Where records about a GPU are: what a look at all of them found, and commands on this."""
    return ("node", "gpus"), ("gpu", uuid)


def gpu_name(state: State, uuid: str) -> str:
    """A GPU for people: by its index, where no other can have the same. Instances of one GPU have
    one, and a GPU that is gone may have left its own to another."""
    gpu = state.gpus.get(uuid)
    if gpu is None or not gpu.present or gpu.parent_uuid is not None:
        return f"GPU {uuid}"
    return f"GPU {gpu.index}"


def gpu_names(state: State, uuids: Iterable[str]) -> str:
    """Some GPUs for people."""
    return listed([gpu_name(state, uuid) for uuid in uuids])


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, as many as can be read."""
    more = len(names) - NAMED_MAX
    return ", ".join([*names[:NAMED_MAX], *([f"{more} more"] if more > 0 else [])])


def plural(count: int, noun: str) -> str:
    """ "1 GPU", "2 GPUs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def to_the_second(instant: str) -> str:
    """An instant in UTC (RFC 3339, however fine) as people say it; the record has all of it."""
    whole, dot, _fraction = instant.partition(".")
    return f"{whole}Z" if dot else instant


def whose(event: Any) -> str:
    """The container that an event is about, which has a `revision`."""
    return versioned(event.name, event.revision)


def numbered(event: Any) -> str:
    """The version that an event is about, which has a `number`."""
    return versioned(event.name, event.number)


def words(text: str) -> str:
    """Somebody else's words, on one line, as far as they can be read."""
    line = " ".join(text.split())
    return line if len(line) <= WORDS_MAX else f"{line[:WORDS_MAX]}…"


def bindings(ports: tuple[PortBinding, ...]) -> str:
    """Host ports and where they lead to, for people."""
    return listed([f"{port.host_port}->{port.container_port}" for port in ports])


def holder_name(name: str, revisions: Sequence[int]) -> str:
    """Who has a lease, by the newest of its revisions that have it."""
    return versioned(name, max(revisions)) if revisions else name


def with_places(facts: Iterable[Fact], places: Mapping[Any, int]) -> tuple[Fact, ...]:
    """Facts with the places of their records, as far as these were found."""
    return tuple(
        Fact(fact.text, places.get(fact.source) if fact.source else fact.seq) for fact in facts
    )
