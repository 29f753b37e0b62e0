"""The fold of facts about the node, its GPUs and ports, and the leases on them."""

from msgspec.structs import replace

from events.record import Record
from events.resources import (
    GpuAppeared,
    GpuDisappeared,
    GpuErrorReported,
    GpuFellIll,
    GpuOccupied,
    GpuQuarantined,
    GpuRecovered,
    GpuRestored,
    GpusLeased,
    GpusReleased,
    GpuVacated,
    NodeRegistered,
    PortsLeased,
    PortsReleased,
)
from projections.gpu_unit import Ailment, GpuUnit, Quarantine, SeenError
from projections.state import Folds, Node, PortLease, State

ERRORS_KEPT_MAX = 16
"""Errors of so many different numbers are remembered of a GPU, so that none is told too often."""


def _put_gpu(state: State, gpu: GpuUnit) -> None:
    state.gpus[gpu.uuid] = gpu
    state.touched.add(("gpus", gpu.uuid, 0))


def _registered(state: State, record: Record, event: NodeRegistered) -> None:
    state.node = Node(event.node, event.owner)
    state.touched.add(("node", event.node, 0))


def _appeared(state: State, record: Record, event: GpuAppeared) -> None:
    shown = GpuUnit(
        uuid=event.uuid,
        index=event.index,
        name=event.name,
        memory_bytes=event.memory_bytes,
        pci_bus_id=event.pci_bus_id,
        parent_uuid=event.parent_uuid,
        present=True,
    )
    known = state.gpus.get(event.uuid)
    if known is not None:
        shown = replace(
            shown,
            holder=known.holder,
            revisions=known.revisions,
            ailments=known.ailments,
            quarantine=known.quarantine,
            occupants=known.occupants,
            errors=known.errors,
        )
    _put_gpu(state, shown)


def _disappeared(state: State, record: Record, event: GpuDisappeared) -> None:
    _put_gpu(state, replace(state.gpus[event.uuid], present=False))


def _error_reported(state: State, record: Record, event: GpuErrorReported) -> None:
    gpu = state.gpus[event.uuid]
    others = tuple(error for error in gpu.errors if error.xid != event.xid)
    errors = (*others, SeenError(event.xid, record.at_us))[-ERRORS_KEPT_MAX:]
    _put_gpu(state, replace(gpu, errors=errors))


def _same(ailment: Ailment, event: GpuFellIll | GpuRecovered) -> bool:
    """Is it this fault? An XID is one of its own; of another cause a GPU has one at a time."""
    same_number = ailment.cause != "xid" or ailment.number == event.number
    return ailment.cause == event.cause and same_number


def _fell_ill(state: State, record: Record, event: GpuFellIll) -> None:
    gpu = state.gpus[event.uuid]
    others = tuple(ailment for ailment in gpu.ailments if not _same(ailment, event))
    ailment = Ailment(event.cause, event.message, record.at_us, event.number, event.boot)
    _put_gpu(state, replace(gpu, ailments=(*others, ailment)))


def _recovered(state: State, record: Record, event: GpuRecovered) -> None:
    gpu = state.gpus[event.uuid]
    left = tuple(ailment for ailment in gpu.ailments if not _same(ailment, event))
    _put_gpu(state, replace(gpu, ailments=left))


def _quarantined(state: State, record: Record, event: GpuQuarantined) -> None:
    quarantine = Quarantine(event.why, record.at_us, event.by_hand)
    _put_gpu(state, replace(state.gpus[event.uuid], quarantine=quarantine))


def _restored(state: State, record: Record, event: GpuRestored) -> None:
    _put_gpu(state, replace(state.gpus[event.uuid], quarantine=None))


def _occupied(state: State, record: Record, event: GpuOccupied) -> None:
    _put_gpu(state, replace(state.gpus[event.uuid], occupants=event.pids))


def _vacated(state: State, record: Record, event: GpuVacated) -> None:
    _put_gpu(state, replace(state.gpus[event.uuid], occupants=()))


def _gpus_leased(state: State, record: Record, event: GpusLeased) -> None:
    for uuid in event.uuids:
        gpu = state.gpus[uuid]
        revisions = (*gpu.revisions, event.revision)
        _put_gpu(state, replace(gpu, holder=event.name, revisions=revisions))


def _gpus_released(state: State, record: Record, event: GpusReleased) -> None:
    for uuid in event.uuids:
        gpu = state.gpus[uuid]
        revisions = tuple(number for number in gpu.revisions if number != event.revision)
        holder = event.name if revisions else None
        _put_gpu(state, replace(gpu, holder=holder, revisions=revisions))


def _ports_leased(state: State, record: Record, event: PortsLeased) -> None:
    for binding in event.ports:
        known = state.ports.get(binding.host_port)
        state.ports[binding.host_port] = PortLease(
            host_port=binding.host_port,
            holder=event.name,
            revisions=(*(known.revisions if known else ()), event.revision),
            container_port=binding.container_port,
        )
        state.touched.add(("ports", binding.host_port, 0))
    if event.ports and state.node is not None:
        state.node = replace(state.node, port_cursor=event.ports[-1].host_port)
        state.touched.add(("node", state.node.node, 0))


def _ports_released(state: State, record: Record, event: PortsReleased) -> None:
    for host_port in event.host_ports:
        known = state.ports[host_port]
        revisions = tuple(number for number in known.revisions if number != event.revision)
        if revisions:
            state.ports[host_port] = replace(known, revisions=revisions)
        else:
            del state.ports[host_port]
        state.touched.add(("ports", host_port, 0))


FOLDS: Folds = {
    NodeRegistered: _registered,
    GpuAppeared: _appeared,
    GpuDisappeared: _disappeared,
    GpuErrorReported: _error_reported,
    GpuFellIll: _fell_ill,
    GpuRecovered: _recovered,
    GpuQuarantined: _quarantined,
    GpuRestored: _restored,
    GpuOccupied: _occupied,
    GpuVacated: _vacated,
    GpusLeased: _gpus_leased,
    GpusReleased: _gpus_released,
    PortsLeased: _ports_leased,
    PortsReleased: _ports_released,
}
