"""The fold of facts about the node, its GPUs and ports, and the leases on them."""

from msgspec.structs import replace

from events.record import Record
from events.resources import (
    GpuAppeared,
    GpuDisappeared,
    GpusLeased,
    GpusReleased,
    NodeRegistered,
    PortsLeased,
    PortsReleased,
)
from projections.state import Folds, GpuUnit, Node, PortLease, State


def _put_gpu(state: State, gpu: GpuUnit) -> None:
    state.gpus[gpu.uuid] = gpu
    state.touched.add(("gpus", gpu.uuid, 0))


def _registered(state: State, record: Record, event: NodeRegistered) -> None:
    state.node = Node(event.node, event.owner)
    state.touched.add(("node", event.node, 0))


def _appeared(state: State, record: Record, event: GpuAppeared) -> None:
    known = state.gpus.get(event.uuid)
    _put_gpu(
        state,
        GpuUnit(
            uuid=event.uuid,
            index=event.index,
            name=event.name,
            memory_bytes=event.memory_bytes,
            pci_bus_id=event.pci_bus_id,
            parent_uuid=event.parent_uuid,
            present=True,
            holder=known.holder if known else None,
            revisions=known.revisions if known else (),
        ),
    )


def _disappeared(state: State, record: Record, event: GpuDisappeared) -> None:
    _put_gpu(state, replace(state.gpus[event.uuid], present=False))


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
    GpusLeased: _gpus_leased,
    GpusReleased: _gpus_released,
    PortsLeased: _ports_leased,
    PortsReleased: _ports_released,
}
