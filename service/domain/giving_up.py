"""What is given up when the engine stays away or refuses, and what is tried until it is done."""

from projections.state import State
from service.domain.effects import (
    CommitImage,
    CreateContainer,
    Effect,
    EnsureImage,
    FillDisk,
    MakeDebugImage,
    MakeVolume,
    PreCopyDisk,
    PutBackDisk,
    RemoveContainer,
    RemoveDebugImage,
    RemoveSnapshot,
    RemoveVolume,
    StartContainer,
    StopContainer,
    kind_of,
)

GIVEN_UP = (
    *(EnsureImage, MakeVolume, CreateContainer, PreCopyDisk, FillDisk, StartContainer),
    *(CommitImage, MakeDebugImage),
)
"""What an operation may fail by without an answer: its undoing fits whether it was done or not.
Of the others one has to know: a layer that may have been moved is no layer to start on."""

MUST_SUCCEED = (
    *(StopContainer, RemoveContainer, RemoveSnapshot, PutBackDisk, RemoveVolume),
    RemoveDebugImage,
)
"""Taking away and putting back are tried until they are done: a lease must not end before, nothing
is left over, and what was there before a failed operation is there after it."""


def may_give_up(state: State, effect: Effect) -> bool:
    """Not while an operation is undone: what was there before comes back, however late."""
    known = state.volumes if kind_of(effect) == "volume" else state.replica_sets
    one = known.get(effect.name)
    undone = one is None or one.failure is not None
    return isinstance(effect, GIVEN_UP) and bool(effect.operation_id) and not undone
