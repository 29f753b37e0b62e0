"""The rules for reports of what the engine did: late and repeated ones change nothing."""

from typing import Any

from events.debug_copies import DebugImageMade, DebugImageRemoved
from events.observations import ContainerVanished
from events.operations import OperationFailed, OperationProgressed, OperationSucceeded
from events.outcomes import (
    CommandExecuted,
    ContainerCreated,
    ContainerRemoved,
    ContainerStarted,
    ContainerStopped,
    ContainerUpdated,
    EffectFailed,
    ImageCommitted,
    ImageResolved,
    SnapshotCompacted,
    SnapshotRemoved,
    SnapshotTaken,
    SystemDiskFilled,
    SystemDiskPrecopied,
    SystemDiskPutBack,
    VolumeMade,
    VolumeRemoved,
)
from events.record import Event
from events.replica_sets import PhaseRequested
from events.volumes import VolumeDeletionRequested
from projections.state import State
from service.domain import orphans
from service.domain.commands import Envelope, Failed, RecordOutcome, RecordProgress
from service.domain.debug_copies import copy_ended
from service.domain.effects import (
    CommitImage,
    CompactSnapshot,
    CreateContainer,
    DropOrphan,
    Effect,
    EnsureImage,
    Execute,
    FillDisk,
    MakeDebugImage,
    MakeVolume,
    PreCopyDisk,
    PutBackDisk,
    RemoveContainer,
    RemoveDebugImage,
    RemoveSnapshot,
    RemoveVolume,
    Settle,
    SizeVolume,
    StartContainer,
    StopContainer,
    TakeSnapshot,
    UpdateContainer,
    kind_of,
)
from service.domain.guards import Decision
from service.domain.observing import retry_failed
from service.domain.port_moves import move_ports, refused_ports
from service.domain.reconcile import DECLARING, reconcile
from service.domain.rejections import Reason, Rejected
from service.domain.settle import settle

REMOVED_BY_OTHERS = "its container was removed by somebody else"


def record_outcome(state: State, envelope: Envelope, command: RecordOutcome) -> Decision:
    """An effect that is due becomes a fact; anything else is an old story."""
    effect = command.effect
    if not _is_due(state, effect):
        return Rejected(Reason.STALE_OUTCOME, f"{effect.effect_id} is not due (any more)")
    if isinstance(effect, DropOrphan):
        return orphans.ended(effect, command.outcome)
    if isinstance(command.outcome, Failed):
        return _failed(state, envelope, effect, command.outcome)
    if isinstance(effect, Settle):
        return settle(state, effect)
    return _succeeded(state, effect, command.outcome.facts)


def record_progress(state: State, command: RecordProgress) -> Decision:
    """How far an effect is, if it is still due."""
    effect = command.effect
    if not _is_due(state, effect):
        return Rejected(Reason.STALE_OUTCOME, f"{effect.effect_id} is not due (any more)")
    return (
        OperationProgressed(
            effect.operation_id,
            type(effect).__name__,
            command.done_bytes,
            command.total_bytes,
            command.message,
        ),
    )


def _is_due(state: State, effect: Effect) -> bool:
    due = reconcile(state, kind_of(effect), effect.name)
    return any(other.effect_id == effect.effect_id for other in due)


def _succeeded(state: State, effect: Effect, facts: dict[str, Any]) -> Decision:
    name, number = effect.name, effect.number
    match effect:
        case EnsureImage():
            env, cmd = tuple(facts["env"]), tuple(facts["cmd"])
            return (ImageResolved(name, number, effect.image, facts["image_id"], env, cmd),)
        case CreateContainer():
            made, image = facts["container_id"], effect.config["Image"]
            return (ContainerCreated(name, number, made, effect.effect_id, image),)
        case UpdateContainer():
            return (ContainerUpdated(name, number),)
        case StartContainer():
            return (ContainerStarted(name, number, facts["started_at"]),)
        case StopContainer():
            code, at = facts["exit_code"], facts["finished_at"]
            return (ContainerStopped(name, number, code, at, _other_start(state, effect, facts)),)
        case RemoveContainer():
            return (ContainerRemoved(name, number),)
        case TakeSnapshot():
            size, squashed = facts["size_bytes"], facts["squashed"]
            return (SnapshotTaken(name, number, effect.image, size, effect.carry, squashed),)
        case RemoveSnapshot():
            why = state.revisions[name, number].expiring
            return (SnapshotRemoved(name, number, effect.image, why),)
        case CompactSnapshot():
            saved, message = facts["saved_bytes"], facts["message"]
            return (SnapshotCompacted(name, number, effect.image, saved, message),)
        case PreCopyDisk():
            return (SystemDiskPrecopied(name, number, facts["size_bytes"], facts["message"]),)
        case FillDisk():
            filled = SystemDiskFilled(name, number, effect.image)
            return (filled, *copy_ended(state, name, number))
        case MakeDebugImage():
            return _image_made(state, effect, facts["size_bytes"])
        case RemoveDebugImage():
            return (DebugImageRemoved(name, number, effect.image),)
        case PutBackDisk():
            vanished = ContainerVanished(name, number)
            if facts["lost"]:
                return SnapshotRemoved(name, number, effect.image, REMOVED_BY_OTHERS), vanished
            if facts["gone"]:
                return (vanished,)
            since = _other_start(state, effect, facts)
            return (SystemDiskPutBack(name, number, effect.image, since),)
        case CommitImage():
            image_id, size = facts["image_id"], facts["size_bytes"]
            return (ImageCommitted(name, number, effect.image, image_id, size),)
        case Execute():
            return _executed(effect, facts)
        case MakeVolume() | SizeVolume():
            return (VolumeMade(name, number),)
        case RemoveVolume():
            return (VolumeRemoved(name),)
        case DropOrphan() | Settle():
            return ()


