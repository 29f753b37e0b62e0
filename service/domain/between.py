"""What is other at one point of the ledger than at another: two states, side by side."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from events.values import ContainerSpec, show_size, versioned
from projections.state import GpuUnit, PortLease, ReplicaSet, State, Volume
from service.domain.changes import SpecChange, spec_changes

How = Literal["added", "removed", "changed"]

Fields = Mapping[str, str]
"""What is told of a thing, in a fixed order; empty is not there."""


class ThingChange(Struct, frozen=True):
    """A thing that was not there before, is there no more, or is other."""

    name: str
    how: How
    changes: tuple[SpecChange, ...]
    secret_env: tuple[str, ...] = ()
    """Names in its environment whose values are marked as secret, in either state."""


class StateChanges(Struct, frozen=True):
    """Everything that differs, each list in the order of the names or numbers."""

    gpus: tuple[ThingChange, ...]
    ports: tuple[ThingChange, ...]
    replica_sets: tuple[ThingChange, ...]
    volumes: tuple[ThingChange, ...]


def changes_between(old: State, new: State) -> StateChanges:
    """What is other in `new`: the GPU map, leased host ports, replica sets and volumes."""
    return StateChanges(
        gpus=tuple(_things(_by_uuid(old), _by_uuid(new), _gpu_fields)),
        ports=tuple(_things(_by_port(old), _by_port(new), _port_fields)),
        replica_sets=tuple(_replica_sets(old, new)),
        volumes=tuple(_things(_live_volumes(old), _live_volumes(new), _volume_fields)),
    )


def _by_uuid(state: State) -> dict[str, GpuUnit]:
    return {gpu.uuid: gpu for gpu in sorted(state.gpus.values(), key=lambda g: (g.index, g.uuid))}


def _by_port(state: State) -> dict[str, PortLease]:
    leases = sorted(state.ports.values(), key=lambda lease: lease.host_port)
    return {str(lease.host_port): lease for lease in leases}


def _live_volumes(state: State) -> dict[str, Volume]:
    there = (one for one in state.volumes.values() if one.current and not one.deleted)
    return {one.name: one for one in sorted(there, key=lambda one: one.name)}


def _things(
    old: Mapping[str, Any], new: Mapping[str, Any], fields: Callable[[Any], Fields]
) -> Iterable[ThingChange]:
    """The things that differ, those that are gone behind the others."""
    for key in [*new, *(key for key in old if key not in new)]:
        before = fields(old[key]) if key in old else {}
        after = fields(new[key]) if key in new else {}
        if changes := _changes(before, after):
            yield ThingChange(key, _how(key in old, key in new), changes)


def _changes(old: Fields, new: Fields) -> tuple[SpecChange, ...]:
    pairs = ((field, old.get(field, ""), new.get(field, "")) for field in {**old, **new})
    return tuple(SpecChange(*pair) for pair in pairs if pair[1] != pair[2])


def _how(was_there: bool, is_there: bool) -> How:
    if was_there and is_there:
        return "changed"
    return "added" if is_there else "removed"


def _gpu_fields(gpu: GpuUnit) -> Fields:
    return {
        "holder": _holder(gpu.holder, gpu.revisions),
        "present": "yes" if gpu.present else "no",
        "health": "sick" if gpu.ailments else "healthy",
        "notLent": gpu.obstacle,
    }


def _port_fields(lease: PortLease) -> Fields:
    return {
        "holder": _holder(lease.holder, lease.revisions),
        "containerPort": lease.container_port,
    }


def _volume_fields(volume: Volume) -> Fields:
    sizes = (v.size_bytes for v in volume.versions if v.number == volume.current)
    return {"version": str(volume.current), "size": show_size(next(sizes, 0))}


def _holder(name: str | None, revisions: tuple[int, ...]) -> str:
    return versioned(name, max(revisions)) if name and revisions else name or ""


def _replica_sets(old: State, new: State) -> Iterable[ThingChange]:
    for name in sorted(old.replica_sets.keys() | new.replica_sets.keys()):
        before, after = old.live(name), new.live(name)
        specs = (_spec(old, before), _spec(new, after))
        changes = _changes(_set_fields(old, before), _set_fields(new, after))
        changes += spec_changes(*specs) if before and after else ()
        if changes:
            secret = tuple(sorted({*specs[0].secret_env, *specs[1].secret_env}))
            how = _how(before is not None, after is not None)
            yield ThingChange(name, how, changes, secret)


def _set_fields(state: State, found: ReplicaSet | None) -> Fields:
    if found is None:
        return {}
    revision = state.revisions[found.name, found.current]
    ports = (f"{port.host_port}->{port.container_port}" for port in revision.ports)
    return {
        "version": str(found.current),
        "phase": found.phase,
        "container": revision.container,
        "gpus": ", ".join(revision.gpus),
        "ports": ", ".join(ports),
    }


def _spec(state: State, found: ReplicaSet | None) -> ContainerSpec:
    """The spec of the current version; an empty one of what is not there."""
    if found is None:
        return ContainerSpec(image="", gpu_count=0)
    return state.revisions[found.name, found.current].spec
