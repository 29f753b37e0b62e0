"""What a simulated Docker holds: images, containers, volumes and a clock that only counts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from events.labels import LABEL_EFFECT, LABEL_OWNER
from service.errors import EngineRefused
from service.ports import ImageInfo, ObservedContainer
from tests.kit.simulated_changes import ChangeStream

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The first instant of every simulated world."""

BEGIN = EPOCH - datetime(1970, 1, 1, tzinfo=UTC)

LAYERS_MAX = 125
"""As many as Docker's own store takes, the base's included (Docker 20.10 and 26.1)."""

IMAGE_SIZE_BYTES = 1 << 20
MEMORY_BYTES_MIN = 6 << 20


@dataclass
class SimulatedImage:
    id: str
    labels: dict[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ("PATH=/bin",)
    cmd: tuple[str, ...] = ("sh",)
    files: dict[str, bytes] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    """The digests of its layers, the lowest first."""


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
    oom_killed: bool = False
    gpu_access: bool = True
    """The kernel lets it at its GPUs. Tests take it away; the next start gives it back."""

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

    @property
    def owner(self) -> str:
        """Whose it is."""
        return str(self.labels.get(LABEL_OWNER, ""))

    @property
    def has_devices(self) -> bool:
        """Was it made with GPUs, or other devices?"""
        return bool(self.gpus() or self.host.get("Devices"))

    def gpus(self) -> tuple[str, ...]:
        """UUIDs of the GPUs asked for."""
        requests = self.host.get("DeviceRequests") or ()
        return tuple(gpu for request in requests for gpu in request.get("DeviceIDs") or ())

    def environment(self) -> dict[str, str]:
        """Of what runs in it."""
        environment = dict(entry.partition("=")[::2] for entry in self.env)
        if self.gpus():
            environment["NVIDIA_VISIBLE_DEVICES"] = ",".join(self.gpus())
        return environment

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
            oom_killed=self.oom_killed,
        )


