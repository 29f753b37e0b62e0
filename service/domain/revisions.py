"""The rules for commands that put a new revision in place: run, patch, restart, roll back."""

from msgspec.structs import replace

from events.record import Event
from events.replica_sets import RevisionDeclared
from events.resources import GpusLeased, PortsLeased
from events.values import Bind, ContainerSpec, Verb, split_versioned, versioned
from events.volumes import VolumeVersionDeclared
from projections.lineage import disk_holder
from projections.state import ReplicaSet, Revision, State
from service.domain.commands import (
    Envelope,
    PatchReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
    RunReplicaSet,
)
from service.domain.guards import Decision, accepted, idle
from service.domain.patching import patched, updates_in_place
from service.domain.placement import gpu_shortage, place_gpus, place_ports
from service.domain.port_moves import resting_ports
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
    if (refusal := check_volumes(state, spec, but=own_disk)) is not None:
        return refusal
    spec = bound_as_now(state, spec)
    declared = declare(
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
    """The next revision differs in what is given; given nothing, it is the same again.

    On another image the system disk begins anew: what was changed of one image means nothing on
    another. That of the revision before is kept as ever.
    """
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    current = state.revisions[command.name, found.current]
    if current.debug_of:
        return Rejected(
            Reason.DEBUG_COPY,
            f"{command.name} is a debug copy of {current.debug_of} and stays as it was made;"
            f" delete it and debug {current.debug_of} again with what is to be other",
        )
    spec = patched(current.spec, command)
    if isinstance(spec, Rejected):
        return spec
    moved_already = command.bind is not None and command.bind.old not in current.spec.binds
    given = command != PatchReplicaSet(command.name)
    if spec == current.spec and given and not moved_already:
        return Rejected(
            Reason.NOTHING_TO_PATCH,
            f"{versioned(command.name, found.current)} is like this already;"
            " to re-create it as it is send an empty patch",
        )
    disk_from = current.number if spec.image == current.spec.image else None
    if disk_from is not None and (refusal := _disk_gone(state, current)) is not None:
        return refusal
    return _succeed(state, envelope, current, "patch", spec, disk_from)


def restart(state: State, envelope: Envelope, command: RestartReplicaSet) -> Decision:
    """The same again, with GPUs and ports applied for anew: other ones may come."""
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    current = state.revisions[command.name, found.current]
    if (refusal := _disk_gone(state, current)) is not None:
        return refusal
    return _succeed(state, envelope, current, "restart", current.spec, current.number)


def roll_back(state: State, envelope: Envelope, command: RollBackReplicaSet) -> Decision:
    """A new revision with the spec and the system disk of an older one."""
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    current = state.revisions[command.name, found.current]
    wanted = state.revisions.get((command.name, command.version))
    if wanted is None:
        return Rejected(
            Reason.REVISION_NOT_FOUND,
            f"{command.name} has no version {command.version}; versions to roll back to:"
            f" {kept_list(state, command.name)}",
        )
    if wanted.number == current.number:
        return Rejected(
            Reason.ALREADY_AT_REVISION, f"{command.name} is at version {wanted.number} already"
        )
    holder = disk_holder(state, wanted)
    spec = bound_as_now(state, wanted.spec)
    if holder.number == current.number:
        # The same container had other limits then: the disk is the one that it has.
        if (refusal := _disk_gone(state, current)) is not None:
            return refusal
        return _succeed(
            state, envelope, current, "rollback", spec, holder.number, wanted.number
        )
    if not is_kept(holder):
        why = f" ({holder.gone or holder.expiring})" if holder.gone or holder.expiring else ""
        return Rejected(
            Reason.SYSTEM_DISK_GONE,
            f"the system disk of {versioned(command.name, wanted.number)} is not kept any"
            f" more{why}; versions to roll back to: {kept_list(state, command.name)}",
        )
    if holder.snapshot_carry == "upper" and envelope.facts.carry != "upper":
        return Rejected(
            Reason.SYSTEM_DISK_GONE,
            f"the system disk of {versioned(command.name, wanted.number)} is kept as a directory of"
            " the engine, which the service cannot reach now; see /readyz",
        )
    return _succeed(state, envelope, current, "rollback", spec, holder.number, wanted.number)


def _disk_gone(state: State, current: Revision) -> Rejected | None:
    """The current container was removed by somebody else: there is nothing to carry."""
    if current.container != "removed" or is_kept(current):
        return None
    return Rejected(
        Reason.SYSTEM_DISK_GONE,
        f"the container {versioned(current.name, current.number)} was removed by somebody else, and"
        f" its system disk with it; roll back to a version whose disk is kept"
        f" ({kept_list(state, current.name)}), patch to an image, or delete {current.name}",
    )


def kept_list(state: State, name: str) -> str:
    """The versions whose system disk can be had back, for people."""
    replica_set = state.replica_sets[name]
    numbers = []
    for number in range(1, replica_set.current):
        revision = state.revisions.get((name, number))
        holder = disk_holder(state, revision) if revision is not None else None
        if holder is not None and (_is_there(replica_set, holder) or is_kept(holder)):
            numbers.append(str(number))
    return ", ".join(numbers) or "none"


def _is_there(replica_set: ReplicaSet, revision: Revision) -> bool:
    """Is it the current one, with the container that has its system disk?"""
    return revision.number == replica_set.current and revision.container != "removed"


def is_kept(revision: Revision) -> bool:
    """Can its system disk be had from where it was kept?"""
    return revision.snapshot is not None and not revision.expiring


def bound_as_now(state: State, spec: ContainerSpec) -> ContainerSpec:
    """A spec with the volumes that it binds as they are now: the same disks.

    Only of the current version it is certain that the engine has it, and Docker makes a volume of
    its own where it has none of a name.
    """

    def now(bind: Bind) -> Bind:
        source = split_versioned(bind.source)
        volume = state.live_volume(source[0]) if source is not None else None
        if source is None or volume is None or not version_made(state, *source):
            return bind
        return replace(bind, source=versioned(volume.name, volume.current))

    return replace(spec, binds=tuple(now(bind) for bind in spec.binds))


def _succeed(
    state: State,
    envelope: Envelope,
    current: Revision,
    verb: Verb,
    spec: ContainerSpec,
    disk_from: int | None,
    rolled_back_to: int | None = None,
) -> Decision:
    """A revision that takes the place of the current one, on the system disk of `disk_from`."""
    if (refusal := check_volumes(state, spec)) is not None:
        return refusal
    spec = bound_as_now(state, spec)
    replica_set = state.replica_sets[current.name]
    facts = envelope.facts
    wish = RevisionDeclared(
        name=current.name,
        number=replica_set.newest + 1,
        cause=verb,
        spec=spec,
        gpus=(),
        ports=(),
        gpu_runtime=facts.gpu_runtime,
        supersedes=current.number,
        disk_from=disk_from,
        carry=facts.carry,
        rolled_back_to=rolled_back_to,
        copies=facts.carry == "upper" and not facts.clones_share_blocks,
        debug_of=current.debug_of,
    )
    runs = replica_set.phase == "running" and current.container == "running"
    same_disk = disk_from == current.number
    if runs and same_disk and updates_in_place(current, spec):
        declared: Decision = _leased(
            replace(
                wish,
                gpus=current.gpus,
                ports=current.ports,
                gpu_runtime=current.gpu_runtime,
                carry=current.carry,
                in_place=True,
                copies=False,
            )
        )
    else:
        declared = declare(
            state,
            envelope,
            wish,
            prefer_gpus=() if verb == "restart" else current.gpus,
            prefer_ports={b.container_port: b.host_port for b in current.ports},
        )
    if isinstance(declared, Rejected):
        return declared
    return (accepted(envelope, verb, current.name), *declared)


def declare(
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
        return Rejected(Reason.GPUS_EXHAUSTED, gpu_shortage(state, wish.name, count))
    ports = place_ports(
        state,
        wish.name,
        wish.spec.container_ports,
        prefer_ports or {},
        facts.port_first,
        facts.port_last,
        resting=resting_ports(state, envelope.issued_at_us),
    )
    if ports is None:
        return Rejected(
            Reason.PORTS_EXHAUSTED,
            f"{len(wish.spec.container_ports)} ports asked for, and not that many are free in"
            f" {facts.port_first}-{facts.port_last}",
        )
    return _leased(replace(wish, gpus=gpus, ports=ports))


def _leased(declared: RevisionDeclared) -> tuple[Event, ...]:
    """A revision, and the leases on the GPUs and ports that were chosen for it."""
    events: list[Event] = [declared]
    if declared.gpus:
        events.append(GpusLeased(declared.name, declared.number, declared.gpus))
    if declared.ports:
        events.append(PortsLeased(declared.name, declared.number, declared.ports))
    return tuple(events)


def check_volumes(state: State, spec: ContainerSpec, but: str = "") -> Rejected | None:
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
