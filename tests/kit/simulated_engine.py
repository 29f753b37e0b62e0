"""SimulatedEngine: a container engine in memory, for simulations and as the contract's twin.

Deterministic: ids and instants come from a counter, nothing takes time, and every call gives
way to the other tasks once, where the real one would wait for Docker.

What it knows of programs: `sleep` and everything unknown run until stopped; `true`, `false` and
`sh -c "exit N"` end at once; `echo`, `cat`, `rm` and `sh -c "echo TEXT > PATH"` do what they say;
NO_SUCH_COMMAND does not exist.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeVar

from events.labels import LABEL_OWNER
from service.errors import EngineRefused, EngineUnavailable
from service.ports import (
    LISTENING,
    EngineInfo,
    ExecOutcome,
    ImageInfo,
    ObservedContainer,
    Progress,
)
from tests.kit.simulated_changes import ChangeStream
from tests.kit.simulated_programs import missing_program, run_program
from tests.kit.simulated_world import (
    IMAGE_SIZE_BYTES,
    SimulatedContainer,
    SimulatedImage,
    World,
    name_taken,
    require_limits,
    same_origin,
)

T = TypeVar("T")

Faults = Callable[[str, str], str | None]
"""From (verb, name) to what goes wrong: "before" (no answer, nothing done), "after" (no answer,
done all the same), "refuse" (Docker says no), or None.