def _other_start(state: State, effect: Effect, facts: dict[str, Any]) -> str:
    """When somebody else started it: untold, the next start would take that for its own."""
    started_at: str = facts.get("started_at", "")
    known = state.revisions[effect.name, effect.number].started_at
    return started_at if started_at != known else ""


def _image_made(state: State, effect: MakeDebugImage, size_bytes: int) -> Decision:
    """It holds all of what is copied, unless a directory is still to be cloned on it."""
    name, number = effect.name, effect.number
    copied = state.revisions[name, number].copied
    more = copied is not None and copied.source == "directory"
    made = DebugImageMade(name, number, effect.image, size_bytes)
    return (made,) if more else (made, *copy_ended(state, name, number))


def _executed(effect: Execute, facts: dict[str, Any]) -> Decision:
    executed = CommandExecuted(
        operation_id=effect.operation_id,
        name=effect.name,
        revision=effect.number,
        exit_code=facts["exit_code"],
        duration_us=facts["duration_us"],
        stdout_bytes=facts["stdout_bytes"],
        stderr_bytes=facts["stderr_bytes"],
    )
    result = {
        "exitCode": executed.exit_code,
        "durationMs": executed.duration_us // 1000,
        "stdoutBytes": executed.stdout_bytes,
        "stderrBytes": executed.stderr_bytes,
    }
    return executed, OperationSucceeded(effect.operation_id, result)


def _failed(state: State, envelope: Envelope, effect: Effect, failed: Failed) -> Decision:
    taken: tuple[Event, ...] = ()
    if isinstance(effect, StartContainer) and failed.reason == "port_taken":
        if moved := move_ports(state, envelope, effect, failed.message):
            return moved
        taken = refused_ports(state, envelope, effect, failed.message)
    if isinstance(effect, CompactSnapshot):
        # It costs space and nothing else: what could not be shared once is not tried again.
        return (SnapshotCompacted(effect.name, effect.number, effect.image, 0, failed.message),)
    events: list[Event] = [
        *taken,
        EffectFailed(
            operation_id=effect.operation_id,
            effect_id=effect.effect_id,
            effect=type(effect).__name__,
            kind=kind_of(effect),
            name=effect.name,
            number=effect.number,
            reason=failed.reason,
            message=failed.message,
        )
    ]
    if isinstance(effect, Execute):
        events.append(OperationFailed(effect.operation_id, failed.reason, failed.message))
        return tuple(events)
    replica_set = state.replica_sets.get(effect.name)
    if replica_set is None or kind_of(effect) == "volume":
        return tuple(events)
    operation = state.operations.get(replica_set.operation or "")
    undoes = operation is not None and operation.verb in DECLARING
    if isinstance(effect, StartContainer) and not effect.operation_id:
        return (*events, *retry_failed(state, envelope.issued_at_us, effect))
    if isinstance(effect, StartContainer) and (not undoes or effect.number == replica_set.previous):
        # It was to go on running and does not: its disk, GPUs and ports are kept for it.
        events.append(PhaseRequested(effect.name, "paused"))
    # Not the effect's own revision: that of a patch may be the one whose data disk stays.
    undone = state.revisions[effect.name, replica_set.current]
    if undoes and undone.data_volume is not None and replica_set.failure is None:
        events.append(VolumeDeletionRequested(undone.data_volume))
    return tuple(events)
