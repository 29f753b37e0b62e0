"""What an event says, in one plain sentence. Total: a test asks it for every type of event.

Values of the environment are in none of them, nor is the body of a request.
"""

from collections.abc import Callable
from typing import Any

from events import (
    billing,
    operations,
    orphans,
    replica_sets,
    resources,
    volumes,
)
from events.codec import show_time
from events.record import Event
from events.values import show_size, versioned
from projections.state import State
from service.domain import (
    explaining_debug_copies,
    explaining_outcomes,
    explaining_recovery,
    explaining_webhooks,
)
from service.domain.explaining import (
    bindings,
    gpu_name,
    gpu_names,
    listed,
    numbered,
    to_the_second,
    whose,
    words,
)

_KINDS = {"replica_set": "", "volume": "volume ", "gpu": "GPU ", "orphan": "orphan "}


def sentence(event: Event, state: State) -> str:
    """What an event says; `state` knows the GPUs by their indexes."""
    return SENTENCES[type(event)](event, state)


def operation_name(verb: str, kind: str, name: str) -> str:
    """An operation for people."""
    return f"{verb} of {_KINDS.get(kind, f'{kind} ')}{name}"


def _accepted(event: operations.OperationAccepted, state: State) -> str:
    if event.kind == "gpu":
        return f"{event.verb} of {gpu_name(state, event.name)} was accepted"
    return f"{operation_name(event.verb, event.kind, event.name)} was accepted"


def _progressed(event: operations.OperationProgressed, state: State) -> str:
    total = f" of {show_size(event.total_bytes)}" if event.total_bytes else ""
    return f"{event.step}: {show_size(event.done_bytes)}{total} done"


def _failed(event: operations.OperationFailed, state: State) -> str:
    return f"the operation failed ({event.reason}): {words(event.message)}"


def _declared(event: replica_sets.RevisionDeclared, state: State) -> str:
    parts = [f"{numbered(event)} is to be: image {event.spec.image}"]
    if event.supersedes is not None:
        parts.append(f"in the place of {versioned(event.name, event.supersedes)}")
    if event.rolled_back_to is not None:
        parts.append(f"as {versioned(event.name, event.rolled_back_to)} was")
    if event.in_place:
        parts.append("in its running container")
    elif event.disk_from is not None:
        parts.append(f"with the system disk of {versioned(event.name, event.disk_from)}")
    return "; ".join(parts)


def _execution(event: replica_sets.ExecutionRequested, state: State) -> str:
    return f"a command is to be run in {numbered(event)}: {words(' '.join(event.cmd))}"


def _abandoned(event: replica_sets.RevisionAbandoned, state: State) -> str:
    if not event.back_to:
        return f"{numbered(event)} was undone, and nothing is left of {event.name}"
    back = versioned(event.name, event.back_to)
    return f"{numbered(event)} was undone; {back} is current again, and to be {event.phase}"


def _volume_declared(event: volumes.VolumeVersionDeclared, state: State) -> str:
    text = f"volume {numbered(event)} is to have {show_size(event.size_bytes)}"
    if event.supersedes is not None:
        text += f", in the place of {versioned(event.name, event.supersedes)}"
    return text + "; the containers that use it stand still for it" * event.halts_users


def _volume_abandoned(event: volumes.VolumeVersionAbandoned, state: State) -> str:
    if not event.back_to:
        return f"volume {numbered(event)} was undone, and nothing is left of it"
    return f"volume {numbered(event)} was undone; it is {versioned(event.name, event.back_to)}"


def _ill(event: resources.GpuFellIll, state: State) -> str:
    held = f", while {event.holder} had it" if event.holder else ""
    return f"{gpu_name(state, event.uuid)} fell ill{held}: {words(event.message)}"


def _recovered(event: resources.GpuRecovered, state: State) -> str:
    fault = f"{event.cause} {event.number}" if event.number else event.cause
    return f"{gpu_name(state, event.uuid)} does not have this fault any more: {fault}"


def _quarantined(event: resources.GpuQuarantined, state: State) -> str:
    by = "by hand" if event.by_hand else "by the rules"
    gpu = gpu_name(state, event.uuid)
    return f"{gpu} is not lent any more, put in quarantine {by}: {words(event.why)}"


def _error(event: resources.GpuErrorReported, state: State) -> str:
    held = f", while {event.holder} had it" if event.holder else ""
    return f"the driver reported XID {event.xid} of {gpu_name(state, event.uuid)}{held}"


def _occupied(event: resources.GpuOccupied, state: State) -> str:
    pids = listed([str(pid) for pid in event.pids])
    return f"processes of the host are on {gpu_name(state, event.uuid)}, which nobody has: {pids}"


