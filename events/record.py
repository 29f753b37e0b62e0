"""The closed union of events, and the record: one decision, one ledger entry, all or nothing."""

from collections.abc import Iterable

from msgspec import Struct

from events import (
    billing,
    debug_copies,
    observations,
    operations,
    orphans,
    outcomes,
    recovery,
    replica_sets,
    resources,
    volumes,
    webhooks,
)
from events.values import Kind

Event = (
    operations.OperationAccepted
    | operations.OperationProgressed
    | operations.OperationSucceeded
    | operations.OperationFailed
    | replica_sets.RevisionDeclared
    | replica_sets.PhaseRequested
    | replica_sets.ImageCommitRequested
    | replica_sets.ExecutionRequested
    | replica_sets.RevisionRetired
    | replica_sets.RevisionAbandoned
    | replica_sets.BindMoved
    | replica_sets.RevisionPinned
    | replica_sets.RevisionUnpinned
    | replica_sets.SnapshotExpired
    | replica_sets.ReplicaSetDeleted
    | debug_copies.DebugCopyBegun
    | debug_copies.DebugCopyEnded
    | debug_copies.DebugImageMade
    | debug_copies.DebugImageRemoved
    | volumes.VolumeVersionDeclared
    | volumes.VolumeVersionAbandoned
    | volumes.VolumeDeletionRequested
    | volumes.VolumeDeleted
    | resources.NodeRegistered
    | resources.GpuAppeared
    | resources.GpuDisappeared
    | resources.GpuErrorReported
    | resources.GpuFellIll
    | resources.GpuRecovered
    | resources.GpuQuarantined
    | resources.GpuRestored
    | resources.GpuOccupied
    | resources.GpuVacated
    | resources.GpusLeased
    | resources.GpusReleased
    | resources.PortsLeased
    | resources.PortsReleased
    | outcomes.ImageResolved
    | outcomes.ContainerCreated
    | outcomes.ContainerUpdated
    | outcomes.ContainerStarted
    | outcomes.ContainerStopped
    | outcomes.ContainerRemoved
    | outcomes.SnapshotTaken
    | outcomes.SnapshotRemoved
    | outcomes.SnapshotCompacted
    | outcomes.SystemDiskPrecopied
    | outcomes.SystemDiskFilled
    | outcomes.SystemDiskPutBack
    | outcomes.ImageCommitted
    | outcomes.CommandExecuted
    | outcomes.VolumeMade
    | outcomes.VolumeRemoved
    | outcomes.EffectFailed
    | observations.ContainerExited
    | observations.ContainerVanished
    | observations.ContainerFoundRunning
    | observations.GpuAccessLost
    | observations.GpuAccessRestored
    | observations.RetryScheduled
    | observations.RetryBegun
    | observations.PortRefused
    | observations.PortsMoved
    | orphans.OrphanExpired
    | orphans.OrphanRemoved
    | orphans.OrphanSpared
    | recovery.ContainerLost
    | recovery.RecoveryBegun
    | recovery.VolumeLost
    | billing.PriceSet
    | billing.MonthClosed
    | webhooks.WebhookRegistered
    | webhooks.WebhookRotated
    | webhooks.WebhookDisabled
    | webhooks.WebhookEnabled
    | webhooks.WebhookRemoved
)


def acceptance(events: Iterable[Event]) -> operations.OperationAccepted | None:
    """By which of these events a caller's command was accepted; None when it is by none."""
    return next((one for one in events if isinstance(one, operations.OperationAccepted)), None)


class Record(Struct, frozen=True):
    """One ledger entry: what was decided on one command, and who sent the command.

    `kind`, `name` and `verb` are the tokens of its subject. The command's id is the record's.
    """

    command_id: str
    node: str
    kind: Kind | str
    name: str
    verb: str
    at_us: int
    """When the command was issued, microseconds since the epoch, UTC."""
    events: tuple[Event, ...]
    actor: str = ""
    tenant: str = ""
    remote: str = ""
    """The address that a caller sent it from; empty for the service itself."""
    operation_id: str = ""
    """The caller's operation that this record is a part of, if any."""
    traceparent: str = ""
    """W3C trace context of the request that led here."""
