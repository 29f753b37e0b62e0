"""Which GPUs and host ports a revision gets. Same input, same answer."""

from collections.abc import Collection, Mapping, Sequence

from events.values import PortBinding
from projections.state import GpuUnit, State

GPUS_NAMED_MAX = 3
"""So many GPUs that are not lent are named in a refusal."""


def place_gpus(
    state: State, name: str, count: int, prefer: Sequence[str] = ()
) -> tuple[str, ...] | None:
    """`count` GPUs that are free or already with `name`: the preferred ones first, then by index.

    All or nothing: None when there are not enough. One in quarantine is never chosen, nor one
    that is its own already.
    """
    rank = {uuid: place for place, uuid in enumerate(prefer)}

    def cost(gpu: GpuUnit) -> tuple[int, int, str]:
        return rank.get(gpu.uuid, len(rank)), gpu.index, gpu.uuid

    usable = [g for g in state.gpus.values() if g.holder in (None, name) and not g.obstacle]
    if len(usable) < count:
        return None
    chosen = sorted(usable, key=cost)[:count]
    return tuple(gpu.uuid for gpu in sorted(chosen, key=lambda gpu: (gpu.index, gpu.uuid)))


def count_usable_gpus(state: State, name: str) -> tuple[int, int]:
    """How many GPUs `name` could have: free ones, and those that it has already."""
    holders = [gpu.holder for gpu in state.gpus.values() if not gpu.obstacle]
    return holders.count(None), holders.count(name)


def gpu_shortage(state: State, name: str, count: int) -> str:
    """Why `name` cannot have `count` GPUs, for people: what there is, and what is not lent why."""
    free, own = count_usable_gpus(state, name)
    parts = [f"{count} GPUs asked for, {free} free" + (f" beside its own {own}" * bool(own))]
    ours = [gpu for gpu in state.gpus.values() if gpu.holder in (None, name) and gpu.obstacle]
    ours.sort(key=lambda gpu: (gpu.index, gpu.uuid))
    if quarantined := [gpu for gpu in ours if gpu.quarantine is not None]:
        parts.append(f"{len(quarantined)} quarantined ({_named(quarantined)})")
    if busy := [gpu for gpu in ours if gpu.quarantine is None and gpu.present]:
        parts.append(f"{len(busy)} busy ({_named(busy)})")
    return ", ".join(parts)


def _named(gpus: Sequence[GpuUnit]) -> str:
    """Some of these GPUs, each with what stands against it."""
    named = [f"GPU {gpu.index}: {gpu.obstacle}" for gpu in gpus[:GPUS_NAMED_MAX]]
    more = len(gpus) - GPUS_NAMED_MAX
    return "; ".join([*named, f"{more} more"] if more > 0 else named)


def place_ports(
    state: State,
    name: str,
    container_ports: Sequence[str],
    prefer: Mapping[str, int],
    first: int,
    last: int,
    resting: Collection[int] = (),
) -> tuple[PortBinding, ...] | None:
    """A host port in `first`..`last` for each container port; None when there are not enough.

    None that is `resting` is chosen. A preferred port is kept when it is free or with `name`. The
    others follow the port that was leased last, so that one just given back rests before it is
    lent again.
    """
    taken: set[int] = set()
    kept: dict[str, int] = {}
    for port in container_ports:
        wanted = prefer.get(port)
        if wanted is None or not first <= wanted <= last or wanted in taken or wanted in resting:
            continue
        lease = state.ports.get(wanted)
        if lease is None or lease.holder == name:
            kept[port] = wanted
            taken.add(wanted)
    size = last - first + 1
    cursor = state.node.port_cursor if state.node else 0
    offset = cursor + 1 - first if first <= cursor < last else 0
    bindings: list[PortBinding] = []
    scanned = 0
    for port in container_ports:
        found = kept.get(port)
        while found is None and scanned < size:
            candidate = first + (offset + scanned) % size
            scanned += 1
            if not any(candidate in used for used in (state.ports, taken, resting)):
                found = candidate
                taken.add(candidate)
        if found is None:
            return None
        bindings.append(PortBinding(port, found))
    return tuple(bindings)


def held_gpus(state: State, name: str, number: int) -> tuple[str, ...]:
    """The GPUs that this revision holds a lease on now."""
    revision = state.revisions[name, number]
    return tuple(
        uuid
        for uuid in revision.gpus
        if state.gpus[uuid].holder == name and number in state.gpus[uuid].revisions
    )


def held_ports(state: State, name: str, number: int) -> tuple[int, ...]:
    """The host ports that this revision holds a lease on now."""
    revision = state.revisions[name, number]
    leases = ((b.host_port, state.ports.get(b.host_port)) for b in revision.ports)
    return tuple(
        port
        for port, lease in leases
        if lease is not None and lease.holder == name and number in lease.revisions
    )
