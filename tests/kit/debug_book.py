"""The part of the second book that is about debug copies, kept from the events alone."""

from collections.abc import Callable, Iterable

from events.debug_copies import (
    DebugCopyBegun,
    DebugCopyEnded,
    DebugImageMade,
    DebugImageRemoved,
)
from events.outcomes import SnapshotRemoved, SnapshotTaken, SystemDiskPutBack
from events.record import Event
from events.replica_sets import ReplicaSetDeleted, RevisionDeclared, SnapshotExpired
from projections.state import State
from service.domain.effects import Effect, Execute, MakeDebugImage


class DebugBook:
    """What is lent to whom, and which images debug copies have."""

    def __init__(self) -> None:
        self.images: dict[str, str] = {}
        """By their names: the replica sets that they go with."""
        self._lent: dict[str, DebugCopyBegun] = {}
        """By debug copy."""

    def copy(self) -> "DebugBook":
        """An independent book that says the same."""
        other = DebugBook()
        other.images = self.images.copy()
        other._lent = self._lent.copy()
        return other

    def write(self, event: Event, explain: Callable[[str], str]) -> None:
        """Note an event."""
        match event:
            case DebugCopyBegun():
                assert event.name not in self._lent, explain(f"{event} a second time")
                self._lent[event.name] = event
            case DebugCopyEnded():
                lent = self._lent.pop(event.name, None)
                of = None if lent is None else lent.of
                assert of == event.of, explain(f"{event} of {lent}")
            case DebugImageMade():
                assert event.image not in self.images, explain(f"{event} a second time")
                self.images[event.image] = event.name
            case DebugImageRemoved():
                self.images.pop(event.image, None)
            case ReplicaSetDeleted():
                lent_of = [one for one in self._lent.values() if one.of == event.name]
                assert not lent_of, explain(f"{event}, and {lent_of}")
                left = [image for image, name in self.images.items() if name == event.name]
                assert not left, explain(f"{event}, and {left} are left")
            case SnapshotExpired() | SnapshotRemoved() | SystemDiskPutBack() | SnapshotTaken():
                self._expect_not_lent(event, event.name, event.revision, explain)
            case RevisionDeclared():
                live = [one for one in self._lent.values() if one.source == "container"]
                assert event.name not in {one.of for one in live}, explain(f"{event}, and {live}")

    def compare(
        self, state: State, due: Iterable[Effect], explain: Callable[[str], str]
    ) -> None:
        """The state says the same of what is lent, and a container that is copied is left alone."""
        told = {
            (loan.to, one.name, loan.version, loan.live)
            for one in state.replica_sets.values()
            for loan in one.loans
        }
        lent = {
            (one.name, one.of, one.version, one.source == "container")
            for one in self._lent.values()
        }
        assert told == lent, explain(f"the state says {told}, the events say {lent}")
        effects = tuple(due)
        copied = {e.source: e.pause for e in effects if isinstance(e, MakeDebugImage) and e.live}
        for effect in effects:
            container = getattr(effect, "container", "")
            beside = isinstance(effect, Execute) and not copied.get(container)
            assert container not in copied or beside, explain(
                f"{effect.effect_id} while {container} is copied"
            )

    def _expect_not_lent(
        self, event: Event, name: str, number: int, explain: Callable[[str], str]
    ) -> None:
        lent = [one for one in self._lent.values() if (one.of, one.version) == (name, number)]
        assert not lent, explain(f"{event}, and {lent}")
