"""SimulatedEngine: a container engine in memory, for simulations and as the contract's twin.

Deterministic: ids and instants come from a counter, nothing takes time, and every call gives
way to the other tasks once, where the real one would wait for Docker.

What it knows of programs: `sleep` and everything unknown run until stopped; `true`, `false` and
`sh -c "exit N"` end at once; `echo`, `cat`, `rm` and `sh -c "echo TEXT > PATH"` do what they say;
NO_SUCH_COMMAND does not exist.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from events.labels import LABEL_EFFECT, LABEL_OWNER
from service.errors import EngineRefused, EngineUnavailable
from service.ports import EngineInfo, ExecOutcome, ImageInfo, ObservedContainer, PullProgress
from tests.kit.simulated_programs import NO_SUCH_COMMAND, missing_program, run_program

Faults = Callable[[str, str], str | None]
"""From (verb, name) to what goes wrong: "before" (no answer, nothing done), "after" (no answer,
done all the same), "refuse" (Docker says no), or None."""

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MEMORY_BYTES_MIN = 6 << 20
IMAGE_SIZE_BYTES = 1 << 20


def no_faults(_verb: str, _name: str) -> str | None:
    return None


@dataclass
class SimulatedImage:
    id: str
    labels: dict[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ("PATH=/bin",)
    cmd: tuple[str, ...] = ("sh",)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class SimulatedContainer:
    id: str
    name: str
    config: dict[str, Any]
    image_id: str
    cmd: tuple[str, ...]
    env: tuple[str, ...]
    files: dict[str, bytes]
    """The system disk: all files, the image's included. Tests may write here."""
    status: str = "created"
    exit_code: int = 0
    error: str = ""
    started_at: str = ""
    finished_at: str = ""

    @property
    def labels(self) -> dict[str, str]:
        return self.config.get("Labels") or {}

    @property
    def host(self) -> dict[str, Any]:
        return self.config.get("HostConfig") or {}

    def host_ports(self) -> set[tuple[str, str]]:
        """(protocol, host port) of each published port."""
        bindings = self.host.get("PortBindings") or {}
        return {
            (port.partition("/")[2], binding["HostPort"])
            for port, targets in bindings.items()
            for binding in targets or ()
        }

    def gpus(self) -> tuple[str, ...]:
        """UUIDs of the GPUs asked for."""
        requests = self.host.get("DeviceRequests") or ()
        return tuple(gpu for request in requests for gpu in request.get("DeviceIDs") or ())

    def observed(self) -> ObservedContainer:
        return ObservedContainer(
            id=self.id,
            name=self.name,
            status=self.status,
            labels=dict(self.labels),
            exit_code=self.exit_code,
            error=self.error,
            started_at=self.started_at,
            finished_at=self.finished_at,
            image_id=self.image_id,
        )


class World:
    """What engines with different owners share: one Docker's images, containers, volumes."""

    def __init__(self, images: Sequence[str] = (), registry: Sequence[str] = ()) -> None:
        self._count = 0
        self.registry = set(registry)
        """Images that can be pulled."""
        self.containers: dict[str, SimulatedContainer] = {}
        self.volumes: dict[str, dict[str, str]] = {}
        """Labels by volume name."""
        self.images: dict[str, SimulatedImage] = {}
        for image in images:
            self.add_image(image)

    def add_image(self, image: str) -> SimulatedImage:
        return self.images.setdefault(image, SimulatedImage(id=self.digest("sha256:")))

    def digest(self, prefix: str = "") -> str:
        self._count += 1
        return prefix + sha256(str(self._count).encode()).hexdigest()

    def instant(self) -> str:
        """A later one with each call."""
        self._count += 1
        moment = EPOCH + timedelta(milliseconds=self._count)
        return moment.isoformat(timespec="microseconds").replace("+00:00", "000Z")

    def find_image(self, image: str) -> tuple[str, SimulatedImage] | None:
        """By name or by id; the name and the image."""
        for name, known in self.images.items():
            if image in (name, known.id):
                return name, known
        return None

    def end(self, name: str, exit_code: int) -> None:
        """The container's process ends, by itself or by a signal."""
        container = self.containers[name]
        container.status, container.exit_code = "exited", exit_code
        container.finished_at = self.instant()


