"""Other orders in which free GPUs could be lent: to ask what would have been, never to serve.

`place_gpus` takes those with the lowest index. Another order is had from the same rules by
showing them the GPUs numbered in that order; what they choose is named by UUID and needs no
translation.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec.structs import replace

from events.record import Event
from events.recovery import RecoveryBegun
from events.replica_sets import RevisionDeclared
from events.resources import GpusLeased
from projections.state import GpuUnit, State
from service.domain.commands import (
    DebugReplicaSet,
    Envelope,
    PatchReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
    RunReplicaSet,
)
from service.domain.decide import decide
from service.domain.guards import Decision
from service.domain.observing_commands import RetryReplicaSet
from service.domain.recovery_commands import RecoverReplicaSet
from service.domain.rejections import Rejected

Order = Literal["lowest", "highest", "longest_free"]
"""By index from below, as the service does it; from above; the one that was given back first."""

CHOOSING = (
    RunReplicaSet,
    PatchReplicaSet,
    RestartReplicaSet,
    RollBackReplicaSet,
    DebugReplicaSet,
    RetryReplicaSet,
    RecoverReplicaSet,
)
"""Commands that GPUs may be chosen for."""

_Key = Callable[[GpuUnit, Mapping[str, int]], tuple[int, int, str]]

_KEYS: Mapping[Order, _Key] = {
    "lowest": lambda gpu, freed: (0, gpu.index, gpu.uuid),
    "highest": lambda gpu, freed: (0, -gpu.index, gpu.uuid),
    "longest_free": lambda gpu, freed: (freed.get(gpu.uuid, 0), gpu.index, gpu.uuid),
}


class Placement:
    """A decider with an order of its own, and the follower that it needs to know the past."""

    def __init__(self, order: Order) -> None:
        self._order: Order = order
        self._held: set[str] = set()
        self._freed: dict[str, int] = {}
        """By UUID: the record that gave it back last; one that never was lent is not in it."""

    def follow(self, state: State) -> None:
        """Note which GPUs were given back."""
        for table, key, _ in state.touched:
            if table != "gpus":
                continue
            uuid = str(key)
            if state.gpus[uuid].holder is not None:
                self._held.add(uuid)
            elif uuid in self._held:
                self._held.discard(uuid)
                self._freed[uuid] = state.seq

    def decide(self, state: State, envelope: Envelope) -> Decision:
        """As `decide`, but for which GPUs are chosen."""
        if self._order == "lowest" or not isinstance(envelope.command, CHOOSING):
            return decide(state, envelope)
        decision = decide(self._renumbered(state), envelope)
        if isinstance(decision, Rejected):
            # It names GPUs by their index: in words for people it must be the true one.
            return decide(state, envelope)
        return tuple(_by_true_index(state, event) for event in decision)

    def _renumbered(self, state: State) -> State:
        key = _KEYS[self._order]
        ordered = sorted(state.gpus.values(), key=lambda gpu: key(gpu, self._freed))
        shown = State()
        vars(shown).update(vars(state))
        shown.gpus = {gpu.uuid: replace(gpu, index=n) for n, gpu in enumerate(ordered)}
        return shown


def _by_true_index(state: State, event: Event) -> Event:
    """The GPUs of a revision are listed by index, whichever they are."""

    def listed(uuids: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(uuids, key=lambda uuid: (state.gpus[uuid].index, uuid)))

    match event:
        case RevisionDeclared(gpus=uuids) | RecoveryBegun(gpus=uuids):
            return replace(event, gpus=listed(uuids))
        case GpusLeased(uuids=uuids):
            return replace(event, uuids=listed(uuids))
    return event
