"""Performer: carries out one effect on the engine and the volume store.

It chooses nothing. Doing an effect again is doing it once: names, labels and what the engine
shows tell what was done before a crash. What the engine refuses is an outcome; what it did not
answer (EngineUnavailable) is left to the executor.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from events.labels import LABEL_EFFECT, LABEL_NAME, LABEL_NODE, LABEL_OWNER, LABEL_REVISION
from service.application.disk_work import DiskWork
from service.application.orphan_work import OrphanWork
from service.disk_ports import HostPaths, OnProgress, SystemDisks, VolumeStore
from service.domain.commands import Failed, Succeeded
from service.domain.effects import (
    CommitImage,
    CompactSnapshot,
    CreateContainer,
    DropOrphan,
    Effect,
    EnsureImage,
    Execute,
    FillDisk,
    MakeDebugImage,
    MakeVolume,
    PreCopyDisk,
    PutBackDisk,
    RemoveContainer,
    RemoveDebugImage,
    RemoveSnapshot,
    RemoveVolume,
    Settle,
    SizeVolume,
    StartContainer,
    StopContainer,
    TakeSnapshot,
    UpdateContainer,
)
from service.errors import (
    EngineRefused,
    EngineUnavailable,
    SystemDiskError,
    VolumeStoreError,
)
from service.ports import (
    NOT_EXECUTED,
    Clock,
    ContainerEngine,
    ExecOutcome,
    ObservedContainer,
)

OUTPUT_BYTES_MAX = 8 << 20
"""So much of a command's output is kept for its caller, of each stream."""

MESSAGE_LENGTH_MAX = 8192
"""So much of Docker's own words goes into the record; a record has a limit too."""

OUTPUTS_KEPT_MAX = 32
"""So many commands' outputs wait for their callers; the oldest goes first."""

