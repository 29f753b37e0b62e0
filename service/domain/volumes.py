"""The rules for what callers ask of volumes."""

from events.values import show_size, versioned
from events.volumes import VolumeDeletionRequested, VolumeVersionDeclared
from projections.state import ReplicaSet, State, Volume
from service.domain.commands import CreateVolume, DeleteVolume, Envelope, ResizeVolume
from service.domain.guards import Decision, accepted, idle
from service.domain.reconcile_volumes import is_up
from service.domain.rejections import Reason, Rejected


def create(state: State, envelope: Envelope, command: CreateVolume) -> Decision:
    """A name that is free gets its first version (a later number, if it was there before)."""
    if (known := state.live_volume(command.name)) is not None:
        return Rejected(
            Reason.VOLUME_EXISTS,
            f"volume {command.name} exists as {versioned(command.name, known.current)};"
            " resize it, delete it, or take another name",
        )
    before = state.volumes.get(command.name)
    number = (before.newest if before else 0) + 1
    return (
        accepted(envelope, "create", command.name, "volume"),
        VolumeVersionDeclared(command.name, number, command.size_bytes, cause="create"),
    )


def resize(state: State, envelope: Envelope, command: ResizeVolume) -> Decision:
    """The next version has another size and the same data.

    Containers that use the volume stand still for it when it gets smaller, or when this host
    cannot grow a mounted file system.
    """
    found = _idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    if found.lost:
        return Rejected(
            Reason.VOLUME_NOT_FOUND,
            f"the disk of volume {command.name} was lost with its host, and could not be made"
            " again; delete the volume, or recover it",
        )
    size = next(v.size_bytes for v in found.versions if v.number == found.current)
    if size == command.size_bytes:
        return Rejected(Reason.SAME_SIZE, f"volume {command.name} has {show_size(size)} already")
    users: list[ReplicaSet] = []
    for name in sorted(state.volume_users.get(command.name, ())):
        # Busy is also who stands still for another of its volumes: one halts it at a time.
        user = idle(state, name)
        if isinstance(user, Rejected):
            return Rejected(
                Reason.VOLUME_BUSY,
                f"{name} uses volume {command.name}, and {user.message}",
            )
        users.append(user)
    running = any(is_up(state.revisions[user.name, user.current]) for user in users)
    grows = command.size_bytes > size
    facts = envelope.facts
    online = facts.volumes_grow_online if grows else facts.volumes_shrink_online
    return (
        accepted(envelope, "resize", command.name, "volume"),
        VolumeVersionDeclared(
            command.name,
            found.newest + 1,
            command.size_bytes,
            cause="resize",
            supersedes=found.current,
            halts_users=running and not online,
        ),
    )


def delete(state: State, envelope: Envelope, command: DeleteVolume) -> Decision:
    """Remove a volume that no replica set uses."""
    found = _idle(state, command.name)
    if isinstance(found, Rejected):
        return found
    if users := sorted(state.volume_users.get(command.name, ())):
        return Rejected(
            Reason.VOLUME_IN_USE,
            f"volume {command.name} is used by {', '.join(users)}; delete or patch that first",
        )
    return (
        accepted(envelope, "delete", command.name, "volume"),
        VolumeDeletionRequested(command.name),
    )


def _idle(state: State, name: str) -> Volume | Rejected:
    found = state.live_volume(name)
    if found is None:
        return Rejected(Reason.VOLUME_NOT_FOUND, f"there is no volume {name}")
    if found.operation is not None:
        return Rejected(
            Reason.OPERATION_IN_PROGRESS,
            f"volume {name} is being changed (operation {found.operation}); wait for its end",
        )
    return found
