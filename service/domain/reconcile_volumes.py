"""What is due for a volume: made, given another size, or removed, once nothing is in the way."""

from events.values import versioned
from projections.state import ReplicaSet, Revision, State, Volume
from service.domain.effects import Effect, MakeVolume, RemoveVolume, Settle, SizeVolume
from service.domain.reconcile_idle import bound_volumes, is_under_way, stands_still


def due_for_volume(state: State, name: str) -> Effect | None:
    """The one effect that is due on a volume's disk, or the end of its operation."""
    volume = state.volumes.get(name)
    if volume is None or volume.operation is None or not volume.current:
        return None
    version = next(v for v in volume.versions if v.number == volume.current)
    operation = state.operations.get(volume.operation)
    is_own = operation is not None and operation.kind == "volume"
    failed = volume.failure is not None and not version.made
    if failed and volume.lost and is_own and not volume.deleting:
        pass  # its disk may be there all the same, with its data: nothing is taken away
    elif volume.deleting or (failed and volume.previous is None):
        if not volume.removed:
            return None if _mounted(state, name) else _remove_volume(volume)
    elif failed and not volume.removed:
        return _remove_version(volume)
    elif not version.made and not failed:
        if volume.previous is None:
            # The data disk of a run was made once already in its operation.
            again = f"-{volume.losses}" if volume.lost and not is_own else ""
            return MakeVolume(
                f"{volume.operation}/make-{versioned(name, version.number)}{again}",
                volume.operation,
                name,
                version.number,
                volume=versioned(name, version.number),
                size_bytes=version.size_bytes,
                lost=volume.lost,
            )
        if volume.halts_users and any(is_up(user) for _, user in _users(state, name)):
            return None
        return SizeVolume(
            f"{volume.operation}/size-{versioned(name, version.number)}",
            volume.operation,
            name,
            version.number,
            volume=versioned(name, version.number),
            size_bytes=version.size_bytes,
        )
    elif _halted_users(state, name):
        return None
    if not is_own:
        return None
    return Settle(
        f"{volume.operation}/settle", volume.operation, name, volume.current, kind="volume"
    )


def lost_volume(state: State, revision: Revision) -> str | None:
    """A volume of it that was lost with its host and could not be made again; None if none is."""
    for volume in bound_volumes(state, revision):
        if volume.lost and volume.operation is None:
            return volume.name
    return None


def data_disk_made(state: State, replica_set: ReplicaSet, revision: Revision) -> bool:
    """Is the data disk there that its operation makes for it, also after it was lost?"""
    volume = state.volumes.get(revision.data_volume or "")
    if volume is None or volume.operation is None or volume.operation != replica_set.operation:
        return True
    return any(version.made for version in volume.versions if version.number == volume.current)


def volumes_busy(state: State, revision: Revision) -> bool:
    """Is one of its volumes being changed? What it binds may then get another name."""
    return any(volume.operation is not None for volume in bound_volumes(state, revision))


def _remove_volume(volume: Volume) -> Effect:
    return RemoveVolume(
        f"{volume.operation}/remove-{volume.name}",
        volume.operation or "",
        volume.name,
        volume.current,
        volumes=tuple(
            versioned(volume.name, v.number)
            for v in volume.versions
            if v.made or v.number == volume.current
        ),
        with_disk=True,
    )


def _remove_version(volume: Volume) -> Effect:
    """The engine's name of a version that will not be; the disk stays as it is."""
    version = versioned(volume.name, volume.current)
    return RemoveVolume(
        f"{volume.operation}/remove-{version}",
        volume.operation or "",
        volume.name,
        volume.current,
        volumes=(version,),
        with_disk=False,
    )


def _users(state: State, volume: str) -> list[tuple[ReplicaSet, Revision]]:
    sets = [state.replica_sets[name] for name in sorted(state.volume_users.get(volume, ()))]
    return [(s, state.revisions[s.name, s.current]) for s in sets if s.current]


def is_up(revision: Revision) -> bool:
    """Does its container run, or may it, as it is being started or stopped?"""
    return revision.container == "running" or is_under_way(revision)


def _halted_users(state: State, volume: str) -> bool:
    return any(stands_still(*user) for user in _users(state, volume))


def _mounted(state: State, volume: str) -> bool:
    return any(
        revision.container in ("created", "running", "exited")
        for _, revision in _users(state, volume)
    )
