"""The fold of what was decided about volumes and their versions."""

from msgspec.structs import replace

from events.record import Record
from events.volumes import (
    VolumeDeleted,
    VolumeDeletionRequested,
    VolumeVersionAbandoned,
    VolumeVersionDeclared,
)
from projections.state import Folds, State, Volume, VolumeVersion


def put_volume(state: State, volume: Volume) -> None:
    """Store a changed volume."""
    state.volumes[volume.name] = volume
    state.touched.add(("volumes", volume.name, 0))


def _declared(state: State, record: Record, event: VolumeVersionDeclared) -> None:
    known = state.volumes.get(event.name) or Volume(name=event.name)
    version = VolumeVersion(event.number, event.size_bytes, event.cause, record.at_us)
    put_volume(
        state,
        replace(
            known,
            current=event.number,
            previous=event.supersedes,
            newest=event.number,
            deleting=False,
            removed=False,
            deleted=False,
            halts_users=event.halts_users,
            operation=record.operation_id or None,
            versions=(*known.versions, version),
            tenant=record.tenant if event.supersedes is None else known.tenant,
            lost=False,
        ),
    )


def _abandoned(state: State, record: Record, event: VolumeVersionAbandoned) -> None:
    known = state.volumes[event.name]
    put_volume(
        state,
        replace(
            known,
            current=event.back_to,
            previous=None,
            newest=event.number - 1,
            deleting=False,
            removed=False,
            deleted=event.back_to == 0,
            halts_users=False,
            versions=tuple(v for v in known.versions if v.number != event.number),
        ),
    )


def _deletion_requested(state: State, record: Record, event: VolumeDeletionRequested) -> None:
    known = state.volumes[event.name]
    put_volume(
        state, replace(known, deleting=True, operation=record.operation_id or known.operation)
    )


def _deleted(state: State, record: Record, event: VolumeDeleted) -> None:
    known = state.volumes[event.name]
    put_volume(
        state,
        replace(
            known,
            versions=tuple(replace(version, made=False) for version in known.versions),
            current=0,
            previous=None,
            deleting=False,
            removed=False,
            deleted=True,
        ),
    )


FOLDS: Folds = {
    VolumeVersionDeclared: _declared,
    VolumeVersionAbandoned: _abandoned,
    VolumeDeletionRequested: _deletion_requested,
    VolumeDeleted: _deleted,
}
