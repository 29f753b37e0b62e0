"""Facts about what was lost with a host, and is made again on another, or on the same."""

from msgspec import Struct

from events.values import GpuRuntime, Phase, PortBinding


class ContainerLost(
    Struct, frozen=True, tag_field="type", tag="container.lost.v1", omit_defaults=True
):
    """The container of a revision went with its host, or could not be made again on this one."""

    name: str
    revision: int
    phase: Phase
    """What its replica set was to be, and is to be once it is made again."""


class RecoveryBegun(
    Struct,
    frozen=True,
    tag_field="type",
    tag="replica_set.recovery_begun.v1",
    omit_defaults=True,
):
    """A revision whose container was lost is to have one again, on this host."""

    name: str
    revision: int
    phase: Phase
    """Running is started; paused and stopped are made, and not started."""
    gpus: tuple[str, ...]
    """UUIDs: those it had where they are there and free, and others in place of the rest."""
    ports: tuple[PortBinding, ...]
    gpu_runtime: GpuRuntime
    disk_from: int | None = None
    """The version whose kept system disk it starts with; None starts with the bare image."""
    image_id: str | None = None
    """The image that it had before, by its content; None is what its name stands for here."""


class VolumeLost(Struct, frozen=True, tag_field="type", tag="volume.lost.v1", omit_defaults=True):
    """A version of a volume cannot be mounted on this host: it is made again."""

    name: str
    number: int
    empty: bool = False
    """Its disk is not there either: the data is gone, and a new one is made."""