class SimulatedEngine:
    """The port `ContainerEngine`. `down = True` is an engine that does not answer."""

    def __init__(self, world: World, *, owner: str, faults: Faults = no_faults) -> None:
        self.world = world
        self.faults = faults
        self.down = False
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

    async def close(self) -> None:
        self.down = True

    async def info(self) -> EngineInfo:
        return await self._call("info", "", lambda: self.info_body)

    async def ping(self) -> None:
        await self._call("ping", "", lambda: None)

    async def inspect_image(self, image: str) -> ImageInfo | None:
        return await self._call("inspect_image", image, lambda: self._image_info(image))

    async def pull_image(
        self, image: str, on_progress: Callable[[PullProgress], None]
    ) -> ImageInfo:
        def do() -> ImageInfo:
            if image not in self.world.registry:
                words = f"image {image} cannot be fetched: manifest unknown"
                raise EngineRefused(words, "image_not_found")
            self.world.add_image(image)
            for done_bytes in (IMAGE_SIZE_BYTES // 2, IMAGE_SIZE_BYTES):
                on_progress(PullProgress(done_bytes, IMAGE_SIZE_BYTES))
            info = self._image_info(image)
            assert info is not None
            return info

        return await self._call("pull_image", image, do)

    async def create_container(self, name: str, config: Mapping[str, Any]) -> str:
        return await self._call("create_container", name, lambda: self._create(name, config))

    async def start_container(self, name: str, effect_id: str | None = None) -> str:
        return await self._call("start_container", name, lambda: self._start(name, effect_id))

    async def stop_container(self, name: str, timeout_s: int) -> ObservedContainer | None:
        def do() -> ObservedContainer | None:
            container = self._ours_or_none(name)
            if container is None:
                return None
            if container.status == "running":
                # SIGTERM ends what an init forwards it to; a bare PID 1 waits for SIGKILL.
                self.world.end(name, 143 if container.host.get("Init") else 137)
            return container.observed()

        return await self._call("stop_container", name, do)

    async def remove_container(self, name: str) -> None:
        def do() -> None:
            if self._ours_or_none(name) is not None:
                del self.world.containers[name]

        await self._call("remove_container", name, do)

    async def inspect_container(self, name: str) -> ObservedContainer | None:
        def do() -> ObservedContainer | None:
            container = self.world.containers.get(name)
            return None if container is None else container.observed()

        return await self._call("inspect_container", name, do)

    async def list_containers(self, labels: Mapping[str, str]) -> tuple[ObservedContainer, ...]:
        def do() -> tuple[ObservedContainer, ...]:
            every = self.world.containers.values()
            return tuple(c.observed() for c in every if labels.items() <= c.labels.items())

        return await self._call("list_containers", "", do)

    async def update_container(self, name: str, resources: Mapping[str, Any]) -> None:
        def do() -> None:
            container = self._ours(name)
            if 0 < resources.get("Memory", 0) < MEMORY_BYTES_MIN:
                raise EngineRefused("Minimum memory limit allowed is 6MB", "bad_request")
            container.config["HostConfig"] = {**container.host, **resources}

        await self._call("update_container", name, do)

    async def commit_container(
        self, name: str, image: str, labels: Mapping[str, str], *, pause: bool
    ) -> ImageInfo:
        def do() -> ImageInfo:
            container = self._ours(name)
            self.world.images[image] = SimulatedImage(
                id=self.world.digest("sha256:"),
                labels={**container.labels, **labels},
                env=container.env,
                cmd=container.cmd,
                files=dict(container.files),
            )
            info = self._image_info(image)
            assert info is not None
            return info

        return await self._call("commit_container", name, do)

    async def remove_image(self, image: str) -> None:
        def do() -> None:
            found = self.world.find_image(image)
            if found is None:
                return
            known, seen = found
            if any(c.image_id == seen.id for c in self.world.containers.values()):
                raise EngineRefused(
                    f"conflict: a container is using its referenced image {known}", "image_in_use"
                )
            del self.world.images[known]

        await self._call("remove_image", image, do)

    async def execute(
        self, name: str, cmd: Sequence[str], work_dir: str, output_bytes_max: int
    ) -> ExecOutcome:
        def do() -> ExecOutcome:
            container = self._ours(name)
            if container.status != "running":
                raise EngineRefused(f"Container {container.id} is not running", "not_running")
            exit_code, stdout = run_program(cmd, container.files, self._environment(container))
            kept = stdout[:output_bytes_max]
            return ExecOutcome(exit_code or 0, kept, b"", len(stdout), 0)

        return await self._call("execute", name, do)

    async def create_volume(
        self, name: str, options: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        def do() -> None:
            there = self.world.volumes.setdefault(name, dict(labels))
            if not _same_origin(there, labels):
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

    async def _call[T](self, verb: str, name: str, do: Callable[[], T]) -> T:
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
