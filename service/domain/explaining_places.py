"""Why these GPUs and these host ports: what a choice was made from, told from the state before it.

The rules themselves are in `placement`; a test holds what is told here against them.
"""

from collections.abc import Iterator, Mapping

from events.observations import PortsMoved
from events.record import Record
from events.replica_sets import RevisionDeclared
from events.values import PortBinding, versioned
from projections.state import GpuUnit, State
from service.domain.changes import SpecChange, spec_changes
from service.domain.explaining import (
    Fact,
    gpu_name,
    holder_name,
    listed,
    plural,
    quarantine_source,
    revision_source,
)
from service.domain.port_moves import resting_ports

GPUS_TOLD_MAX = 32
"""Of so many GPUs it is told why they were taken or not."""

PORTS_TOLD_MAX = 4
"""Of so many host ports that were passed over it is told why."""


def is_choice(record: Record) -> bool:
    """Were GPUs or host ports chosen in this record?"""
    return any(isinstance(event, RevisionDeclared | PortsMoved) for event in record.events)


def grounds(before: State, record: Record) -> tuple[Fact, ...]:
    """What the GPUs and host ports of a record were chosen from; `before` is the state that it
    was decided on."""
    found: list[Fact] = []
    for event in record.events:
        if isinstance(event, RevisionDeclared):
            found += (*_asked(before, event), *_of_declaration(before, record, event))
        elif isinstance(event, PortsMoved):
            revision = before.revisions[event.name, event.revision]
            prefer = {port.container_port: port.host_port for port in revision.ports}
            found += _ports(before, record, event.name, event.ports, prefer)
    return tuple(found)


def preferred_gpus(before: State, event: RevisionDeclared) -> tuple[str, ...]:
    """The GPUs that come first: those of the version before, unless they are applied for anew."""
    previous = before.revisions.get((event.name, event.supersedes or 0))
    return previous.gpus if previous is not None and event.cause != "restart" else ()


def preferred_ports(before: State, event: RevisionDeclared) -> dict[str, int]:
    """By port of the container: the host port that the version before had for it."""
    previous = before.revisions.get((event.name, event.supersedes or 0))
    ports = previous.ports if previous is not None else ()
    return {port.container_port: port.host_port for port in ports}


def gpu_standing(state: State, gpu: GpuUnit, name: str) -> Fact:
    """Why `name` cannot have a GPU now; an empty text where it can."""
    if not _stands_against(gpu, name):
        return Fact("")
    title = gpu_name(state, gpu.uuid)
    if gpu.holder not in (None, name):
        holder = holder_name(str(gpu.holder), gpu.revisions)
        source = revision_source(state, str(gpu.holder), max(gpu.revisions, default=0))
        return Fact(f"{title}: {holder} has it", source=source)
    if gpu.quarantine is not None:
        by = "by hand" if gpu.quarantine.by_hand else "by the rules"
        text = f"{title}: in quarantine {by}: {gpu.quarantine.why}"
        return Fact(text, source=quarantine_source(gpu))
    return Fact(f"{title}: {gpu.obstacle}")


def _stands_against(gpu: GpuUnit, name: str) -> bool:
    return gpu.holder not in (None, name) or bool(gpu.obstacle)


def by_index(state: State) -> list[GpuUnit]:
    """All GPUs, in the order in which they are lent."""
    return sorted(state.gpus.values(), key=lambda gpu: (gpu.index, gpu.uuid))


def _asked(before: State, event: RevisionDeclared) -> Iterator[Fact]:
    """What is other than in the version before. Of the environment only the names are told."""
    previous = before.revisions.get((event.name, event.supersedes or 0))
    if previous is None:
        return
    title = f"other than in {versioned(previous.name, previous.number)}"
    changes = [_change(change) for change in spec_changes(previous.spec, event.spec)]
    source = revision_source(before, previous.name, previous.number)
    yield Fact(f"{title}: {listed(changes) or 'nothing'}", source=source)


def _change(change: SpecChange) -> str:
    if change.field.startswith("env."):
        return change.field
    return f"{change.field} {change.old or 'none'} -> {change.new or 'none'}"


