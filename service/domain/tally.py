"""How many there are of what: a state in a dozen numbers, kept up from record to record."""

from collections import Counter

from msgspec import Struct

from projections.state import Key, State


class Counts(Struct, frozen=True):
    """The numbers of a state."""

    gpus: int = 0
    """GPUs that the driver shows."""
    gpus_free: int = 0
    """Those that may be lent."""
    gpus_leased: int = 0
    """Those that a replica set holds, whether the driver shows them or not."""
    gpus_withheld: int = 0
    """Those that nobody holds and that are not lent: in quarantine, away, or used by others."""
    ports_leased: int = 0
    replica_sets: int = 0
    """Those that are there; `running`, `paused` and `stopped` are what they are to be."""
    running: int = 0
    paused: int = 0
    stopped: int = 0
    containers_running: int = 0
    """Containers that were last seen running."""
    volumes: int = 0
    operations_running: int = 0


class Tally:
    """A follower of a replay that counts."""

    def __init__(self) -> None:
        self._words: dict[Key, tuple[str, ...]] = {}
        """What each thing counts as; one that counts as nothing has no entry."""
        self._counted: Counter[str] = Counter()

    def follow(self, state: State) -> None:
        """Count again what the last record touched."""
        for key in state.touched:
            self._counted.subtract(self._words.pop(key, ()))
            if words := _words(state, *key):
                self._words[key] = words
                self._counted.update(words)

    @property
    def counts(self) -> Counts:
        """As it is after the last record."""
        return Counts(**{word: self._counted[word] for word in Counts.__struct_fields__})


def count(state: State) -> Counts:
    """The numbers of a state that nobody followed; its cost is that of the whole state."""
    keys: list[Key] = [("gpus", uuid, 0) for uuid in state.gpus]
    keys += [("ports", port, 0) for port in state.ports]
    keys += [("replica_sets", name, 0) for name in state.replica_sets]
    keys += [("revisions", *key) for key in state.revisions]
    keys += [("volumes", name, 0) for name in state.volumes]
    keys += [("operations", operation, 0) for operation in state.operations]
    counted = Counter(word for key in keys for word in _words(state, *key))
    return Counts(**{word: counted[word] for word in Counts.__struct_fields__})


def _words(state: State, table: str, key: str | int, number: int) -> tuple[str, ...]:
    name = str(key)
    match table:
        case "gpus":
            gpu = state.gpus[name]
            shown = ("gpus",) if gpu.present else ()
            if gpu.holder is not None:
                return (*shown, "gpus_leased")
            return (*shown, "gpus_free" if gpu.is_free else "gpus_withheld")
        case "ports":
            return ("ports_leased",) if key in state.ports else ()
        case "replica_sets":
            found = state.live(name)
            if found is None:
                return ()
            return ("replica_sets", found.phase) if found.phase != "deleted" else ("replica_sets",)
        case "revisions":
            revision = state.revisions.get((name, number))
            runs = revision is not None and revision.container == "running"
            return ("containers_running",) if runs else ()
        case "volumes":
            return ("volumes",) if state.live_volume(name) else ()
        case "operations":
            # One that left memory has ended.
            operation = state.operations.get(name)
            is_running = operation is not None and operation.state == "running"
            return ("operations_running",) if is_running else ()
    return ()
