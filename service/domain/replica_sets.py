"""The rules for what callers ask of a replica set as it stands: phases, commit, execute, delete."""

from events.replica_sets import ExecutionRequested, ImageCommitRequested, PhaseRequested
from events.values import Phase, Verb, versioned
from projections.state import State
from service.domain.commands import (
    CommitReplicaSet,
    ContinueReplicaSet,
    DeleteReplicaSet,
    Envelope,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    StopReplicaSet,
)
from service.domain.guards import Decision, accepted, idle, lent, not_found
from service.domain.rejections import Reason, Rejected


def stop(state: State, envelope: Envelope, command: StopReplicaSet) -> Decision:
    """Stop; once the container was seen stopped, GPUs and ports are given back."""
    return _change_phase(state, envelope, command, "stop", "stopped")


def pause(state: State, envelope: Envelope, command: PauseReplicaSet) -> Decision:
    """Stop the container and keep the leases."""
    found = idle(state, command.name)
    if not isinstance(found, Rejected) and found.phase == "stopped":
        return Rejected(
            Reason.STOPPED,
            f"{command.name} is stopped and has given its GPUs and ports back: there is nothing"
            " to keep; restart it first",
        )
    return _change_phase(state, envelope, command, "pause", "paused")


def continue_(state: State, envelope: Envelope, command: ContinueReplicaSet) -> Decision:
    """Start the paused container again, with the GPUs and ports it kept."""
    found = idle(state, command.name)
    if not isinstance(found, Rejected) and found.phase == "stopped":
        return Rejected(
            Reason.STOPPED,
            f"{command.name} is stopped: its GPUs and ports were given back and may be somebody"
            " else's by now; restart it instead",
        )
    return _change_phase(state, envelope, command, "continue", "running")


def delete(state: State, envelope: Envelope, command: DeleteReplicaSet) -> Decision:
    """Remove everything of it but the history and its volumes."""
    found = idle(state, command.name)
    if not isinstance(found, Rejected) and (refusal := lent(found)) is not None:
        return refusal
    return _change_phase(state, envelope, command, "delete", "deleted")


def commit(state: State, envelope: Envelope, command: CommitReplicaSet) -> Decision:
    """Save the system disk of the current revision as an image."""
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    if state.revisions[command.name, found.current].container == "removed":
        return Rejected(
            Reason.SYSTEM_DISK_GONE,
            f"the container {versioned(command.name, found.current)} was removed by somebody else,"
            " and its system disk with it: there is nothing to save",
        )
    return (
        accepted(envelope, "commit", command.name),
        ImageCommitRequested(command.name, found.current, command.image),
    )


def execute(state: State, envelope: Envelope, command: ExecuteInReplicaSet) -> Decision:
    """Run a command in the container, beside whatever else goes on."""
    found = state.live(command.name)
    if found is None:
        return not_found(command.name)
    current = state.revisions[command.name, found.current]
    if current.container != "running" or found.phase != "running":
        # Of one that is to run, but does not at the moment, its container says why.
        how = current.container if found.phase == "running" else found.phase
        return Rejected(
            Reason.NOT_RUNNING, f"{versioned(command.name, found.current)} is not running ({how})"
        )
    return (
        accepted(envelope, "execute", command.name),
        ExecutionRequested(
            operation_id=envelope.command_id,
            name=command.name,
            number=found.current,
            cmd=command.cmd,
            work_dir=command.work_dir,
        ),
    )


def _change_phase(
    state: State,
    envelope: Envelope,
    command: StopReplicaSet | PauseReplicaSet | ContinueReplicaSet | DeleteReplicaSet,
    verb: Verb,
    phase: Phase,
) -> Decision:
    """To where it is already is no refusal: a caller that repeats itself gets the same answer."""
    found = idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    return accepted(envelope, verb, command.name), PhaseRequested(command.name, phase)