def _of_declaration(before: State, record: Record, event: RevisionDeclared) -> Iterator[Fact]:
    if event.in_place and event.supersedes is not None:
        old = versioned(event.name, event.supersedes)
        yield Fact(
            f"only limits differ from {old}: its container goes on, with its GPUs and ports",
            source=revision_source(before, event.name, event.supersedes),
        )
        return
    if event.spec.gpu_count:
        yield from _gpus(before, event)
    if event.ports:
        prefer = preferred_ports(before, event)
        yield from _ports(before, record, event.name, event.ports, prefer)


def _gpus(before: State, event: RevisionDeclared) -> Iterator[Fact]:
    prefer = preferred_gpus(before, event)
    order = "the lowest indexes"
    if prefer and event.supersedes is not None:
        order = f"those of {versioned(event.name, event.supersedes)}, then {order}"
    gpus = by_index(before)
    usable = [gpu for gpu in gpus if not _stands_against(gpu, event.name)]
    count = plural(event.spec.gpu_count, "GPU")
    yield Fact(
        f"{count} asked for, {len(usable)} of {len(gpus)} could be had; first come {order}"
    )
    # What was taken is told before what was not: of many GPUs only some are told of.
    gpus.sort(key=lambda gpu: gpu.uuid not in event.gpus)
    for gpu in gpus[:GPUS_TOLD_MAX]:
        yield _gpu(before, event, gpu, gpu.uuid in prefer)
    if len(gpus) > GPUS_TOLD_MAX:
        yield Fact(f"{plural(len(gpus) - GPUS_TOLD_MAX, 'more GPU')} not told of")


def _gpu(before: State, event: RevisionDeclared, gpu: GpuUnit, was_its_own: bool) -> Fact:
    title = gpu_name(before, gpu.uuid)
    against = gpu_standing(before, gpu, event.name)
    if against.text:
        return against
    old = versioned(event.name, event.supersedes) if event.supersedes is not None else event.name
    if gpu.uuid not in event.gpus:
        return Fact(f"{title}: not needed")
    if gpu.holder == event.name:
        return Fact(f"{title}: taken, {old} has it already")
    had = f"{old} had it, and nobody has it now" if was_its_own else "nobody has it"
    return Fact(f"{title}: taken, {had}")


def _ports(
    before: State,
    record: Record,
    name: str,
    ports: tuple[PortBinding, ...],
    prefer: Mapping[str, int],
) -> Iterator[Fact]:
    """Kept ones are told as such; the others follow the port that was lent last."""
    cursor = before.node.port_cursor if before.node is not None else 0
    resting = resting_ports(before, record.at_us)
    chosen = [port for port in ports if prefer.get(port.container_port) != port.host_port]
    if kept := [port for port in ports if port not in chosen]:
        shown = listed([str(port.host_port) for port in kept])
        yield Fact(f"host port {shown}: {name} had it before")
    passed: list[Fact] = []
    for port in chosen:
        title = f"host port {port.host_port} for {port.container_port}"
        why = f"the next free one after {cursor}, which was lent last"
        if port.host_port < cursor or not cursor:
            why = "the first free one of the range"
        yield Fact(f"{title}: {why}")
        between = range(cursor + 1, port.host_port) if cursor else range(0)
        passed += [fact for one in between if (fact := port_standing(before, one, resting)).text]
        cursor = port.host_port
    yield from passed[:PORTS_TOLD_MAX]
    if len(passed) > PORTS_TOLD_MAX:
        yield Fact(f"{plural(len(passed) - PORTS_TOLD_MAX, 'more host port')} passed over")


def port_standing(state: State, host_port: int, resting: frozenset[int]) -> Fact:
    """Why a host port cannot be had now; an empty text where it can."""
    lease = state.ports.get(host_port)
    if lease is not None:
        holder = holder_name(lease.holder, lease.revisions)
        source = revision_source(state, lease.holder, max(lease.revisions, default=0))
        return Fact(f"host port {host_port}: {holder} has it", source=source)
    if host_port in resting:
        return Fact(f"host port {host_port}: it rests, as another process was found to have it")
    return Fact("")
