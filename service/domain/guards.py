"""What most rules begin with: is it there, is it free, and the event that says it was accepted."""

from events.operations import OperationAccepted
from events.record import Event
from events.values import Kind, Verb, at_version, split_versioned
from projections.state import ReplicaSet, State
from service.domain.commands import Envelope
from service.domain.rejections import Reason, Rejected

Decision = tuple[Event, ...] | Rejected


def accepted(
    envelope: Envelope, verb: Verb, name: str, kind: Kind = "replica_set"
) -> OperationAccepted:
    """The first event of every caller's command."""
    return OperationAccepted(
        operation_id=envelope.command_id,
        verb=verb,
        kind=kind,
        name=name,
        request=envelope.request,
        fingerprint=envelope.fingerprint,
    )


def not_found(name: str) -> Rejected:
    """No replica set of this name is there."""
    return Rejected(Reason.REPLICA_SET_NOT_FOUND, f"there is no replica set {name}")


def idle(state: State, name: str) -> ReplicaSet | Rejected:
    """The replica set, if it is there and nothing is going on with it or its volumes."""
    found = state.live(name)
    if found is None:
        return not_found(name)
    if found.operation is not None:
        operation = state.operations.get(found.operation)
        verb = operation.verb if operation else "operation"
        return Rejected(
            Reason.OPERATION_IN_PROGRESS,
            f"{name} is busy with a {verb} (operation {found.operation}); wait for its end",
        )
    if (refusal := lent(found, live_only=True)) is not None:
        return refusal
    spec = state.revisions[name, found.current].spec
    for volume in (split_versioned(bind.source) for bind in spec.binds):
        if volume is not None and (known := state.volumes.get(volume[0])) and known.operation:
            return Rejected(
                Reason.VOLUME_BUSY,
                f"volume {volume[0]}, which {name} uses, is being changed"
                f" (operation {known.operation}); wait for its end",
            )
    return found


def lent(replica_set: ReplicaSet, *, live_only: bool = False) -> Rejected | None:
    """Is one of its system disks being copied, and so in need of staying as it is?

    Only that of its container is, too, what everything else would change.
    """
    for loan in replica_set.loans:
        if loan.live or not live_only:
            return Rejected(
                Reason.OPERATION_IN_PROGRESS,
                f"the system disk of {at_version(replica_set.name, loan.version)} is being copied"
                f" for {loan.to} (operation {loan.operation}); wait for its end",
            )
    return None