def _price(event: billing.PriceSet, state: State) -> str:
    whose = f" for {event.tenant}" if event.tenant else ""
    model = "" if event.model == billing.ANY_MODEL else f" of model {event.model}"
    since = to_the_second(show_time(event.valid_from_us))
    return f"{event.meter}{model} is {event.price} {event.currency} an hour{whose} from {since} on"


def _gpus_leased(event: resources.GpusLeased, state: State) -> str:
    return f"{gpu_names(state, event.uuids)} lent to {whose(event)}"


def _gpus_released(event: resources.GpusReleased, state: State) -> str:
    return f"{gpu_names(state, event.uuids)} given back by {whose(event)}"


def _ports_released(event: resources.PortsReleased, state: State) -> str:
    ports = listed([str(port) for port in event.host_ports])
    return f"host port {ports} given back by {whose(event)}"


def _gpu(text: str) -> Callable[[Any, State], str]:
    """A sentence that says of a GPU what another GPU would be said in the same words."""
    return lambda event, state: f"{gpu_name(state, event.uuid)} {text}"


SENTENCES: dict[type[Any], Callable[[Any, State], str]] = {
    operations.OperationAccepted: _accepted,
    operations.OperationProgressed: _progressed,
    operations.OperationSucceeded: lambda event, state: "the operation succeeded",
    operations.OperationFailed: _failed,
    replica_sets.RevisionDeclared: _declared,
    replica_sets.PhaseRequested: lambda event, state: f"{event.name} is to be {event.phase}",
    replica_sets.ImageCommitRequested: lambda event, state: (
        f"the system disk of {numbered(event)} is to be saved as {event.image}"
    ),
    replica_sets.ExecutionRequested: _execution,
    replica_sets.RevisionRetired: lambda event, state: (
        f"{numbered(event)} was retired: the version after it has its place"
    ),
    replica_sets.RevisionAbandoned: _abandoned,
    replica_sets.BindMoved: lambda event, state: (
        f"{numbered(event)} mounts {event.new} where it mounted {event.old}: the same disk"
    ),
    replica_sets.RevisionPinned: lambda event, state: (
        f"the system disk of {numbered(event)} is kept until it is unpinned"
    ),
    replica_sets.RevisionUnpinned: lambda event, state: (
        f"the system disk of {numbered(event)} is kept as long as any other"
    ),
    replica_sets.SnapshotExpired: lambda event, state: (
        f"the system disk of {whose(event)} is to be given up: {words(event.message)}"
    ),
    replica_sets.ReplicaSetDeleted: lambda event, state: f"{event.name} was deleted",
    volumes.VolumeVersionDeclared: _volume_declared,
    volumes.VolumeVersionAbandoned: _volume_abandoned,
    volumes.VolumeDeletionRequested: lambda event, state: (
        f"volume {event.name} is to be removed, with its data"
    ),
    volumes.VolumeDeleted: lambda event, state: f"volume {event.name} was deleted",
    resources.NodeRegistered: lambda event, state: f"the installation {event.node} was begun",
    resources.GpuAppeared: lambda event, state: (
        f"the driver shows GPU {event.index}, {event.name}: {event.uuid}"
    ),
    resources.GpuDisappeared: _gpu("is not shown by the driver any more"),
    resources.GpuErrorReported: _error,
    resources.GpuFellIll: _ill,
    resources.GpuRecovered: _recovered,
    resources.GpuQuarantined: _quarantined,
    resources.GpuRestored: _gpu("may be lent again"),
    resources.GpuOccupied: _occupied,
    resources.GpuVacated: _gpu("has no process of the host any more"),
    resources.GpusLeased: _gpus_leased,
    resources.GpusReleased: _gpus_released,
    resources.PortsLeased: lambda event, state: (
        f"host port {bindings(event.ports)} lent to {whose(event)}"
    ),
    resources.PortsReleased: _ports_released,
    **explaining_outcomes.SENTENCES,
    orphans.OrphanExpired: lambda event, state: (
        f"{event.name}, which is in no record, is to be removed: {words(event.message)}"
    ),
    orphans.OrphanRemoved: lambda event, state: f"the orphan {event.name} is gone",
    orphans.OrphanSpared: lambda event, state: (
        f"the orphan {event.name} stays ({event.reason}): {words(event.message)}"
    ),
    **explaining_webhooks.SENTENCES,
    **explaining_debug_copies.SENTENCES,
    **explaining_recovery.SENTENCES,
    billing.PriceSet: _price,
    billing.MonthClosed: lambda event, state: (
        f"the month {event.month} was closed: {event.total} {event.currency}"
    ),
}
"""One function per event; a test compares this with the union `Event`."""
