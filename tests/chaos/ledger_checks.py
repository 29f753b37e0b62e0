"""What the ledger must say at the end: what was acknowledged once, nothing twice, no loose end."""

from collections import Counter
from collections.abc import Iterator, Sequence

from events.operations import OperationAccepted, OperationFailed, OperationSucceeded
from events.record import Record
from events.resources import GpusLeased, PortsLeased
from projections.evolve import evolve
from projections.state import State
from service.domain.invariants import check
from service.domain.reconcile import reconcile
from tests.chaos.faults import Fault
from tests.chaos.load import Told


def unfinished(state: State) -> list[str]:
    """What is still to be done, for people; nothing when all has come to rest."""
    found = [
        f"{o.verb} of {o.name} ({o.id}) has no end"
        for o in state.operations.values()
        if o.state == "running"
    ]
    named = [("replica_set", name) for name in state.replica_sets]
    named += [("volume", name) for name in state.volumes]
    found += [
        f"{effect.effect_id} is due for {name}"
        for kind, name in named
        for effect in reconcile(state, kind, name)
    ]
    found += [
        f"{s.name} is to be started again"
        for s in state.replica_sets.values()
        if s.retry_due_us and s.current
    ]
    return found


def check_told(told: Sequence[Told], records: Sequence[Record]) -> Iterator[Fault]:
    """Whoever was told something was told the truth."""
    stored: dict[str, list[str]] = {}
    ends: dict[str, str] = {}
    for record in records:
        for event in record.events:
            if isinstance(event, OperationAccepted):
                trace_id = record.traceparent.split("-")[1] if record.traceparent else ""
                stored.setdefault(trace_id, []).append(event.operation_id)
            elif isinstance(event, OperationSucceeded):
                ends[event.operation_id] = "succeeded"
            elif isinstance(event, OperationFailed):
                ends[event.operation_id] = "failed"
    for one in told:
        found = stored.get(one.trace_id, [])
        about = f"{one.asked.verb} {one.asked.path} (trace {one.trace_id}; told: {one.said})"
        if len(found) > 1:
            yield Fault("other", f"stored {len(found)} times: {about}")
        if one.verdict == "acknowledged" and not found:
            yield Fault("lost", f"acknowledged and not in the ledger: {about}")
        if one.verdict == "refused" and found:
            yield Fault("other", f"refused and yet in the ledger as {found}: {about}")
        if found and one.operation_id and one.operation_id not in found:
            yield Fault("other", f"in the ledger as {found}, not {one.operation_id}: {about}")
        if found and one.ended and ends.get(found[0]) != one.ended:
            yield Fault("other", f"told {one.ended}, the ledger says {ends.get(found[0])}: {about}")


def check_history(records: Sequence[Record]) -> Iterator[Fault]:
    """Fold it record by record: at no moment was anything lent twice, or a rule broken."""
    state = State()
    known: set[str] = set()
    for seq, record in enumerate(records, 1):
        yield from _lent_twice(state, seq, record)
        evolve(state, seq, record)
        state.forget_touched()
        for breach in check(state):
            text = f"{breach.subject}: {breach.message}"
            if text not in known:
                known.add(text)
                yield Fault("other", f"after record {seq}: {text}")


def check_ends(records: Sequence[Record]) -> Iterator[Fault]:
    """Every operation has one end, and every record's id is its own."""
    accepted: set[str] = set()
    ends: Counter[str] = Counter()
    for record in records:
        for event in record.events:
            if isinstance(event, OperationAccepted):
                accepted.add(event.operation_id)
            elif isinstance(event, OperationSucceeded | OperationFailed):
                ends[event.operation_id] += 1
    for operation_id in sorted(accepted - set(ends)):
        yield Fault("lost", f"operation {operation_id} has no end")
    for operation_id, count in ends.items():
        if count > 1:
            yield Fault("other", f"operation {operation_id} ended {count} times")
    ids = Counter(record.command_id for record in records)
    for command_id, count in ids.items():
        if count > 1:
            yield Fault("other", f"{count} records have the id {command_id}")


def _lent_twice(state: State, seq: int, record: Record) -> Iterator[Fault]:
    for event in record.events:
        if isinstance(event, GpusLeased):
            for uuid in event.uuids:
                holder = state.gpus[uuid].holder
                if holder not in (None, event.name):
                    text = f"record {seq} lends {uuid} to {event.name}, and {holder} has it"
                    yield Fault("double lease", text)
        elif isinstance(event, PortsLeased):
            for port in event.ports:
                lease = state.ports.get(port.host_port)
                if lease is not None and lease.holder != event.name:
                    text = (
                        f"record {seq} lends port {port.host_port} to {event.name},"
                        f" and {lease.holder} has it"
                    )
                    yield Fault("double lease", text)
