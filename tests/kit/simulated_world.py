"""What a simulated Docker holds: images, containers, volumes and a clock that only counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from events.labels import LABEL_EFFECT, LABEL_OWNER
from service.ports import ObservedContainer

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The first instant of every simulated world."""


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


def same_origin(there: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Made by the same effect of the same owner?"""
    keys = (LABEL_OWNER, LABEL_EFFECT)
    return LABEL_OWNER in wanted and all(there.get(key) == wanted.get(key) for key in keys)
