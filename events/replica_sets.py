"""Facts about replica sets and their revisions, as decided."""

from msgspec import Struct

from events.values import Carry, ContainerSpec, Expiry, GpuRuntime, Phase, PortBinding, Verb


class RevisionDeclared(
    Struct,
    frozen=True,
    tag_field="type",
    tag="replica_set.revision_declared.v1",
    omit_defaults=True,
):
    """A replica set is to have this revision; it takes the place of `supersedes`."""

    name: str
    number: int
    cause: Verb
    spec: ContainerSpec
    gpus: tuple[str, ...]
    """UUIDs, chosen and leased."""
    ports: tuple[PortBinding, ...]
    gpu_runtime: GpuRuntime
    supersedes: int | None = None
    """The revision whose container it takes the place of, None for the first."""
    disk_from: int | None = None
    """The revision whose system disk it starts with; None starts with the bare image."""
    rolled_back_to: int | None = None
    carry: Carry = "commit"
    """How the system disk of the superseded revision is kept for this one."""
    data_volume: str | None = None
    """The volume that was declared along with it, as its data disk."""
    in_place: bool = False
    """Only limits differ: the running container of `supersedes` becomes its own."""
    copies: bool = False
    """To clone a kept directory copies its blocks here, as the file system cannot share them."""
    debug_of: str = ""
    """Of a debug copy, the version that it is a copy of, such as "foo@3"."""


class PhaseRequested(
    Struct, frozen=True, tag_field="type", tag="replica_set.phase_requested.v1", omit_defaults=True
):
    """A replica set is to be running, paused (leases kept), stopped or deleted."""

    name: str
    phase: Phase


class ImageCommitRequested(
    Struct,
    frozen=True,
    tag_field="type",
    tag="replica_set.image_commit_requested.v1",
    omit_defaults=True,
):
    """The system disk of a revision is to be saved as an image."""

    name: str
    number: int
    image: str


class ExecutionRequested(
    Struct,
    frozen=True,
    tag_field="type",
    tag="replica_set.execution_requested.v1",
    omit_defaults=True,
):
    """A command is to be run, once, in the container of a revision."""

    operation_id: str
    name: str
    number: int
    cmd: tuple[str, ...]
    work_dir: str = ""


class RevisionRetired(
    Struct, frozen=True, tag_field="type", tag="replica_set.revision_retired.v1", omit_defaults=True
):
    """A superseded revision's container is gone; its spec and snapshot stay."""

    name: str
    number: int


class RevisionAbandoned(
    Struct,
    frozen=True,
    tag_field="type",
    tag="replica_set.revision_abandoned.v1",
    omit_defaults=True,
):
    """A revision that never came to run is undone; `back_to` is current again (0: none is)."""

    name: str
    number: int
    back_to: int
    phase: Phase
    """What the replica set is meant to be from now on."""


class BindMoved(
    Struct, frozen=True, tag_field="type", tag="replica_set.bind_moved.v1", omit_defaults=True
):
    """What a revision binds of a volume is the volume's next version now: the same disk."""

    name: str
    number: int
    old: str
    """The volume with its version, "bar-1"."""
    new: str


class RevisionPinned(
    Struct, frozen=True, tag_field="type", tag="replica_set.revision_pinned.v1", omit_defaults=True
):
    """The system disk of a revision is to be kept until it is unpinned."""

    name: str
    number: int


class RevisionUnpinned(
    Struct,
    frozen=True,
    tag_field="type",
    tag="replica_set.revision_unpinned.v1",
    omit_defaults=True,
):
    """The system disk of a revision is kept as long as any other."""

    name: str
    number: int


class SnapshotExpired(
    Struct, frozen=True, tag_field="type", tag="snapshot.expired.v1", omit_defaults=True
):
    """The system disk of a revision is not to be kept any longer; it can no more be had back."""

    name: str
    revision: int
    why: Expiry
    message: str
    """For people, with the figures."""


class ReplicaSetDeleted(
    Struct, frozen=True, tag_field="type", tag="replica_set.deleted.v1", omit_defaults=True
):
    """Nothing of the replica set is left but its history."""

    name: str
