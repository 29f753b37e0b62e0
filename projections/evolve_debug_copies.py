"""The fold of what was decided and done for debug copies."""

from msgspec.structs import replace

from events.debug_copies import (
    DebugCopyBegun,
    DebugCopyEnded,
    DebugImageMade,
    DebugImageRemoved,
)
from events.record import Record
from events.values import show_size, versioned
from projections.debug_copy import CopiedDisk, Loan
from projections.evolve_replica_sets import add_step, put_replica_set, put_revision
from projections.state import Folds, State


def _begun(state: State, record: Record, event: DebugCopyBegun) -> None:
    revision = state.revisions[event.name, event.number]
    copied = CopiedDisk(event.of, event.version, event.source, event.image)
    put_revision(state, replace(revision, copied=copied))
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, debug_image=event.image))
    source = state.replica_sets[event.of]
    loan = Loan(event.version, event.name, record.operation_id, live=event.source == "container")
    put_replica_set(state, replace(source, loans=(*source.loans, loan)))


def _ended(state: State, record: Record, event: DebugCopyEnded) -> None:
    source = state.replica_sets[event.of]
    loans = tuple(loan for loan in source.loans if loan.to != event.name)
    put_replica_set(state, replace(source, loans=loans))


def _image_made(state: State, record: Record, event: DebugImageMade) -> None:
    revision = state.revisions[event.name, event.number]
    if revision.copied is not None:
        copied = replace(revision.copied, imaged=True)
        put_revision(state, replace(revision, copied=copied))
    container, size = versioned(event.name, event.number), show_size(event.size_bytes)
    add_step(state, record.operation_id, record.at_us, f"image of {container} made ({size})")


def _image_removed(state: State, record: Record, event: DebugImageRemoved) -> None:
    put_replica_set(state, replace(state.replica_sets[event.name], debug_image=""))
    container = versioned(event.name, event.number)
    add_step(state, record.operation_id, record.at_us, f"image of {container} removed")


FOLDS: Folds = {
    DebugCopyBegun: _begun,
    DebugCopyEnded: _ended,
    DebugImageMade: _image_made,
    DebugImageRemoved: _image_removed,
}
