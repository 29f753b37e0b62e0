"""The fold of what was lost with a host, and is made again."""

from msgspec.structs import replace

from events.record import Record
from events.recovery import ContainerLost, RecoveryBegun, VolumeLost
from events.values import versioned
from projections.evolve_replica_sets import add_step, put_replica_set, put_revision
from projections.evolve_volumes import put_volume
from projections.state import Folds, State


def _container_lost(state: State, record: Record, event: ContainerLost) -> None:
    revision = state.revisions[event.name, event.revision]
    is_kept = revision.snapshot is not None
    put_revision(
        state,
        replace(
            revision,
            container="removed",
            lost=event.phase,
            gone="" if is_kept else "it was lost with its host",
            pinned=revision.pinned and is_kept,
            stray=False,
            retrying=0,
            remake=False,
            gpu_access_lost_us=0,
            seen_seq=state.seq,
        ),
    )
    put_replica_set(state, replace(state.replica_sets[event.name], retry=0, retry_due_us=0))


def _begun(state: State, record: Record, event: RecoveryBegun) -> None:
    revision = state.revisions[event.name, event.revision]
    put_revision(
        state,
        replace(
            revision,
            container="absent",
            container_id="",
            gpus=event.gpus,
            ports=event.ports,
            gpu_runtime=event.gpu_runtime,
            disk_from=event.disk_from,
            image_id=event.image_id,
            started_at="",
            exit_code=None,
            oom_killed=False,
            finished_at="",
            ended_alone=False,
            ended_with_engine=False,
            refused=0,
            seen_seq=state.seq,
            # Its effects are others than those that made the container before.
            attempt=revision.attempt + 1,
            filled=False,
            precopied=False,
            in_place=False,
            made_as=0,
            gone="",
            copied=None,  # what a debug copy was made of went too
        ),
    )
    known = state.replica_sets[event.name]
    put_replica_set(state, replace(known, phase=event.phase))
    previous = state.revisions.get((event.name, known.previous or 0))
    if previous is not None and previous.continued_as == event.revision:
        # Its container had just become this one's. If this fails, it is what is gone back to.
        put_revision(state, replace(previous, continued_as=None, lost=event.phase))
    container = versioned(event.name, event.revision)
    add_step(state, record.operation_id, record.at_us, f"{container} is to be made again")


def _volume_lost(state: State, record: Record, event: VolumeLost) -> None:
    known = state.volumes[event.name]
    versions = tuple(
        replace(version, made=False) if version.number == event.number else version
        for version in known.versions
    )
    put_volume(
        state,
        replace(
            known,
            versions=versions,
            previous=None,
            operation=known.operation or record.operation_id or None,
            lost=True,
            losses=known.losses + 1,
        ),
    )
    if event.empty:
        gone = f"the data of volume {event.name} is gone"
        add_step(state, record.operation_id, record.at_us, gone)


FOLDS: Folds = {
    ContainerLost: _container_lost,
    RecoveryBegun: _begun,
    VolumeLost: _volume_lost,
}
