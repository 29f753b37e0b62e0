"""The rules for commands that put a new revision in place: run, patch, restart, roll back."""

from msgspec.structs import replace

from events.record import Event
from events.replica_sets import RevisionDeclared
from events.resources import GpusLeased, PortsLeased
from events.values import Bind, ContainerSpec, Verb, split_versioned, versioned
from events.volumes import VolumeVersionDeclared
from projections.state import Revision, State
from service.domain.commands import (
    Envelope,
    PatchReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
    RunReplicaSet,
)
from service.domain.guards import Decision, accepted, idle
from service.domain.placement import count_usable_gpus, place_gpus, place_ports
from service.domain.reconcile import version_made
from service.domain.rejections import Reason, Rejected


def run(state: State, envelope: Envelope, command: RunReplicaSet) -> Decision:
    """A name that is free gets its first revision."""
    name, spec = command.name, command.spec
    known = state.replica_sets.get(name)
    if known is not None and known.current:
        return Rejected(
            Reason.REPLICA_SET_EXISTS,
            f"{name} exists as {versioned(name, known.current)}; patch it, delete it,"
            " or take another name",
        )
    events: list[Event] = [accepted(envelope, "run", name)]
    data_volume: str | None = None
    own_disk = ""
    if command.data_disk_bytes is not None:
        if state.live_volume(name) is not None:
            return Rejected(
                Reason.VOLUME_EXISTS,
                f"the data disk of {name} would be the volume {name}, which exists;"
                " bind that volume or delete it",
            )
        volume = state.volumes.get(name)
        number = (volume.newest if volume else 0) + 1
        data_volume = name
        events.append(VolumeVersionDeclared(name, number, command.data_disk_bytes, cause="run"))
        own_disk = versioned(name, number)
        disk = Bind(own_disk, envelope.facts.data_disk_path)
        spec = replace(spec, binds=(*spec.binds, disk))
    if (refusal := _check_volumes(state, spec, but=own_disk)) is not None:
        return refusal
    declared = _declare(
        state,
        envelope,
        RevisionDeclared(
            name=name,
            number=(known.newest if known else 0) + 1,
            cause="run",
            spec=spec,
            gpus=(),
            ports=(),
            gpu_runtime=envelope.facts.gpu_runtime,
            data_volume=data_volume,
        ),
    )
    return declared if isinstance(declared, Rejected) else (*events, *declared)


def patch(state: State, envelope: Envelope, command: PatchReplicaSet) -> Decision:
    """The next revision differs in what is given; given nothing, it is the same again."""
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    current = state.revisions[command.name, found.current]
    spec = _patched(current.spec, command)
    if isinstance(spec, Rejected):
        return spec
    if spec == current.spec and command != PatchReplicaSet(command.name):
        return Rejected(
            Reason.NOTHING_TO_PATCH,
            f"{versioned(command.name, found.current)} is like this already;"
            " to re-create it as it is send an empty patch",
        )
    return _succeed(state, envelope, current, "patch", spec, current.gpus, current.number)


def restart(state: State, envelope: Envelope, command: RestartReplicaSet) -> Decision:
    """The same again, with GPUs and ports applied for anew: other ones may come."""
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    current = state.revisions[command.name, found.current]
    return _succeed(state, envelope, current, "restart", current.spec, (), current.number)


def roll_back(state: State, envelope: Envelope, command: RollBackReplicaSet) -> Decision:
    """A new revision with the spec and the system disk of an older one."""
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    current = state.revisions[command.name, found.current]
    wanted = state.revisions.get((command.name, command.version))
    if wanted is None:
        kept = ", ".join(str(number) for number in found.snapshots) or "none"
        return Rejected(
            Reason.REVISION_NOT_FOUND,
            f"{command.name} has no version {command.version}; versions to roll back to: {kept}",
        )
    if wanted.number == current.number:
        return Rejected(
            Reason.ALREADY_AT_REVISION, f"{command.name} is at version {wanted.number} already"
        )
    if wanted.snapshot is None:
        kept = ", ".join(str(number) for number in found.snapshots) or "none"
        return Rejected(
            Reason.SYSTEM_DISK_GONE,
            f"the system disk of {versioned(command.name, wanted.number)} is not kept any more;"
            f" versions to roll back to: {kept}",
        )
    if wanted.snapshot_carry == "upper" and envelope.facts.carry != "upper":
        return Rejected(
            Reason.SYSTEM_DISK_GONE,
            f"the system disk of {versioned(command.name, wanted.number)} is kept as a directory of"
            " the engine, which the service cannot reach now; see /readyz",
        )
    return _succeed(state, envelope, current, "rollback", wanted.spec, current.gpus, wanted.number)


