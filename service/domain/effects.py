"""Effects: the I/O that the state calls for.

An effect says everything; it leaves its doer nothing to choose. `effect_id` names it for ever,
so that an effect done twice is an effect done once. `name` is the replica set or volume.
"""

from typing import Any

from msgspec import Struct

from events.values import Carry, OrphanKind


class EnsureImage(Struct, frozen=True, tag=True):
    """See that an image is on the engine, and which content it has; pull it when it is not."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    image: str


class CreateContainer(Struct, frozen=True, tag=True):
    """Make a revision's container from a body as Docker's API takes it."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    config: dict[str, Any]


class UpdateContainer(Struct, frozen=True, tag=True):
    """Give the running container `was` other limits, and then the name `container`.

    `resources` as Docker's API takes them, empty for no other limits. All or nothing: refused, it
    has its old name.
    """

    effect_id: str
    operation_id: str
    name: str
    number: int
    was: str
    container: str
    resources: dict[str, Any]


class StartContainer(Struct, frozen=True, tag=True):
    """Start a container that is there.

    Once it was started at another instant than `last_started_at` (RFC 3339, empty for never),
    this is done: a container that ended at once is not run a second time after a crash.
    """

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    last_started_at: str


class StopContainer(Struct, frozen=True, tag=True):
    """Stop a container. One that is gone is stopped; one that was renamed is not gone."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    container_id: str = ""
    """The engine's own; empty when it is not known."""


class RemoveContainer(Struct, frozen=True, tag=True):
    """Remove a container. One that is gone is removed; one that was renamed is not gone."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    container_id: str = ""
    """The engine's own; empty when it is not known."""
    made_by: str = ""
    """Of one that nobody has seen: the effect that may have made it. Another one of its name is
    not meant."""


class TakeSnapshot(Struct, frozen=True, tag=True):
    """Keep the system disk of a stopped container, as `image`: an image or a directory."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    image: str
    carry: Carry
    squash_onto: str
    """The image below all commits; committed layers above it are made one when there are many."""


class RemoveSnapshot(Struct, frozen=True, tag=True):
    """Drop a kept system disk."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    image: str
    carry: Carry


class CompactSnapshot(Struct, frozen=True, tag=True):
    """Let a kept directory share with `other`, another one, the files that are the same."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    image: str
    other: str


class PreCopyDisk(Struct, frozen=True, tag=True):
    """Copy the system disk of the running `source` ahead into a container that has not run yet.

    One of less than `least_bytes` is not worth it.
    """

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    source: str
    least_bytes: int


class FillDisk(Struct, frozen=True, tag=True):
    """Clone a kept system disk into a container that has not run yet."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    image: str


class PutBackDisk(Struct, frozen=True, tag=True):
    """Give a kept system disk back to the container that it was taken from."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    image: str


class CommitImage(Struct, frozen=True, tag=True):
    """Save the system disk of a container as an image for the caller."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    image: str
    pause: bool


class MakeDebugImage(Struct, frozen=True, tag=True):
    """Make the image that a debug copy lies on: another name of the image `source`, or, `live`,
    what the container `source` has now."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    source: str
    image: str
    live: bool
    pause: bool


class RemoveDebugImage(Struct, frozen=True, tag=True):
    """Drop the image that a debug copy lay on. One that is not there is dropped."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    image: str


class Execute(Struct, frozen=True, tag=True):
    """Run a command in a container, once."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    container: str
    cmd: tuple[str, ...]
    work_dir: str


class MakeVolume(Struct, frozen=True, tag=True):
    """Make a sized disk, and the engine's volume that mounts it."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    volume: str
    size_bytes: int
    lost: bool = False
    """It was there before its host was lost; what is left of it is taken over."""


class SizeVolume(Struct, frozen=True, tag=True):
    """Give the disk another size, and make the engine's volume of the new version."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    volume: str
    size_bytes: int


class RemoveVolume(Struct, frozen=True, tag=True):
    """Remove the engine's volumes of these versions, then the disk unless it is to stay."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    volumes: tuple[str, ...]
    with_disk: bool


class DropOrphan(Struct, frozen=True, tag=True):
    """Remove what is in no record; `name` is its id, `thing` its name on the engine or disk.

    Only what still is what was found: where the engine gives ids, the one with `object_id`.
    """

    effect_id: str
    operation_id: str
    name: str
    number: int
    kind: OrphanKind
    thing: str
    object_id: str


class Settle(Struct, frozen=True, tag=True):
    """No I/O: nothing is left to do, so the operation ends and what it held is given back."""

    effect_id: str
    operation_id: str
    name: str
    number: int
    kind: str


Effect = (
    EnsureImage
    | CreateContainer
    | UpdateContainer
    | StartContainer
    | StopContainer
    | RemoveContainer
    | TakeSnapshot
    | RemoveSnapshot
    | CompactSnapshot
    | PreCopyDisk
    | FillDisk
    | PutBackDisk
    | CommitImage
    | MakeDebugImage
    | RemoveDebugImage
    | Execute
    | MakeVolume
    | SizeVolume
    | RemoveVolume
    | DropOrphan
    | Settle
)

VOLUME_EFFECTS = (MakeVolume, SizeVolume, RemoveVolume)
"""Effects whose `name` is a volume's."""


def kind_of(effect: Effect) -> str:
    """Whose effect it is: "replica_set", "volume" or "orphan"."""
    if isinstance(effect, Settle):
        return effect.kind
    if isinstance(effect, DropOrphan):
        return "orphan"
    return "volume" if isinstance(effect, VOLUME_EFFECTS) else "replica_set"
