"""The rules for debug copies: a version run once more beside its replica set, to be looked into.

A copy has the version's spec and a copy of its system disk, in a replica set of its own. It can
damage nothing: what it mounts it cannot write to. It is in nobody's way: it has no ports, it has
GPUs only when they are asked for, and it stays down when it ends.
"""

from msgspec.structs import replace

from events.debug_copies import DebugCopyBegun, DebugCopyEnded
from events.record import Event
from events.replica_sets import RevisionDeclared
from events.values import ContainerSpec, at_version, versioned
from projections.lineage import disk_holder
from projections.state import ReplicaSet, Revision, State
from service.domain.commands import DebugReplicaSet, Envelope
from service.domain.guards import Decision, accepted, idle
from service.domain.reconcile import SNAPSHOT_REPOSITORY
from service.domain.rejections import Reason, Rejected
from service.domain.revisions import bound_as_now, check_volumes, declare, is_kept


def debug(state: State, envelope: Envelope, command: DebugReplicaSet) -> Decision:
    """A name that is free gets a copy of a version as its first revision."""
    if state.live(command.of) is None:
        return Rejected(Reason.REPLICA_SET_NOT_FOUND, _not_there(state, command.of))
    known = state.replica_sets.get(command.name)
    if known is not None and known.current:
        return Rejected(
            Reason.REPLICA_SET_EXISTS,
            f"{command.name} exists as {versioned(command.name, known.current)}; give the debug"
            " copy another name",
        )
    source = idle(state, command.of)
    if isinstance(source, Rejected):
        return source
    wanted = state.revisions.get((command.of, command.version))
    if wanted is None:
        return Rejected(
            Reason.REVISION_NOT_FOUND,
            f"{command.of} has no version {command.version}; versions that can be debugged:"
            f" {_debuggable(state, source)}",
        )
    number = (known.newest if known else 0) + 1
    begun = _begun(state, envelope, command, source, disk_holder(state, wanted), number)
    if isinstance(begun, Rejected):
        return begun
    spec = _harmless(bound_as_now(state, wanted.spec), command)
    if (refusal := check_volumes(state, spec)) is not None:
        return refusal
    declared = declare(
        state,
        envelope,
        RevisionDeclared(
            name=command.name,
            number=number,
            cause="debug",
            spec=spec,
            gpus=(),
            ports=(),
            gpu_runtime=envelope.facts.gpu_runtime,
            debug_of=at_version(command.of, command.version),
        ),
    )
    if isinstance(declared, Rejected):
        return declared
    return (accepted(envelope, "debug", command.name), *declared, begun)


def copy_ended(state: State, name: str, number: int) -> tuple[Event, ...]:
    """What it is a copy of is free again, if that is not so already."""
    revision = state.revisions[name, number]
    if revision.copied is None:
        return ()
    source = state.replica_sets[revision.copied.of]
    lent = any(loan.to == name for loan in source.loans)
    return (DebugCopyEnded(name, number, source.name),) if lent else ()


def _harmless(spec: ContainerSpec, command: DebugReplicaSet) -> ContainerSpec:
    return replace(
        spec,
        gpu_count=command.gpu_count,
        binds=tuple(replace(bind, read_only=True) for bind in spec.binds),
        cmd=spec.cmd if command.cmd is None else command.cmd,
        container_ports=(),
        on_exit="none",
        max_retries=0,
        on_gpu_lost="none",
    )


def _begun(
    state: State,
    envelope: Envelope,
    command: DebugReplicaSet,
    source: ReplicaSet,
    holder: Revision,
    number: int,
) -> DebugCopyBegun | Rejected:
    """What is copied, and whether the copy needs an image of its own.

    It does where it would lie on one that is the source's to give up, or on none yet.
    """
    begun = DebugCopyBegun(command.name, number, command.of, holder.number, "container")
    own_image = f"{SNAPSHOT_REPOSITORY}:{_kept_name(command.name, number, envelope.command_id)}"
    if not is_kept(holder):
        if not _has_own(source, holder):
            return _disk_gone(state, source, command.version, holder)
        return replace(begun, image=own_image)
    if holder.snapshot_carry == "commit":
        return replace(begun, source="image", image=own_image)
    if envelope.facts.carry != "upper":
        return Rejected(
            Reason.SYSTEM_DISK_GONE,
            f"the system disk of {at_version(command.of, command.version)} is kept as a directory"
            " of the engine, which the service cannot reach now; see /readyz",
        )
    lent_base = holder.base_image.startswith(f"{SNAPSHOT_REPOSITORY}:")
    return replace(begun, source="directory", image=own_image if lent_base else "")


def _kept_name(name: str, number: int, operation: str) -> str:
    return f"{versioned(name, number)}-{operation[-12:]}"


def _not_there(state: State, name: str) -> str:
    if name in state.replica_sets:
        return f"{name} was deleted, and the system disks of its versions with it"
    return f"there is no replica set {name}"


def _disk_gone(
    state: State, source: ReplicaSet, version: int, holder: Revision
) -> Rejected:
    why = holder.gone or holder.expiring or "it was removed with its container"
    return Rejected(
        Reason.SYSTEM_DISK_GONE,
        f"the system disk of {at_version(source.name, version)} is not kept any more ({why});"
        f" versions that can be debugged: {_debuggable(state, source)}",
    )


def _debuggable(state: State, source: ReplicaSet) -> str:
    """The versions whose system disk can be copied, for people."""
    numbers = []
    for number in range(1, source.current + 1):
        revision = state.revisions.get((source.name, number))
        holder = disk_holder(state, revision) if revision is not None else None
        if holder is not None and (is_kept(holder) or _has_own(source, holder)):
            numbers.append(str(number))
    return ", ".join(numbers) or "none"


def _has_own(source: ReplicaSet, revision: Revision) -> bool:
    """Is it the current one, with the container that has its system disk?"""
    return revision.number == source.current and revision.container != "removed"