def _succeed(
    state: State,
    envelope: Envelope,
    current: Revision,
    verb: Verb,
    spec: ContainerSpec,
    prefer_gpus: tuple[str, ...],
    disk_from: int,
) -> Decision:
    """A revision that takes the place of the current one, on the system disk of `disk_from`."""
    if (refusal := _check_volumes(state, spec)) is not None:
        return refusal
    declared = _declare(
        state,
        envelope,
        RevisionDeclared(
            name=current.name,
            number=state.replica_sets[current.name].newest + 1,
            cause=verb,
            spec=spec,
            gpus=(),
            ports=(),
            gpu_runtime=envelope.facts.gpu_runtime,
            supersedes=current.number,
            disk_from=disk_from,
            carry=envelope.facts.carry,
            rolled_back_to=disk_from if verb == "rollback" else None,
        ),
        prefer_gpus=prefer_gpus,
        prefer_ports={b.container_port: b.host_port for b in current.ports},
    )
    if isinstance(declared, Rejected):
        return declared
    return (accepted(envelope, verb, current.name), *declared)


def _declare(
    state: State,
    envelope: Envelope,
    wish: RevisionDeclared,
    *,
    prefer_gpus: tuple[str, ...] = (),
    prefer_ports: dict[str, int] | None = None,
) -> Decision:
    """The wish with GPUs and ports chosen, and the leases on them; all or nothing."""
    facts = envelope.facts
    count = wish.spec.gpu_count
    gpus = place_gpus(state, wish.name, count, prefer_gpus)
    if gpus is None:
        free, own = count_usable_gpus(state, wish.name)
        message = f"{count} GPUs asked for, {free} free" + (f" beside its own {own}" * bool(own))
        return Rejected(Reason.GPUS_EXHAUSTED, message)
    ports = place_ports(
        state,
        wish.name,
        wish.spec.container_ports,
        prefer_ports or {},
        facts.port_first,
        facts.port_last,
    )
    if ports is None:
        return Rejected(
            Reason.PORTS_EXHAUSTED,
            f"{len(wish.spec.container_ports)} ports asked for, and not that many are free in"
            f" {facts.port_first}-{facts.port_last}",
        )
    events: list[Event] = [replace(wish, gpus=gpus, ports=ports)]
    if gpus:
        events.append(GpusLeased(wish.name, wish.number, gpus))
    if ports:
        events.append(PortsLeased(wish.name, wish.number, ports))
    return tuple(events)


def _patched(spec: ContainerSpec, command: PatchReplicaSet) -> ContainerSpec | Rejected:
    if command.gpu_count is not None:
        spec = replace(spec, gpu_count=command.gpu_count)
    if command.nano_cpus is not None:
        spec = replace(spec, nano_cpus=command.nano_cpus)
    if command.memory_bytes is not None:
        spec = replace(spec, memory_bytes=command.memory_bytes)
    if command.shm_bytes is not None:
        spec = replace(spec, shm_bytes=command.shm_bytes)
    if (change := command.bind) is None:
        return spec
    if change.old not in spec.binds:
        have = ", ".join(f"{b.source}:{b.target}" for b in spec.binds) or "none"
        return Rejected(
            Reason.BIND_NOT_FOUND,
            f"volumePatch.oldBind {change.old.source}:{change.old.target} is not one of the"
            f" binds of {command.name}: {have}",
        )
    if any(b.target == change.new.target for b in spec.binds if b != change.old):
        return Rejected(
            Reason.BIND_TARGET_TAKEN,
            f"volumePatch.newBind.dest {change.new.target} is mounted already",
        )
    binds = tuple(change.new if bind == change.old else bind for bind in spec.binds)
    return replace(spec, binds=binds)


def _check_volumes(state: State, spec: ContainerSpec, but: str = "") -> Rejected | None:
    """Every volume bound, `but` one that is being made, must be there and be left alone."""
    for bind in spec.binds:
        source = split_versioned(bind.source)
        if source is None or bind.source == but:
            continue
        volume = state.live_volume(source[0])
        if volume is None or not version_made(state, *source):
            return Rejected(Reason.VOLUME_NOT_FOUND, f"there is no volume {bind.source} to mount")
        if volume.operation is not None:
            return Rejected(
                Reason.VOLUME_BUSY,
                f"volume {bind.source} is being changed (operation {volume.operation});"
                " wait for its end",
            )
    return None