class World:
    """What engines with different owners share: one Docker's images, containers, volumes."""

    def __init__(self, images: Sequence[str] = (), registry: Sequence[str] = ()) -> None:
        self._count = 0
        self._age = timedelta()
        self.now_us: Callable[[], int] | None = None
        """The clock of a simulation; without one it only counts."""
        self.registry = set(registry)
        """Images that can be pulled."""
        self.containers: dict[str, SimulatedContainer] = {}
        self.volumes: dict[str, dict[str, str]] = {}
        """Labels by volume name."""
        self.images: dict[str, SimulatedImage] = {}
        self.streams: list[ChangeStream] = []
        self.listeners: set[int] = set()
        """Host ports on which other processes listen."""
        for image in images:
            self.add_image(image)

    def changed(self, container: SimulatedContainer, *names: str) -> None:
        """Tell it: something happened to a container of these names, or of its own."""
        for stream in self.streams:
            if container.labels.get(LABEL_OWNER) == stream.owner:
                stream.add(names or (container.name,))

    def add_image(self, image: str) -> SimulatedImage:
        digest = self.digest("sha256:")
        return self.images.setdefault(image, SimulatedImage(id=digest, layers=(digest,)))

    def name_image(self, name: str, image: SimulatedImage) -> None:
        """Give an image a name. What had it stays without one (as its id)."""
        before = self.images.get(name)
        self.images[name] = image
        if before is not None:
            self.images[before.id] = before

    def names_of(self, image: SimulatedImage) -> tuple[str, ...]:
        """All names of an image, in order; not its id."""
        named = (name for name, known in self.images.items() if known.id == image.id)
        return tuple(sorted(name for name in named if name != image.id))

    def tag_image(self, image: str, name: str) -> ImageInfo:
        """Give an image another name. Raises EngineRefused when there is no such image."""
        found = self.find_image(image)
        if found is None:
            raise EngineRefused(f"No such image: {image}", "image_not_found")
        if self.images.get(name) != found[1]:
            self.name_image(name, found[1])
        info = self.image_info(name)
        assert info is not None
        return info

    def remove_image(self, image: str) -> None:
        """Take away a name of an image, and with the last one the image. Raises EngineRefused."""
        found = self.find_image(image)
        if found is None:
            return
        known, seen = found
        used = any(container.image_id == seen.id for container in self.containers.values())
        if used and len(self.names_of(seen)) <= 1:
            words = f"conflict: a container is using its referenced image {known}"
            raise EngineRefused(words, "image_in_use")
        del self.images[known]

    def digest(self, prefix: str = "") -> str:
        self._count += 1
        return prefix + sha256(str(self._count).encode()).hexdigest()

    def instant(self) -> str:
        """A later one with each call; now, where there is a clock."""
        now = timedelta() if self.now_us is None else timedelta(microseconds=self.now_us()) - BEGIN
        self._age = max(self._age + timedelta(milliseconds=1), now)
        moment = EPOCH + self._age
        return moment.isoformat(timespec="microseconds").replace("+00:00", "000Z")

    def find_image(self, image: str) -> tuple[str, SimulatedImage] | None:
        """By name or by id; the name and the image."""
        for name, known in self.images.items():
            if image in (name, known.id):
                return name, known
        return None

    def image_info(self, image: str) -> ImageInfo | None:
        """By name or by id."""
        found = self.find_image(image)
        if found is None:
            return None
        seen = found[1]
        return ImageInfo(
            id=seen.id,
            tags=self.names_of(seen),
            size_bytes=IMAGE_SIZE_BYTES,
            env=seen.env,
            labels=dict(seen.labels),
            cmd=seen.cmd,
            layers=len(seen.layers),
        )

    def layers_below(self, container: SimulatedContainer) -> tuple[str, ...]:
        """Those of its image, with room for another. Raises EngineRefused."""
        found = self.find_image(container.image_id)
        layers = found[1].layers if found else ()
        if len(layers) >= LAYERS_MAX:
            raise EngineRefused("max depth exceeded", "layer_limit")
        return layers

    def squash(self, image: str, base: str) -> None:
        """Make one layer of those above `base`. Raises EngineRefused."""
        found, below = self.find_image(image), self.find_image(base)
        if found is None or below is None:
            raise EngineRefused(f"No such image: {base if found else image}", "image_not_found")
        name, seen = found
        shared = below[1].layers
        if seen.layers[: len(shared)] != shared:
            raise EngineRefused(f"image {image} does not lie on image {base}", "bad_request")
        if len(seen.layers) > len(shared) + 1:
            digest = self.digest("sha256:")
            self.name_image(name, replace(seen, id=digest, layers=(*shared, digest)))
            if all(container.image_id != seen.id for container in self.containers.values()):
                del self.images[seen.id]

    def find_container(self, name: str) -> SimulatedContainer | None:
        """By its name or its id."""
        by_id = (one for one in self.containers.values() if one.id == name)
        return self.containers.get(name) or next(by_id, None)

    def rename(self, container: SimulatedContainer, new_name: str) -> None:
        """Raises EngineRefused when another container has the name."""
        there = self.containers.get(new_name)
        if there is not None and there is not container:
            raise name_taken(there)
        old_name = container.name
        del self.containers[old_name]
        container.name = new_name
        self.containers[new_name] = container
        self.changed(container, old_name, new_name)

    def images_with(self, labels: Mapping[str, str]) -> tuple[ImageInfo, ...]:
        """All images that carry all these labels."""
        ids = dict.fromkeys(self.images[name].id for name in sorted(self.images))
        infos = [self.image_info(image_id) for image_id in ids]
        return tuple(i for i in infos if i is not None and labels.items() <= i.labels.items())

    def require_ports(self, container: SimulatedContainer) -> None:
        """Raise EngineRefused, as Docker does, when it cannot have one of its host ports."""
        for _, port in sorted(container.host_ports()):
            if int(port) in self.listeners:
                words = f"listen tcp4 0.0.0.0:{port}: bind: address already in use"
                raise EngineRefused(f"Error starting userland proxy: {words}", "port_taken")
        for other in self.containers.values():
            shared = container.host_ports() & other.host_ports()
            if other.status == "running" and shared:
                port = min(shared)[1]
                words = f"Bind for 0.0.0.0:{port} failed: port is already allocated"
                raise EngineRefused(words, "port_taken")

    def begin(self, container: SimulatedContainer) -> None:
        """The container's process begins."""
        container.status, container.error, container.exit_code = "running", "", 0
        container.started_at = self.instant()
        container.gpu_access = True
        self.changed(container)

    def end(self, name: str, exit_code: int, *, oom_killed: bool = False) -> None:
        """The container's process ends, by itself, by a signal or for want of memory."""
        container = self.containers[name]
        container.status, container.exit_code = "exited", exit_code
        container.oom_killed = oom_killed
        container.finished_at = self.instant()
        self.changed(container)

    def shown(self, labels: Mapping[str, str]) -> tuple[ObservedContainer, ...]:
        """All containers that carry all these labels."""
        every = self.containers.values()
        return tuple(c.observed() for c in every if labels.items() <= c.labels.items())

    def pause(self, name: str, *, paused: bool = True) -> None:
        """Freeze a running container, or let a frozen one go on."""
        container = self.containers[name]
        container.status = "paused" if paused else "running"
        self.changed(container)

    def remove(self, name: str) -> None:
        """Whatever it was doing."""
        self.changed(self.containers.pop(name))


def same_origin(there: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Made by the same effect of the same owner?"""
    keys = (LABEL_OWNER, LABEL_EFFECT)
    return LABEL_OWNER in wanted and all(there.get(key) == wanted.get(key) for key in keys)


def name_taken(there: SimulatedContainer) -> EngineRefused:
    """What Docker says to a second container of a name."""
    words = f'Conflict. The container name "/{there.name}" is already in use by container'
    return EngineRefused(f'{words} "{there.id}".', "name_taken")


def require_limits(host: Mapping[str, Any], wanted: Mapping[str, Any], cpus: int) -> None:
    """Raise EngineRefused, as Docker does, when limits cannot become `wanted`."""
    memory = wanted.get("Memory", 0)
    if memory and memory < MEMORY_BYTES_MIN:
        raise EngineRefused("Minimum memory limit allowed is 6MB", "bad_request")
    if 0 < wanted.get("MemorySwap", host.get("MemorySwap", 0)) < memory:
        words = "Memory limit should be smaller than already set memoryswap limit"
        raise EngineRefused(f"{words}, update the memoryswap at the same time", "conflict")
    if not 0 <= wanted.get("NanoCpus", 0) <= cpus * 10**9:
        words = f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        raise EngineRefused(words, "bad_request")