"changes" is asked once without a name, when it is opened, and then with each name that is to be
told: "late" (it comes LATE_S after), "again" (it comes twice), "behind" (after those that came
later), "ends" (in place of it the end, LATE_S after), all else (the stream breaks in place of
it)."""

UP = ("running", "paused")


def no_faults(_verb: str, _name: str) -> str | None:
    return None


class SimulatedEngine:
    """The port `ContainerEngine`. `down = True` is an engine that does not answer."""

    def __init__(self, world: World, *, owner: str, faults: Faults = no_faults) -> None:
        self.world = world
        self.faults = faults
        self._down = False
        self.info_body = EngineInfo(
            version="0.0-simulated",
            api_version="1.41",
            storage_driver="memory",
            root_dir="/var/lib/docker",
            cpus=8,
            memory_bytes=64 << 30,
            gpu_runtimes=("nvidia",),
            cdi_devices=(),
            local=False,
        )
        self._owner = owner

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        for stream in self.world.streams:
            if down and stream.listener is self:
                stream.break_off()

    async def close(self) -> None:
        self.down = True

    async def info(self) -> EngineInfo:
        return await self._call("info", "", lambda: self.info_body)

    async def ping(self) -> None:
        await self._call("ping", "", lambda: None)

    async def inspect_image(self, image: str) -> ImageInfo | None:
        return await self._call("inspect_image", image, lambda: self.world.image_info(image))

    async def pull_image(self, image: str, on_progress: Callable[[Progress], None]) -> ImageInfo:
        def do() -> ImageInfo:
            if image not in self.world.registry:
                words = f"image {image} cannot be fetched: manifest unknown"
                raise EngineRefused(words, "image_not_found")
            self.world.add_image(image)
            for done_bytes in (IMAGE_SIZE_BYTES // 2, IMAGE_SIZE_BYTES):
                on_progress(Progress(done_bytes, IMAGE_SIZE_BYTES))
            info = self.world.image_info(image)
            assert info is not None
            return info

        return await self._call("pull_image", image, do)

    async def refusal_of_pull(self, image: str) -> str | None:
        words = None if image in self.world.registry else "manifest unknown"
        return await self._call("refusal_of_pull", image, lambda: words)

    async def create_container(self, name: str, config: Mapping[str, Any]) -> str:
        return await self._call("create_container", name, lambda: self._create(name, config))

    async def start_container(self, name: str) -> str:
        return await self._call("start_container", name, lambda: self._start(name))

    async def stop_container(self, name: str, timeout_s: int) -> ObservedContainer | None:
        def do() -> ObservedContainer | None:
            container = self._ours_or_none(name)
            if container is None:
                return None
            if container.status in UP:
                # SIGTERM ends what an init forwards it to; a bare PID 1 waits for SIGKILL.
                self.world.end(container.name, 143 if container.host.get("Init") else 137)
            return container.observed()

        return await self._call("stop_container", name, do)

    async def remove_container(self, name: str) -> None:
        def do() -> None:
            if (container := self._ours_or_none(name)) is not None:
                self.world.remove(container.name)

        await self._call("remove_container", name, do)

    async def inspect_container(self, name: str) -> ObservedContainer | None:
        def do() -> ObservedContainer | None:
            container = self.world.find_container(name)
            return None if container is None else container.observed()

        return await self._call("inspect_container", name, do)

    async def list_containers(self, labels: Mapping[str, str]) -> tuple[ObservedContainer, ...]:
        return await self._call("list_containers", "", lambda: self.world.shown(labels))

    async def changes(self) -> AsyncGenerator[str, None]:
        stream = ChangeStream(self._owner, self)
        try:
            await self._call("changes", "", lambda: self.world.streams.append(stream))
            yield LISTENING
            while True:
                yield await stream.tell(self.faults)
        finally:
            if stream in self.world.streams:
                self.world.streams.remove(stream)

    async def update_container(self, name: str, resources: Mapping[str, Any]) -> None:
        def do() -> None:
            container = self._ours(name)
            require_limits(container.host, resources, self.info_body.cpus)
            container.config["HostConfig"] = {**container.host, **resources}

        await self._call("update_container", name, do)

    async def rename_container(self, name: str, new_name: str) -> None:
        def do() -> None:
            container = self._ours_or_none(name)
            if container is None:
                there = self.world.containers.get(new_name)
                if there is None or there.labels.get(LABEL_OWNER) != self._owner:
                    raise EngineRefused(f"No such container: {name}", "no_such_container")
            else:
                self.world.rename(container, new_name)

        await self._call("rename_container", name, do)

    async def commit_container(
        self, name: str, image: str, labels: Mapping[str, str], *, pause: bool
    ) -> ImageInfo:
        def do() -> ImageInfo:
            container = self._ours(name)
            below = self.world.layers_below(container)
            digest = self.world.digest("sha256:")
            made = SimulatedImage(
                id=digest,
                labels={**container.labels, **labels},
                env=container.env,
                cmd=container.cmd,
                files=dict(container.files),
                layers=(*below, digest),
            )
            self.world.name_image(image, made)
            info = self.world.image_info(image)
            assert info is not None
            return info

        return await self._call("commit_container", name, do)

    async def squash_image(self, image: str, base: str) -> ImageInfo:
        def do() -> ImageInfo:
            self.world.squash(image, base)
            info = self.world.image_info(image)
            assert info is not None
            return info

        return await self._call("squash_image", image, do)

    async def tag_image(self, image: str, name: str) -> ImageInfo:
        return await self._call("tag_image", name, lambda: self.world.tag_image(image, name))

    async def remove_image(self, image: str) -> None:
        await self._call("remove_image", image, lambda: self.world.remove_image(image))

    async def list_images(self, labels: Mapping[str, str]) -> tuple[ImageInfo, ...]:
        return await self._call("list_images", "", lambda: self.world.images_with(labels))

    async def execute(
        self, name: str, cmd: Sequence[str], work_dir: str, output_bytes_max: int
    ) -> ExecOutcome:
        def do() -> ExecOutcome:
            container = self._ours(name)
            if container.status != "running":
                raise EngineRefused(f"Container {container.id} is not running", "not_running")
            exit_code, stdout = run_program(cmd, container.files, container.environment())
            kept = stdout[:output_bytes_max]
            return ExecOutcome(exit_code or 0, kept, b"", len(stdout), 0)

        return await self._call("execute", name, do)

    async def create_volume(
        self, name: str, options: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        def do() -> None:
            there = self.world.volumes.setdefault(name, dict(labels))
            if not same_origin(there, labels):
                raise EngineRefused(f"volume {name} exists already", "name_taken")

        await self._call("create_volume", name, do)

    async def remove_volume(self, name: str) -> None:
        def do() -> None:
            if name not in self.world.volumes:
                return
            self._require_ours(self.world.volumes[name])
            for container in self.world.containers.values():
                if any(mount["Source"] == name for mount in container.host.get("Mounts") or ()):
                    raise EngineRefused(f"remove {name}: volume is in use", "volume_in_use")
            del self.world.volumes[name]

        await self._call("remove_volume", name, do)

    async def list_volumes(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        def do() -> tuple[str, ...]:
            every = self.world.volumes.items()
            return tuple(sorted(n for n, carried in every if labels.items() <= carried.items()))

        return await self._call("list_volumes", "", do)

    async def _call(self, verb: str, name: str, do: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        fault = self.faults(verb, name)
        if self.down or fault == "before":
            raise EngineUnavailable(f"no answer to {verb} {name}")
        if fault == "refuse":
            raise EngineRefused(f"{verb} {name} refused")
        answer = do()
        if fault == "after":
            raise EngineUnavailable(f"no answer to {verb} {name}")
        return answer

    def _create(self, name: str, config: Mapping[str, Any]) -> str:
        labels = config.get("Labels") or {}
        there = self.world.containers.get(name)
        if there is not None:
            if same_origin(there.labels, labels):
                return there.id
            raise name_taken(there)
        found = self.world.find_image(config["Image"])
        if found is None:
            raise EngineRefused(f"No such image: {config['Image']}", "image_not_found")
        image = found[1]
        container = SimulatedContainer(
            id=self.world.digest(),
            name=name,
            config=deepcopy({**config, "Labels": {**image.labels, **labels}}),
            image_id=image.id,
            cmd=tuple(config.get("Cmd") or image.cmd),
            env=(*image.env, *(config.get("Env") or ())),
            files=dict(image.files),
        )
        self.world.containers[name] = container
        return container.id

    def _start(self, name: str) -> str:
        container = self._ours(name)
        if container.status in UP:
            return container.started_at
        words = missing_program(container.cmd)
        if words is not None:
            raise self._not_started(container, words, "bad_command")
        try:
            self.world.require_ports(container)
        except EngineRefused as error:
            raise self._not_started(container, str(error), error.reason) from None
        if container.gpus() and not self.info_body.gpu_runtimes:
            text = 'could not select device driver "" with capabilities: [[gpu]]'
            raise self._not_started(container, text, "device_unavailable")
        self.world.begin(container)
        exit_code, _ = run_program(container.cmd, container.files, container.environment())
        if exit_code is not None:
            self.world.end(name, exit_code)
        return container.started_at

    @staticmethod
    def _not_started(container: SimulatedContainer, words: str, reason: str) -> EngineRefused:
        container.error, container.exit_code = words, 128
        return EngineRefused(words, reason)

    def _ours(self, name: str) -> SimulatedContainer:
        container = self._ours_or_none(name)
        if container is None:
            raise EngineRefused(f"No such container: {name}", "no_such_container")
        return container

    def _ours_or_none(self, name: str) -> SimulatedContainer | None:
        container = self.world.find_container(name)
        if container is not None:
            self._require_ours(container.labels)
        return container

    def _require_ours(self, labels: Mapping[str, str]) -> None:
        if labels.get(LABEL_OWNER) != self._owner:
            raise EngineRefused("made by another installation; left alone", "not_ours")
