"""Which effects are due, kept up from record to record: only what one touches is asked anew."""

from collections.abc import Iterator

from projections.state import State
from service.domain.effects import Effect
from service.domain.reconcile import reconcile

Name = tuple[str, str]
"""Kind and name, as `reconcile` takes them."""


class DueEffects:
    """A follower of a replay."""

    def __init__(self) -> None:
        self._due: dict[Name, tuple[Effect, ...]] = {}
        """By name; a name that nothing is due for has no entry."""
        self.begun: tuple[Effect, ...] = ()
        """What became due with the last record."""

    def follow(self, state: State) -> None:
        """Look at the names again that the last record can have made a difference for."""
        begun: list[Effect] = []
        for name in sorted(_concerned(state, self._due)):
            before = {effect.effect_id for effect in self._due.pop(name, ())}
            if due := reconcile(state, *name):
                self._due[name] = due
                begun += (effect for effect in due if effect.effect_id not in before)
        self.begun = tuple(begun)

    def copy(self) -> "DueEffects":
        """The same, to follow another state that is as this one is now."""
        other = DueEffects()
        other._due = self._due.copy()
        return other

    def of(self, kind: str, name: str) -> tuple[Effect, ...]:
        """What is due for a name."""
        return self._due.get((kind, name), ())

    def all(self) -> Iterator[Effect]:
        """What is due now, in the order in which the names came to it."""
        for due in self._due.values():
            yield from due


def _concerned(state: State, known: dict[Name, tuple[Effect, ...]]) -> set[Name]:
    """Replica sets wait for their volumes, volumes for the sets that use them, and debug copies
    for the set whose disk is copied."""
    found: set[Name] = set()
    for table, key, _ in state.touched:
        name = str(key)
        if table in ("replica_sets", "revisions"):
            found.add(("replica_set", name))
            found.update(("volume", used) for used in state.volumes_used.get(name, ()))
            lender = state.replica_sets.get(name)
            found.update(("replica_set", loan.to) for loan in (lender.loans if lender else ()))
        elif table == "volumes":
            found.add(("volume", name))
            found.update(("replica_set", user) for user in state.volume_users.get(name, ()))
        elif table == "operations" and (operation := state.operations.get(name)):
            found.add((operation.kind, operation.name))
        elif table == "node" and state.node is not None:
            found.update(("orphan", one.id) for one in state.node.expiring)
            found.update(one for one in known if one[0] == "orphan")
    return {one for one in found if one[0] in ("replica_set", "volume", "orphan")}
