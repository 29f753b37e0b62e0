"""OrphanWork: sees what is there in our name, and removes of it what is to go.

What is ours is said by a label or by its place: containers and volumes carry our owner, images of
kept system disks who keeps them, and kept directories and volume disks lie in folders of ours.
"""

from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from events.labels import LABEL_KEPT_BY, LABEL_NAME, LABEL_OWNER, LABEL_REVISION
from events.values import OrphanKind, is_name, split_versioned
from service.disk_ports import StoredDisk, SystemDisks, VolumeStore
from service.domain.effects import DropOrphan
from service.domain.orphan_commands import Thing
from service.domain.reconcile import SNAPSHOT_REPOSITORY, kept_of
from service.errors import EngineError, SystemDiskError, VolumeStoreError
from service.ports import ContainerEngine, ObservedContainer

CONTAINER_ID_LENGTH = 12
"""So much of a container's id tells it from all others, as in Docker's own lists."""


class Sight(Struct, frozen=True):
    """What was seen of ours."""

    things: tuple[Thing, ...]
    unseen: Mapping[OrphanKind, str]
    """The kinds that could not be looked at, and why."""


class OrphanWork:
    """`owner` is whose things are looked for. Nobody else's are ever touched."""

    def __init__(
        self, engine: ContainerEngine, volumes: VolumeStore, disks: SystemDisks, owner: str
    ) -> None:
        self._engine = engine
        self._volumes = volumes
        self._disks = disks
        self._owner = owner

    async def look(self) -> Sight:
        """All that is there of ours. What cannot be looked at is told, and raises nothing."""
        ways: Mapping[OrphanKind, Callable[[], Awaitable[tuple[Thing, ...]]]] = {
            "container": self._containers,
            "volume": self._engine_volumes,
            "image": self._images,
            "system_disk": self._kept,
            "volume_disk": self._volume_disks,
        }
        things: list[Thing] = []
        unseen: dict[OrphanKind, str] = {}
        for kind, way in ways.items():
            try:
                things += await way()
            except (EngineError, SystemDiskError, VolumeStoreError) as error:
                unseen[kind] = str(error)
        return Sight(tuple(things), unseen)

    async def drop(self, effect: DropOrphan) -> None:
        """Remove it, if it still is what was found; gone is done. Raises what the ports raise."""
        match effect.kind:
            case "container":
                there = await self._engine.inspect_container(effect.thing)
                if there is not None and there.id == effect.object_id:
                    await self._engine.remove_container(effect.thing)
            case "volume":
                await self._engine.remove_volume(effect.thing)
            case "image":
                image = await self._engine.inspect_image(effect.thing)
                if image is not None and image.id == effect.object_id:
                    await self._engine.remove_image(effect.thing)
            case "system_disk":
                await self._disks.remove(effect.thing)
            case "volume_disk":
                await self._volumes.remove(effect.thing)

    async def _containers(self) -> tuple[Thing, ...]:
        shown = await self._engine.list_containers({LABEL_OWNER: self._owner})
        return tuple(_container(one, self._owner) for one in shown)

    async def _engine_volumes(self) -> tuple[Thing, ...]:
        names = await self._engine.list_volumes({LABEL_OWNER: self._owner})
        return tuple(self._named("volume", n, *(split_versioned(n) or ("", 0))) for n in names)

    async def _images(self) -> tuple[Thing, ...]:
        shown = await self._engine.list_images({LABEL_KEPT_BY: self._owner})
        return tuple(
            Thing(
                id=f"image-{tag.removeprefix(SNAPSHOT_REPOSITORY).lstrip(':')}",
                kind="image",
                name=tag,
                owner=self._owner,
                object_id=image.id,
                of=kept_of(tag)[0],
                number=kept_of(tag)[1],
                size_bytes=image.size_bytes,
            )
            for image in shown
            # A caller's commit of a container that lies on one has another name.
            for tag in image.tags
            if tag.startswith(f"{SNAPSHOT_REPOSITORY}:")
        )

    async def _kept(self) -> tuple[Thing, ...]:
        kept = await self._disks.list_kept()
        return tuple(self._stored("system_disk", disk, *kept_of(disk.name)) for disk in kept)

    async def _volume_disks(self) -> tuple[Thing, ...]:
        disks = await self._volumes.list_disks()
        return tuple(
            self._stored("volume_disk", disk, disk.name, 0) for disk in disks if is_name(disk.name)
        )

    def _stored(self, kind: OrphanKind, disk: StoredDisk, of: str, number: int) -> Thing:
        return self._named(kind, disk.name, of, number, disk.size_bytes)

    def _named(
        self, kind: OrphanKind, name: str, of: str, number: int, size_bytes: int | None = None
    ) -> Thing:
        """One whose name nothing else of its kind can have."""
        return Thing(
            f"{kind}-{name}", kind, name, self._owner, of=of, number=number, size_bytes=size_bytes
        )


def _container(shown: ObservedContainer, owner: str) -> Thing:
    labels = shown.labels
    labelled = f"{labels.get(LABEL_NAME, '')}-{labels.get(LABEL_REVISION, '')}"
    of, number = split_versioned(labelled) or split_versioned(shown.name) or ("", 0)
    return Thing(
        id=f"container-{shown.id[:CONTAINER_ID_LENGTH]}",
        kind="container",
        name=shown.name,
        # As it says itself: that the engine was asked for ours is no proof.
        owner=labels.get(LABEL_OWNER, ""),
        object_id=shown.id,
        of=of,
        number=number,
    )
