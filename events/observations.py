"""Facts observed: what became of containers without anybody asking the service for it."""

from msgspec import Struct

from events.values import PortBinding


class ContainerExited(
    Struct, frozen=True, tag_field="type", tag="container.exited.v1", omit_defaults=True
):
    """The container of a revision was found ended, by itself or by somebody else's doing."""

    name: str
    revision: int
    exit_code: int
    finished_at: str
    """RFC 3339, Docker's clock."""
    oom_killed: bool = False
    with_engine: bool = False
    """It ended because the engine did, or its host: it is to go on as soon as that is back."""
    started_at: str = ""
    """Since when it had run, when somebody else had started it since its last recorded start."""


class ContainerVanished(
    Struct, frozen=True, tag_field="type", tag="container.vanished.v1", omit_defaults=True
):
    """The container of a revision was found gone: somebody removed it, and its system disk."""

    name: str
    revision: int


class ContainerFoundRunning(
    Struct, frozen=True, tag_field="type", tag="container.found_running.v1", omit_defaults=True
):
    """The container of a revision was found running: somebody else started it again."""

    name: str
    revision: int
    started_at: str
    """RFC 3339, Docker's clock."""


class GpuAccessLost(
    Struct, frozen=True, tag_field="type", tag="container.gpu_access_lost.v1", omit_defaults=True
):
    """The container of a revision runs, and the kernel does not let it open its GPUs any more."""

    name: str
    revision: int
    message: str = ""
    """What was tried, and what the kernel said; for people."""


class GpuAccessRestored(
    Struct,
    frozen=True,
    tag_field="type",
    tag="container.gpu_access_restored.v1",
    omit_defaults=True,
):
    """The container of a revision may open its GPUs again, without having been started anew."""

    name: str
    revision: int


class RetryScheduled(
    Struct, frozen=True, tag_field="type", tag="replica_set.retry_scheduled.v1", omit_defaults=True
):
    """A container that ended, or lost its GPUs, is to be started again, at `due_us`
    (microseconds, UTC)."""

    name: str
    revision: int
    attempt: int
    """How many times in a row by now; 0 when it ended with the engine, which does not count."""
    due_us: int


class RetryBegun(
    Struct, frozen=True, tag_field="type", tag="replica_set.retry_begun.v1", omit_defaults=True
):
    """It is time: the container is to be started now, and stopped before that if it runs."""

    name: str
    revision: int
    attempt: int


class PortRefused(
    Struct, frozen=True, tag_field="type", tag="port.refused.v1", omit_defaults=True
):
    """Another process of the host has a leased port. It rests: it is not lent until `until_us`."""

    host_port: int
    name: str
    revision: int
    until_us: int
    message: str = ""
    """Docker's own words."""


class PortsMoved(
    Struct, frozen=True, tag_field="type", tag="replica_set.ports_moved.v1", omit_defaults=True
):
    """A revision that has not run yet gets these host ports; its container is made anew."""

    name: str
    revision: int
    ports: tuple[PortBinding, ...]
