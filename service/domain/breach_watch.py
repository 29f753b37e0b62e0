"""The invariants after every record, of what the record can have broken and not of everything.

Each invariant is about one thing and what it names: a lease and its revision, a set and its
leases, a debug copy and whose disk it is of, an operation and its owner. So it is enough to check
the part of the state that the touched things, and those that hold what they hold or held, are in.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from projections.state import Revision, State
from service.domain.invariants import Breach, check

Thing = tuple[Literal["set", "volume"], str]
"""A replica set or a volume, by its name."""


class BreachWatch:
    """A follower of a replay that checks after every record."""

    def __init__(self) -> None:
        self._holders: dict[tuple[str, str | int], str] = {}
        """Who has each GPU and port, so that one is looked at that something was taken from."""
        self._running: dict[str, set[str]] = {}
        """By name: the operations that have not ended; those about orphans under "". One may be
        left behind by whom it was about."""
        self.breaches: tuple[Breach, ...] = ()
        """What the last record left broken."""

    def follow(self, state: State) -> None:
        """Check what the last record can have broken."""
        for table, key, _ in state.touched:
            if table == "operations":
                self._note_operation(state, str(key))
        self.breaches = check(_part(state, list(self._touched(state)), self._running))

    def _note_operation(self, state: State, operation_id: str) -> None:
        operation = state.operations.get(operation_id)
        if operation is None:
            return  # it ended so long ago that it left memory
        name = "" if operation.kind == "orphan" else operation.name
        running = self._running.setdefault(name, set())
        if operation.state == "running":
            running.add(operation_id)
        else:
            running.discard(operation_id)
            if not running:
                del self._running[name]

    def _touched(self, state: State) -> Iterator[Thing]:
        """The sets and volumes that were touched, or that have to do with what was."""
        for table, key, _ in state.touched:
            name = str(key)
            if table in ("replica_sets", "revisions"):
                yield "set", name
            elif table == "volumes":
                yield "volume", name
                yield from (("set", user) for user in state.volume_users.get(name, ()))
            elif table == "operations" and (operation := state.operations.get(name)):
                yield "set" if operation.kind == "replica_set" else "volume", operation.name
            elif table in ("gpus", "ports"):
                thing = state.gpus.get(name) if table == "gpus" else state.ports.get(int(key))
                holder = (thing.holder if thing is not None else None) or ""
                yield "set", self._holders.get((table, key), "")
                yield "set", holder
                self._holders[table, key] = holder


def _part(state: State, things: list[Thing], running: Mapping[str, set[str]]) -> State:
    """All that the invariants of these things, and of what was touched, look at."""
    part = State()
    part.seq, part.node = state.seq, state.node
    for table, key, _ in state.touched:
        if table == "gpus":
            part.gpus[str(key)] = state.gpus[str(key)]
        elif table == "ports" and int(key) in state.ports:
            part.ports[int(key)] = state.ports[int(key)]
    part.operations = {one: state.operations[one] for one in running.get("", ())}
    while things:
        kind, name = things.pop()
        if kind == "volume" and name in state.volumes and name not in part.volumes:
            part.volumes[name] = state.volumes[name]
            owner = state.volumes[name].operation
        elif kind == "set" and name in state.replica_sets and name not in part.replica_sets:
            things += _with_set(part, state, name)
            owner = state.replica_sets[name].operation
        else:
            continue
        for operation_id in {owner or "", *running.get(name, ())}:
            if (operation := state.operations.get(operation_id)) is not None:
                part.operations[operation_id] = operation
                things.append(("volume" if operation.kind == "volume" else "set", operation.name))
    return part


def _with_set(part: State, state: State, name: str) -> Iterator[Thing]:
    """Put a replica set into the part; what else has to be in it because of that."""
    found = part.replica_sets[name] = state.replica_sets[name]
    for number in range(1, found.newest + 1):
        if (revision := state.revisions.get((name, number))) is not None:
            part.revisions[name, number] = revision
            if revision.copied is not None:
                yield "set", revision.copied.of
            if number in (found.current, found.previous):
                yield from (("set", holder) for holder in _with_leases(part, state, revision))
    yield from (("set", loan.to) for loan in found.loans)
    if used := state.volumes_used.get(name):
        part.volumes_used[name] = used
        yield from (("volume", volume) for volume in used)


def _with_leases(part: State, state: State, revision: Revision) -> Iterator[str]:
    """Put its GPUs and ports into the part; who has them."""
    for uuid in revision.gpus:
        part.gpus[uuid] = state.gpus[uuid]
        yield state.gpus[uuid].holder or ""
    for binding in revision.ports:
        if (lease := state.ports.get(binding.host_port)) is not None:
            part.ports[lease.host_port] = lease
            yield lease.holder
