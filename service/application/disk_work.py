"""DiskWork: carries out the effects on system disks, as directories or as images.

Part of the performer, with the same rules: it chooses nothing, and doing an effect again is doing
it once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from events.labels import (
    LABEL_DEBUG_OF,
    LABEL_EFFECT,
    LABEL_KEPT_BY,
    LABEL_NAME,
    LABEL_NODE,
    LABEL_OWNER,
    LABEL_REVISION,
)
from events.values import show_size
from service.disk_ports import OnProgress, SystemDisks
from service.domain.commands import Succeeded
from service.domain.effects import (
    CommitImage,
    CompactSnapshot,
    FillDisk,
    MakeDebugImage,
    PreCopyDisk,
    PutBackDisk,
    RemoveDebugImage,
    RemoveSnapshot,
    TakeSnapshot,
)
from service.errors import EngineRefused, SystemDiskError, SystemDiskFull
from service.ports import Clock, ContainerEngine, ImageInfo, ObservedContainer, Progress

log = logging.getLogger(__name__)

LABELS = (LABEL_OWNER, LABEL_NODE, LABEL_NAME, LABEL_REVISION, LABEL_EFFECT, LABEL_KEPT_BY)

LAYERS_MAX = 100
"""An image of more layers is squashed. The engine ends at 125 (moby 20298), and a caller may put
commits of his own on top."""

FREE_BYTES_LEFT = 256 << 20
"""So much must stay free on the engine's disk when an image is saved; a full one stops all."""

LOOK_EVERY_S = 0.5

STOP_TIMEOUT_S = 10
"""For a container that is not to run while its system disk is moved."""

DiskEffect = (
    TakeSnapshot
    | RemoveSnapshot
    | CompactSnapshot
    | PreCopyDisk
    | FillDisk
    | PutBackDisk
    | CommitImage
    | MakeDebugImage
    | RemoveDebugImage
)


