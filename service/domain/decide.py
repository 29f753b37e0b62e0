"""decide: the one door into the rules. Pure: the same state and envelope, the same decision."""

from typing import assert_never

from events.resources import NodeRegistered
from events.values import Kind, Verb
from projections.state import State
from service.domain import (
    debug_copies,
    gpus,
    months,
    observing,
    orphans,
    outcomes,
    prices,
    recovery,
    replica_sets,
    retention,
    revisions,
    volumes,
    webhooks,
)
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.commands import (
    Command,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DebugReplicaSet,
    DeleteReplicaSet,
    DeleteVolume,
    Envelope,
    ExecuteInReplicaSet,
    ExpireSnapshots,
    ObserveGpus,
    PatchReplicaSet,
    PauseReplicaSet,
    PinRevision,
    QuarantineGpu,
    RecordOutcome,
    RecordProgress,
    RegisterNode,
    ReportGpuErrors,
    Request,
    ResizeVolume,
    RestartReplicaSet,
    RestoreGpu,
    RollBackReplicaSet,
    RunReplicaSet,
    StopReplicaSet,
    UnpinRevision,
)
from service.domain.effects import kind_of
from service.domain.guards import Decision
from service.domain.observing_commands import ObserveContainer, ObserveGpuAccess, RetryReplicaSet
from service.domain.orphan_commands import ExpireOrphan, RemoveOrphan
from service.domain.recovery_commands import RecoverReplicaSet, RecoverVolume
from service.domain.rejections import Reason, Rejected
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RegisterWebhook,
    RemoveWebhook,
    RotateWebhook,
)

VERBS: dict[type[Request], tuple[Kind, Verb]] = {
    RunReplicaSet: ("replica_set", "run"),
    PatchReplicaSet: ("replica_set", "patch"),
    RollBackReplicaSet: ("replica_set", "rollback"),
    DebugReplicaSet: ("replica_set", "debug"),
    RestartReplicaSet: ("replica_set", "restart"),
    StopReplicaSet: ("replica_set", "stop"),
    PauseReplicaSet: ("replica_set", "pause"),
    ContinueReplicaSet: ("replica_set", "continue"),
    CommitReplicaSet: ("replica_set", "commit"),
    ExecuteInReplicaSet: ("replica_set", "execute"),
    DeleteReplicaSet: ("replica_set", "delete"),
    PinRevision: ("replica_set", "pin"),
    UnpinRevision: ("replica_set", "unpin"),
    CreateVolume: ("volume", "create"),
    ResizeVolume: ("volume", "resize"),
    DeleteVolume: ("volume", "delete"),
    QuarantineGpu: ("gpu", "quarantine"),
    RestoreGpu: ("gpu", "restore"),
    RemoveOrphan: ("orphan", "remove"),
    SetPrice: ("price", "set"),
    CloseMonth: ("month", "close"),
    RegisterWebhook: ("webhook", "register"),
    RotateWebhook: ("webhook", "rotate"),
    DisableWebhook: ("webhook", "disable"),
    EnableWebhook: ("webhook", "enable"),
    RemoveWebhook: ("webhook", "remove"),
    RecoverReplicaSet: ("replica_set", "recover"),
    RecoverVolume: ("volume", "recover"),
}
"""Whose command it is, and the contract's word for it."""


def address(command: Command) -> tuple[str, str, str]:
    """Kind, name and verb of a command: the tokens of its record's subject."""
    if isinstance(command, RecordOutcome):
        return kind_of(command.effect), command.effect.name, "outcome"
    if isinstance(command, RecordProgress):
        return kind_of(command.effect), command.effect.name, "progress"
    if isinstance(command, ObserveGpus):
        return "node", "gpus", "observe"
    if isinstance(command, ReportGpuErrors):
        return "node", "gpus", "report"
    if isinstance(command, RegisterNode):
        return "node", command.node, "register"
    if isinstance(command, ObserveContainer | ObserveGpuAccess):
        return "replica_set", command.name, "observe"
    if isinstance(command, RetryReplicaSet):
        return "replica_set", command.name, "retry"
    if isinstance(command, ExpireSnapshots):
        return "replica_set", command.name, "expire"
    if isinstance(command, ExpireOrphan):
        return "orphan", command.name, "expire"
    kind, verb = VERBS[type(command)]
    return kind, command.name, verb


def decide(state: State, envelope: Envelope) -> Decision:
    """The events that a command leads to, or why it may not be done."""
    command = envelope.command
    if isinstance(command, Request):
        return orphans.in_the_way(state, command) or _asked(state, envelope, command)
    match command:
        case RecordOutcome():
            return outcomes.record_outcome(state, envelope, command)
        case RecordProgress():
            return outcomes.record_progress(state, command)
        case ObserveGpus():
            return gpus.observe(state, command)
        case ReportGpuErrors():
            return gpus.report_errors(state, envelope, command)
        case ObserveContainer():
            return observing.observe(state, envelope, command)
        case ObserveGpuAccess():
            return observing.observe_access(state, envelope, command)
        case RetryReplicaSet():
            return observing.retry(state, envelope, command)
        case ExpireSnapshots():
            return retention.expire(state, envelope, command)
        case ExpireOrphan():
            return orphans.expire(state, envelope, command)
        case RegisterNode():
            return _register(state, command)
    assert_never(command)


def _asked(state: State, envelope: Envelope, command: Request) -> Decision:
    """The same for what callers send."""
    match command:
        case RunReplicaSet():
            return revisions.run(state, envelope, command)
        case PatchReplicaSet():
            return revisions.patch(state, envelope, command)
        case RollBackReplicaSet():
            return revisions.roll_back(state, envelope, command)
        case DebugReplicaSet():
            return debug_copies.debug(state, envelope, command)
        case RestartReplicaSet():
            return revisions.restart(state, envelope, command)
        case StopReplicaSet():
            return replica_sets.stop(state, envelope, command)
        case PauseReplicaSet():
            return replica_sets.pause(state, envelope, command)
        case ContinueReplicaSet():
            return replica_sets.continue_(state, envelope, command)
        case CommitReplicaSet():
            return replica_sets.commit(state, envelope, command)
        case ExecuteInReplicaSet():
            return replica_sets.execute(state, envelope, command)
        case DeleteReplicaSet():
            return replica_sets.delete(state, envelope, command)
        case PinRevision():
            return retention.pin(state, envelope, command)
        case UnpinRevision():
            return retention.unpin(state, envelope, command)
        case CreateVolume():
            return volumes.create(state, envelope, command)
        case ResizeVolume():
            return volumes.resize(state, envelope, command)
        case DeleteVolume():
            return volumes.delete(state, envelope, command)
        case QuarantineGpu():
            return gpus.quarantine(state, envelope, command)
        case RestoreGpu():
            return gpus.restore(state, envelope, command)
        case RemoveOrphan():
            return orphans.remove(state, envelope, command)
        case SetPrice():
            return prices.set_price(state, envelope, command)
        case CloseMonth():
            return months.close(state, envelope, command)
        case (
            RegisterWebhook()
            | RotateWebhook()
            | DisableWebhook()
            | EnableWebhook()
            | RemoveWebhook()
        ):
            return webhooks.decide(state, envelope, command)
        case RecoverReplicaSet():
            return recovery.recover(state, envelope, command)
        case RecoverVolume():
            return recovery.recover_volume(state, envelope, command)
    assert_never(command)


def _register(state: State, command: RegisterNode) -> Decision:
    if state.node is not None:
        return Rejected(Reason.NOTHING_NEW, f"this ledger is of node {state.node.node} already")
    return (NodeRegistered(command.node, command.owner),)
