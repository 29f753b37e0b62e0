"""The chain: records in plain words, each with what it was decided from and what it came from."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from events.observations import ContainerExited, GpuAccessLost, RetryScheduled
from events.outcomes import EffectFailed
from events.record import Record
from events.replica_sets import PhaseRequested
from events.values import versioned
from projections.state import Operation, Revision, State
from service.domain.explaining import Fact, Link, Told
from service.domain.explaining_events import sentence


def links(
    found: Sequence[Told],
    state: State,
    operations: Mapping[str, Operation],
    causes: Mapping[int, int],
    placed: Mapping[int, Sequence[Fact]],
    uuid: str = "",
) -> tuple[Link, ...]:
    """Records as a chain, in the order of the ledger, each once.

    `operations` are those that the records are a part of, by id; `causes` what came from no
    operation; `placed` what GPUs and ports were chosen from, by the sequence of the choice. Asked
    of one GPU, the chain says of looks at all of them only what they found of that one.
    """
    records = {told.seq: told.record for told in found}
    return tuple(
        _link(seq, _narrowed(records[seq], uuid), state, operations, causes, placed.get(seq, ()))
        for seq in sorted(records)
    )


def _narrowed(record: Record, uuid: str) -> Record:
    events = tuple(event for event in record.events if getattr(event, "uuid", "") == uuid)
    return replace(record, events=events) if uuid and record.kind == "node" and events else record


def _link(
    seq: int,
    record: Record,
    state: State,
    operations: Mapping[str, Operation],
    causes: Mapping[int, int],
    placed: Sequence[Fact],
) -> Link:
    operation = operations.get(record.operation_id)
    accepts = operation is not None and operation.seq == seq
    cause = causes.get(seq)
    if operation is not None and not accepts:
        cause = operation.seq
    outcome, ended_seq = _outcome(operation) if operation is not None and accepts else ("", None)
    return Link(
        seq,
        record,
        tuple(sentence(event, state) for event in record.events),
        (*placed, *_policy(state, record)),
        outcome,
        ended_seq,
        cause,
    )


def _outcome(operation: Operation) -> tuple[str, int | None]:
    if operation.state == "running":
        return "goes on", None
    if operation.state == "failed":
        return f"failed ({operation.reason})", operation.finished_seq
    return "succeeded", operation.finished_seq


def _policy(state: State, record: Record) -> tuple[Fact, ...]:
    """What a version was told to do when its container ends, or loses its GPUs."""
    ended = [e for e in record.events if isinstance(e, ContainerExited | GpuAccessLost)]
    ended_number = ended[0].revision if ended else 0
    if not ended:
        refused = (e for e in record.events if isinstance(e, EffectFailed))
        ended_number = next((e.number for e in refused if e.effect == "StartContainer"), 0)
    follows = any(isinstance(e, RetryScheduled | PhaseRequested) for e in record.events)
    revision = state.revisions.get((record.name, ended_number))
    if revision is None or not follows or record.operation_id:
        return ()
    if isinstance(next(iter(ended), None), GpuAccessLost):
        return (Fact(f"onGpuLost of {_shown(revision)} is {revision.spec.on_gpu_lost}"),)
    if any(isinstance(event, ContainerExited) and event.with_engine for event in ended):
        return (Fact("what ended with Docker is started again, whatever its onExit is"),)
    most = f", {revision.spec.max_retries} times in a row" if revision.spec.max_retries else ""
    return (Fact(f"onExit of {_shown(revision)} is {revision.spec.on_exit}{most}"),)


def _shown(revision: Revision) -> str:
    return versioned(revision.name, revision.number)