class DiskWork:
    """The doing of effects on system disks. Raises what the engine and the disks raise."""

    def __init__(
        self, engine: ContainerEngine, disks: SystemDisks, clock: Clock, owner: str
    ) -> None:
        self._engine = engine
        self._disks = disks
        self._clock = clock
        self._owner = owner

    async def perform(self, effect: DiskEffect, on_progress: OnProgress) -> Succeeded:
        """Do it; what the matching event wants to know."""
        match effect:
            case TakeSnapshot(carry="upper"):
                # Were it running, a keep whose reply was lost would be refused, and its disk lost.
                await self._still(effect.container)
                size = await self._disks.keep(effect.container, effect.image)
                return Succeeded({"size_bytes": size, "squashed": False})
            case TakeSnapshot():
                return await self._keep_as_image(effect, on_progress)
            case RemoveSnapshot(carry="upper"):
                await self._disks.remove(effect.image)
            case RemoveSnapshot():
                await self._engine.remove_image(effect.image)
            case CompactSnapshot():
                return await self._compact(effect)
            case PreCopyDisk():
                return await self._copy_ahead(effect, on_progress)
            case FillDisk():
                await self._disks.fill(effect.container, effect.image, on_progress)
            case PutBackDisk():
                return await self._put_back(effect)
            case CommitImage():
                return await self._save(effect, on_progress)
            case MakeDebugImage():
                return await self._name_or_commit(effect, on_progress)
            case RemoveDebugImage():
                await self._engine.remove_image(effect.image)
        return Succeeded()

    async def _put_back(self, effect: PutBackDisk) -> Succeeded:
        """Somebody else may have removed the container meanwhile: also right after its disk was
        put back, when nobody had heard of that yet."""
        still = await self._still(effect.container)
        if still is not None:
            await self._disks.put_back(effect.image, effect.container)
            return Succeeded({"gone": False, "lost": False, "started_at": still.started_at})
        lost = not await self._disks.is_kept(effect.image)
        return Succeeded({"gone": True, "lost": lost})

    async def _still(self, container: str) -> ObservedContainer | None:
        """Stop it, if somebody else started it meanwhile; None when it is not there."""
        try:
            return await self._engine.stop_container(container, STOP_TIMEOUT_S)
        except EngineRefused as error:
            if error.reason != "not_ours":
                raise
            return None

    async def _keep_as_image(self, effect: TakeSnapshot, on_progress: OnProgress) -> Succeeded:
        # A commit goes on in the daemon when its client dies: look before doing it again.
        found = await self._engine.inspect_image(effect.image)
        image = found or await self._commit(
            effect.container, effect.image, on_progress, kept_by=self._owner, pause=False
        )
        squashed, deep = False, image.layers > LAYERS_MAX
        begun = found is not None and await self._may_be_squashed(found, effect.squash_onto)
        if effect.squash_onto and (deep or begun):
            try:
                image = await self._engine.squash_image(effect.image, effect.squash_onto)
                squashed = deep
            except EngineRefused as error:
                # The disk is kept all the same; the next patch tries again, up to the limit.
                log.warning("%s has %d layers: %s", effect.image, image.layers, error)
        return Succeeded({"size_bytes": image.size_bytes, "squashed": squashed})

    async def _may_be_squashed(self, found: ImageInfo, onto: str) -> bool:
        """Was an image made one layer before a crash? Then to squash it again removes the old."""
        base = await self._engine.inspect_image(onto) if onto else None
        return base is not None and found.layers <= base.layers + 1

    async def _save(self, effect: CommitImage, on_progress: OnProgress) -> Succeeded:
        # The name is the caller's: an image that has it may be another. One that this effect made
        # before a crash would lose its name to a second one, and stay for ever.
        image = await self._engine.inspect_image(effect.image)
        if image is None or image.labels.get(LABEL_EFFECT) != effect.effect_id:
            image = await self._commit(
                effect.container,
                effect.image,
                on_progress,
                pause=effect.pause,
                made_by=effect.effect_id,
            )
        return Succeeded({"image_id": image.id, "size_bytes": image.size_bytes})

    async def _name_or_commit(
        self, effect: MakeDebugImage, on_progress: OnProgress
    ) -> Succeeded:
        image = await self._engine.inspect_image(effect.image)
        if image is None and effect.live:
            image = await self._commit(
                effect.source, effect.image, on_progress, kept_by=self._owner, pause=effect.pause
            )
        elif image is None:
            image = await self._engine.tag_image(effect.source, effect.image)
        return Succeeded({"size_bytes": image.size_bytes})

    async def _commit(
        self,
        container: str,
        image: str,
        on_progress: OnProgress,
        *,
        pause: bool,
        made_by: str = "",
        kept_by: str = "",
    ) -> ImageInfo:
        # A commit bakes the container's labels into the image, and cannot drop them: emptied,
        # they claim nothing for whoever starts a container from it.
        labels = {**dict.fromkeys(LABELS, ""), LABEL_EFFECT: made_by, LABEL_KEPT_BY: kept_by}
        seen = await self._engine.inspect_container(container)
        if seen is not None and LABEL_DEBUG_OF in seen.labels:
            labels[LABEL_DEBUG_OF] = ""
        async with self._watched(container, on_progress):
            return await self._engine.commit_container(container, image, labels, pause=pause)

    @asynccontextmanager
    async def _watched(self, container: str, on_progress: OnProgress) -> AsyncIterator[None]:
        """Report how far a commit is, and refuse one that the disk cannot hold.

        The engine says nothing while it commits: what the disk has less by then is what it has
        written. Where that cannot be seen (a remote engine), nothing is reported.
        """
        size, free = await self._size(container), await self._disks.free_bytes()
        if size is None or free is None:
            yield
            return
        if size + FREE_BYTES_LEFT > free:
            raise SystemDiskFull(
                f"the engine's disk has {show_size(free)} left, too little for an image of the"
                f" {show_size(size)} that {container} has changed; make room, or remove images"
            )
        watching = asyncio.create_task(self._watch(size, free, on_progress))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, size: int, free_before: int, on_progress: OnProgress) -> None:
        done = 0
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            free = await self._disks.free_bytes()
            done = max(done, min(size, free_before - (free or free_before)))
            on_progress(Progress(done, size))

    async def _size(self, container: str) -> int | None:
        try:
            return await self._disks.size(container)
        except SystemDiskError:
            return None  # its layer is no directory that we can see

    async def _copy_ahead(self, effect: PreCopyDisk, on_progress: OnProgress) -> Succeeded:
        """A failure only costs time: all is copied then once the container stands still.

        But a disk that cannot hold the copy is told now, while the container still runs.
        """
        size, message = 0, ""
        try:
            size = await self._disks.precopy(
                effect.source, effect.container, effect.least_bytes, on_progress
            )
        except SystemDiskFull:
            raise
        except SystemDiskError as error:
            message = str(error)
        return Succeeded({"size_bytes": size, "message": message})

    async def _compact(self, effect: CompactSnapshot) -> Succeeded:
        """A failure only costs space, and is told in the record."""
        saved, message = 0, ""
        try:
            saved = await self._disks.compact(effect.image, effect.other)
        except SystemDiskError as error:
            message = str(error)
        return Succeeded({"saved_bytes": saved, "message": message})