class Performer:
    """The doing of effects. `outputs` holds what executed commands wrote, by operation id."""

    def __init__(
        self,
        engine: ContainerEngine,
        volumes: VolumeStore,
        disks: SystemDisks,
        paths: HostPaths,
        clock: Clock,
        *,
        owner: str,
        node: str,
        stop_timeout_s: int,
    ) -> None:
        self._engine = engine
        self._volumes = volumes
        self._paths = paths
        self._disk_work = DiskWork(engine, disks, clock, owner)
        self._orphan_work = OrphanWork(engine, volumes, disks, owner)
        self._clock = clock
        self._labels = {LABEL_OWNER: owner, LABEL_NODE: node}
        self._stop_timeout_s = stop_timeout_s
        self.outputs: OrderedDict[str, ExecOutcome] = OrderedDict()

    async def perform(self, effect: Effect, on_progress: OnProgress) -> Succeeded | Failed:
        """Do it and say what came of it. Raises EngineUnavailable."""
        try:
            return await self._perform(effect, on_progress)
        except (EngineRefused, VolumeStoreError, SystemDiskError) as error:
            return Failed(error.reason, str(error)[:MESSAGE_LENGTH_MAX])

    async def _perform(self, effect: Effect, on_progress: OnProgress) -> Succeeded | Failed:
        engine = self._engine
        match effect:
            case EnsureImage():
                return await self._ensure_image(effect, on_progress)
            case CreateContainer():
                return await self._create(effect)
            case StartContainer():
                return await self._start(effect)
            case StopContainer():
                return await self._stop(effect)
            case RemoveContainer():
                if (known_as := await self._known_as(effect)) is not None:
                    with _not_ours_is_gone():
                        await engine.remove_container(known_as)
                return Succeeded()
            case UpdateContainer():
                return await self._update(effect)
            case (
                TakeSnapshot()
                | RemoveSnapshot()
                | CompactSnapshot()
                | PreCopyDisk()
                | FillDisk()
                | PutBackDisk()
                | CommitImage()
                | MakeDebugImage()
                | RemoveDebugImage()
            ):
                return await self._disk_work.perform(effect, on_progress)
            case Execute():
                return await self._execute(effect)
            case MakeVolume() | SizeVolume() | RemoveVolume():
                return await self._volume(effect, on_progress)
            case DropOrphan():
                await self._orphan_work.drop(effect)
                return Succeeded()
            case Settle():
                return Succeeded()

    async def _ensure_image(self, effect: EnsureImage, on_progress: OnProgress) -> Succeeded:
        image = await self._engine.inspect_image(effect.image)
        if image is None:
            image = await self._engine.pull_image(effect.image, on_progress)
        return Succeeded({"image_id": image.id, "env": image.env, "cmd": image.cmd})

    async def _create(self, effect: CreateContainer) -> Succeeded | Failed:
        for mount in effect.config["HostConfig"]["Mounts"]:
            if mount["Type"] == "bind":
                # A link may have been turned since the command was accepted.
                why = await self._paths.refusal(mount["Source"], shared=False)
                if why is not None:
                    return Failed("host_path_refused", why)
        made = await self._engine.create_container(effect.container, effect.config)
        return Succeeded({"container_id": made})

    async def _update(self, effect: UpdateContainer) -> Succeeded:
        """The name first, as it is the lock; a refusal of the limits gives it back."""
        await self._engine.rename_container(effect.was, effect.container)
        if not effect.resources:
            return Succeeded()
        try:
            await self._engine.update_container(effect.container, effect.resources)
        except EngineRefused:
            await self._engine.rename_container(effect.container, effect.was)
            raise
        return Succeeded()

    async def _start(self, effect: StartContainer) -> Succeeded | Failed:
        seen = await self._engine.inspect_container(effect.container)
        if seen is not None and seen.started_at not in ("", effect.last_started_at):
            if seen.status == "exited" and seen.exit_code in NOT_EXECUTED:
                text = f"its command could not be executed (exit code {seen.exit_code})"
                return Failed("bad_command", text)
            return Succeeded({"started_at": seen.started_at})
        return Succeeded({"started_at": await self._engine.start_container(effect.container)})

    async def _stop(self, effect: StopContainer) -> Succeeded:
        seen: ObservedContainer | None = None
        if (known_as := await self._known_as(effect)) is not None:
            with _not_ours_is_gone():
                seen = await self._engine.stop_container(known_as, self._stop_timeout_s)
        if seen is None:
            return Succeeded({"exit_code": 0, "finished_at": ""})
        return Succeeded(
            {
                "exit_code": seen.exit_code,
                "finished_at": seen.finished_at,
                "started_at": seen.started_at,
            }
        )

    async def _known_as(self, effect: StopContainer | RemoveContainer) -> str | None:
        """What to call its container: by its name; by its id, if somebody renamed it, so that it
        is not taken for gone; None when another one has the name and it is not there."""
        named = await self._engine.inspect_container(effect.container)
        renamed = effect.container_id and (named is None or named.id != effect.container_id)
        if renamed and await self._engine.inspect_container(effect.container_id) is not None:
            return effect.container_id
        if named is None:
            return effect.container
        made_by = effect.made_by if isinstance(effect, RemoveContainer) else ""
        label, own = (LABEL_EFFECT, made_by) if made_by else (LABEL_NAME, effect.name)
        return effect.container if named.labels.get(label) == own else None

    async def _execute(self, effect: Execute) -> Succeeded | Failed:
        begun = self._clock.monotonic_s()
        try:
            outcome = await self._engine.execute(
                effect.container, effect.cmd, effect.work_dir, OUTPUT_BYTES_MAX
            )
        except EngineUnavailable as error:
            # Never a second time: it may have run.
            return Failed("unknown", f"whether the command ran to its end is not known: {error}")
        self.outputs[effect.operation_id] = outcome
        while len(self.outputs) > OUTPUTS_KEPT_MAX:
            self.outputs.popitem(last=False)
        return Succeeded(
            {
                "exit_code": outcome.exit_code,
                "duration_us": int((self._clock.monotonic_s() - begun) * 1_000_000),
                "stdout_bytes": outcome.stdout_bytes,
                "stderr_bytes": outcome.stderr_bytes,
            }
        )

    async def _volume(
        self, effect: MakeVolume | SizeVolume | RemoveVolume, on_progress: OnProgress
    ) -> Succeeded:
        if isinstance(effect, RemoveVolume):
            for volume in effect.volumes:
                with _not_ours_is_gone():
                    await self._engine.remove_volume(volume)
            if effect.with_disk:
                await self._volumes.remove(effect.name)
            return Succeeded()
        options = await self._volumes.create(effect.name, effect.size_bytes)
        labels = {
            **self._labels,
            LABEL_NAME: effect.name,
            LABEL_REVISION: str(effect.number),
            LABEL_EFFECT: effect.effect_id,
        }
        if not await self._is_left(effect, labels):
            await self._engine.create_volume(effect.volume, options, labels)
        if isinstance(effect, SizeVolume):
            # Last, so that an effect that fails leaves the size as it was.
            await self._volumes.resize(effect.name, effect.size_bytes, on_progress)
        return Succeeded()

    async def _is_left(self, effect: MakeVolume | SizeVolume, labels: dict[str, str]) -> bool:
        """Is the engine's volume there still, though its disk was lost? It leads to the new one."""
        if isinstance(effect, SizeVolume) or not effect.lost:
            return False
        same = {**self._labels, LABEL_NAME: effect.name, LABEL_REVISION: labels[LABEL_REVISION]}
        return effect.volume in await self._engine.list_volumes(same)


@contextmanager
def _not_ours_is_gone() -> Iterator[None]:
    """To take away what somebody else's thing has the name of by now: ours is not there."""
    try:
        yield
    except EngineRefused as error:
        if error.reason != "not_ours":
            raise
