"""The invariants after every record, of what the record can have broken and not of everything.

Each invariant is about one thing and what it names: a lease and its revision, a set and its
leases, an operation and its owner. So it is enough to check the part of the state that the touched
things, and those that hold what they hold or held, are in.
"""

from collections.abc import Iterator

from projections.state import State
from service.domain.invariants import Breach, check


class BreachWatch:
    """A follower of a replay that checks after every record."""

    def __init__(self) -> None:
        self._holders: dict[tuple[str, str | int], str] = {}
        """Who has each GPU and port, so that one is looked at that something was taken from."""
        self.breaches: tuple[Breach, ...] = ()
        """What the last record left broken."""

    def follow(self, state: State) -> None:
        """Check what the last record can have broken."""
        names = set(self._sets(state))
        for table, key, _ in state.touched:
            if table in ("gpus", "ports"):
                thing = state.gpus.get(str(key)) if table == "gpus" else state.ports.get(int(key))
                holder = thing.holder if thing is not None else None
                names.update((self._holders.pop((table, key), ""), holder or ""))
                if holder:
                    self._holders[table, key] = holder
        self.breaches = check(_part(state, names))

    def _sets(self, state: State) -> Iterator[str]:
        """The replica sets that were touched, or whose operation or volume was."""
        for table, key, _ in state.touched:
            name = str(key)
            if table in ("replica_sets", "revisions"):
                yield name
            elif table == "operations" and name in state.operations:
                yield state.operations[name].name
            elif table == "volumes":
                yield name  # that of its replica set, if it is a data disk
                yield from state.volume_users.get(name, ())


def _part(state: State, names: set[str]) -> State:
    """All that the invariants of these replica sets, and of what was touched, look at."""
    part = State()
    part.seq, part.node = state.seq, state.node
    _put_touched(part, state)
    waiting = names | {gpu.holder or "" for gpu in part.gpus.values()}
    waiting |= {lease.holder for lease in part.ports.values()}
    waiting |= {_owner(state, volume) for volume in part.volumes}
    while waiting:
        name = waiting.pop()
        if name in part.replica_sets or name not in state.replica_sets:
            continue
        _put_set(part, state, name)
        current = part.replica_sets[name].current, part.replica_sets[name].previous
        for number in current:
            if (revision := part.revisions.get((name, number or 0))) is None:
                continue
            for uuid in revision.gpus:
                part.gpus[uuid] = state.gpus[uuid]
                waiting.add(state.gpus[uuid].holder or "")
            for binding in revision.ports:
                if (lease := state.ports.get(binding.host_port)) is not None:
                    part.ports[lease.host_port] = lease
                    waiting.add(lease.holder)
        for volume in part.volumes_used.get(name, ()):
            if volume in state.volumes:
                part.volumes[volume] = state.volumes[volume]
                waiting.add(_owner(state, volume))
    _put_operations(part, state)
    return part


def _owner(state: State, volume: str) -> str:
    """Whose operation a volume waits for; a data disk's may be that of its replica set."""
    operation = state.operations.get(state.volumes[volume].operation or "")
    return operation.name if operation is not None else ""


def _put_set(part: State, state: State, name: str) -> None:
    part.replica_sets[name] = state.replica_sets[name]
    for number in range(1, state.replica_sets[name].newest + 1):
        if (revision := state.revisions.get((name, number))) is not None:
            part.revisions[name, number] = revision
    if used := state.volumes_used.get(name):
        part.volumes_used[name] = used


def _put_touched(part: State, state: State) -> None:
    for table, key, _ in state.touched:
        name = str(key)
        if table == "gpus":
            part.gpus[name] = state.gpus[name]
        elif table == "ports" and int(key) in state.ports:
            part.ports[int(key)] = state.ports[int(key)]
        elif table == "volumes":
            part.volumes[name] = state.volumes[name]
        elif table == "operations" and (operation := state.operations.get(name)) is not None:
            part.operations[name] = operation
            if operation.name in state.volumes:
                part.volumes[operation.name] = state.volumes[operation.name]


def _put_operations(part: State, state: State) -> None:
    """The operations that something in the part waits for."""
    owners = [volume.operation for volume in part.volumes.values()]
    for found in part.replica_sets.values():
        owners += [found.operation, *(e.operation_id for e in found.executions)]
    for owner in owners:
        if owner is not None and (operation := state.operations.get(owner)) is not None:
            part.operations[owner] = operation
