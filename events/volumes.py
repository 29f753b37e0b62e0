"""Facts about volumes and their versions, as decided."""

from msgspec import Struct

from events.values import Verb


class VolumeVersionDeclared(
    Struct,
    frozen=True,
    tag_field="type",
    tag="volume.version_declared.v1",
    omit_defaults=True,
):
    """A volume is to have this version. The data of the version before is in it."""

    name: str
    number: int
    size_bytes: int
    cause: Verb
    supersedes: int | None = None
    halts_users: bool = False
    """The containers that use it must stand still while it changes size."""


class VolumeVersionAbandoned(
    Struct,
    frozen=True,
    tag_field="type",
    tag="volume.version_abandoned.v1",
    omit_defaults=True,
):
    """A version that never came to be is undone; `back_to` is current again (0: none is)."""

    name: str
    number: int
    back_to: int


class VolumeDeletionRequested(
    Struct,
    frozen=True,
    tag_field="type",
    tag="volume.deletion_requested.v1",
    omit_defaults=True,
):
    """A volume is to be removed, with its data."""

    name: str


class VolumeDeleted(
    Struct, frozen=True, tag_field="type", tag="volume.deleted.v1", omit_defaults=True
):
    """Nothing of the volume is left but its history."""

    name: str
