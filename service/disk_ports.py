"""The ports for disks: sized volumes, and the containers' own layers.

As in `ports`, every port has a real adapter and a full in-memory implementation, and one contract
suite runs on both.
"""

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from msgspec import Struct

from service.ports import Progress

OnProgress = Callable[[Progress], None]
"""Hears how far a long step is, on the event loop."""


class Resizes(Struct, frozen=True):
    """Which changes of size can be tried while a volume is mounted.

    True also of one that cannot be at all: to unmount it would not help.
    """

    grows: bool
    """A quota and xfs can; ext4 where the service has CAP_SYS_RESOURCE."""
    shrinks: bool
    """A quota can; ext4 cannot. xfs never can."""


class StoredDisk(Struct, frozen=True):
    """A disk that a store holds."""

    name: str
    size_bytes: int | None
    """What it takes of the disk; None where that is not cheap to know."""


class VolumeStore(Protocol):
    """Sized disks on the engine's host, by name. Raises VolumeStoreError."""

    async def probe(self) -> tuple[bool, str]:
        """Can this host make sized volumes? And a line for people that says how or why not."""
        ...

    async def resizes_mounted(self, name: str) -> Resizes:
        """Which changes of size of this volume do not need it unmounted."""
        ...

    async def create(self, name: str, size_bytes: int) -> Mapping[str, str]:
        """Make the disk, or find it made; return the local driver's options to mount it."""
        ...

    async def resize(self, name: str, size_bytes: int, on_progress: OnProgress) -> None:
        """Grow or shrink in place, no data copied. Raises VolumeBelowUsed, nothing changed."""
        ...

    async def remove(self, name: str) -> None:
        """Remove the disk; one that is not there is success, one that is mounted raises."""
        ...

    async def list_disks(self) -> tuple[StoredDisk, ...]:
        """All disks that are there, by name. Nothing is made, mounted or attached for it."""
        ...

    async def attach_all(self) -> None:
        """After a reboot: give every disk its device again."""
        ...


class HostPaths(Protocol):
    """Directories of the engine's host, as far as containers may mount them."""

    async def refusal(self, path: str, *, shared: bool) -> str | None:
        """Why `path` may not be mounted, for people; None when it may.

        What counts is where it really is, symlinks followed. `shared` is a file storage: for it
        a mount point itself is refused, since a container would silently write to the host's own
        disk whenever nothing is mounted there; of a directory below it, that is an error.
        """
        ...

    async def absence(self, path: str) -> str | None:
        """Why `path` cannot be mounted as things are, for people: it is refused, or not there.

        Of another host's paths it is not known whether they are there: they count as there.
        """
        ...


class DiskProbe(Struct, frozen=True):
    """Can system disks be carried by their upper directories here?"""

    works: bool
    reflink: bool
    """True when a clone shares blocks, and so costs neither time nor space."""
    detail: str
    """One line for people: how, or why not."""


class FileChange(Struct, frozen=True):
    """A file that is other in one system disk than in another; `size_bytes` is the newer's."""

    path: str
    kind: Literal["added", "changed", "deleted"]
    size_bytes: int = 0


class FileChanges(Struct, frozen=True):
    """How two system disks differ: all counted, the first of them listed by path."""

    files: tuple[FileChange, ...]
    added: int
    changed: int
    deleted: int


class DiskRef(Struct, frozen=True):
    """A system disk: a container's own layer, a kept directory, or a kept image."""

    kind: Literal["container", "directory", "image"]
    name: str


class SystemDisks(Protocol):
    """Containers' own layers, kept and carried as directories. Raises SystemDiskError.

    A kept disk has a name of ours. Every method may be called again after a crash at any point
    of it, and then finishes what it began.
    """

    async def probe(self) -> DiskProbe: ...

    async def precopy(
        self, source: str, container: str, least_bytes: int, on_progress: OnProgress
    ) -> int:
        """Copy the layer of the running container `source` ahead of a `fill` of `container`.

        `container` was created and never started. The fill that follows, with the layer of
        `source` kept, copies only what has changed since. Returns the bytes copied; 0 when it is
        not worth it: the clone shares blocks, or the layer is smaller than `least_bytes`. What
        it left is gone with `container`; a service that died in between fills from scratch.
        """
        ...

    async def keep(self, container: str, kept: str) -> int:
        """Move the layer of a stopped container into the store, as `kept`; its size in bytes.

        O(1): a rename. The container is left with an empty layer and can only be removed, or
        get its layer put back.
        """
        ...

    async def put_back(self, kept: str, container: str) -> None:
        """The reverse of `keep`: the container is as it was. `kept` is gone."""
        ...

    async def fill(self, container: str, kept: str, on_progress: OnProgress) -> None:
        """Clone `kept` into the layer of a container that was created and never started.

        Raises SystemDiskFull, with nothing begun, when the clone would fill the disk.
        """
        ...

    async def compact(self, kept: str, other: str) -> int:
        """Let two kept disks share the files that are the same; the bytes saved.

        Only kept disks that are never put back may be compacted. 0 where clones share blocks.
        """
        ...

    async def remove(self, kept: str) -> None:
        """Drop a kept disk; one that is not there is success."""
        ...

    async def list_kept(self) -> tuple[StoredDisk, ...]:
        """All kept disks that are there, by name; none where the store is out of reach."""
        ...

    async def is_kept(self, kept: str) -> bool:
        """Is there a kept disk of this name?"""
        ...

    async def size(self, container: str) -> int | None:
        """Bytes that a container's own layer takes; None when that is not soon known."""
        ...

    async def free_bytes(self) -> int | None:
        """Free space on the disk that system disks are on; None when it is not this host's."""
        ...

    async def changes(self, old: DiskRef, new: DiskRef, listed_max: int) -> FileChanges:
        """What is other in `new`, both containers' layers or kept directories on one image."""
        ...
