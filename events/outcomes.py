"""Facts reported back: what the engine did when an effect was carried out."""

from msgspec import Struct

from events.values import Carry


class ImageResolved(
    Struct, frozen=True, tag_field="type", tag="image.resolved.v1", omit_defaults=True
):
    """The image of a revision is on the engine; `image_id` pins its content."""

    name: str
    revision: int
    image: str
    image_id: str
    env: tuple[str, ...] = ()
    """The image's own environment and command, which a commit would overwrite."""
    cmd: tuple[str, ...] = ()


class ContainerCreated(
    Struct, frozen=True, tag_field="type", tag="container.created.v1", omit_defaults=True
):
    """A revision has a container. It has not run yet."""

    name: str
    revision: int
    container_id: str
    effect_id: str
    image: str = ""
    """What its system disk lies on."""


class ContainerUpdated(
    Struct, frozen=True, tag_field="type", tag="container.updated.v1", omit_defaults=True
):
    """The running container of the revision before has this one's limits, and its name."""

    name: str
    revision: int


class ContainerStarted(
    Struct, frozen=True, tag_field="type", tag="container.started.v1", omit_defaults=True
):
    """The container of a revision runs, since `started_at` (RFC 3339, Docker's clock)."""

    name: str
    revision: int
    started_at: str


class ContainerStopped(
    Struct, frozen=True, tag_field="type", tag="container.stopped.v1", omit_defaults=True
):
    """The container of a revision was seen not running."""

    name: str
    revision: int
    exit_code: int
    finished_at: str = ""
    started_at: str = ""
    """Since when it had run, when somebody else had started it since its last recorded start."""


class ContainerRemoved(
    Struct, frozen=True, tag_field="type", tag="container.removed.v1", omit_defaults=True
):
    """The container of a revision was seen gone."""

    name: str
    revision: int


class SnapshotTaken(
    Struct, frozen=True, tag_field="type", tag="snapshot.taken.v1", omit_defaults=True
):
    """The system disk of a stopped revision is kept, as an image or as a directory."""

    name: str
    revision: int
    image: str
    """The image's or the directory's name."""
    size_bytes: int
    carry: Carry = "commit"
    squashed: bool = False
    """The layers of the revisions before were made one, as the engine has a limit of them."""


class SnapshotRemoved(
    Struct, frozen=True, tag_field="type", tag="snapshot.removed.v1", omit_defaults=True
):
    """The system disk of a revision is no longer kept."""

    name: str
    revision: int
    image: str
    why: str = ""
    """For people; empty when its replica set was deleted, or its revision undone."""


class SnapshotCompacted(
    Struct, frozen=True, tag_field="type", tag="snapshot.compacted.v1", omit_defaults=True
):
    """A kept system disk shares the files that are the same with the one kept before it."""

    name: str
    revision: int
    image: str
    saved_bytes: int
    message: str = ""
    """Why it does not, if it does not."""


class SystemDiskPrecopied(
    Struct, frozen=True, tag_field="type", tag="system_disk.precopied.v1", omit_defaults=True
):
    """The running container's system disk was copied ahead for the revision that follows."""

    name: str
    revision: int
    size_bytes: int
    """0 when it was not worth it, or did not work."""
    message: str = ""
    """Why it did not work, if it did not: then it is copied once the container stands still."""


class SystemDiskFilled(
    Struct, frozen=True, tag_field="type", tag="system_disk.filled.v1", omit_defaults=True
):
    """A kept system disk was cloned into the container of a revision that has not run yet."""

    name: str
    revision: int
    image: str


class SystemDiskPutBack(
    Struct, frozen=True, tag_field="type", tag="system_disk.put_back.v1", omit_defaults=True
):
    """A kept system disk is the container's own again: the revision is not superseded after all."""

    name: str
    revision: int
    image: str
    started_at: str = ""
    """As in `ContainerStopped`: it was stopped again for it."""


class ImageCommitted(
    Struct, frozen=True, tag_field="type", tag="image.committed.v1", omit_defaults=True
):
    """The system disk of a revision was saved as an image for the caller."""

    name: str
    revision: int
    image: str
    image_id: str
    size_bytes: int


class CommandExecuted(
    Struct, frozen=True, tag_field="type", tag="command.executed.v1", omit_defaults=True
):
    """A command in a container ended. Its output is not recorded, only how much it was."""

    operation_id: str
    name: str
    revision: int
    exit_code: int
    duration_us: int
    stdout_bytes: int
    stderr_bytes: int


class VolumeMade(Struct, frozen=True, tag_field="type", tag="volume.made.v1", omit_defaults=True):
    """A version of a volume can be mounted."""

    name: str
    number: int


class VolumeRemoved(
    Struct, frozen=True, tag_field="type", tag="volume.removed.v1", omit_defaults=True
):
    """All versions of a volume were seen gone, and their data with them."""

    name: str


class EffectFailed(
    Struct, frozen=True, tag_field="type", tag="effect.failed.v1", omit_defaults=True
):
    """The engine refused an effect, in its own words."""

    operation_id: str
    effect_id: str
    effect: str
    """The effect's name, such as `StartContainer`."""
    kind: str
    name: str
    number: int
    reason: str
    message: str
