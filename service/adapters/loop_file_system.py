"""What a loop volume asks of a file system, whichever it is."""

from pathlib import Path
from typing import Protocol

from msgspec import Struct

from service.adapters.loop_progress import ShrinkProgress

HEAD_BYTES = 4096
"""So much of an image tells which file system is in it."""


class FileSystem(Struct, frozen=True):
    """A file system as it is on its device."""

    size_bytes: int
    size_bytes_max: int | None
    """How far it can grow; None when there is no end."""


class LoopFileSystem(Protocol):
    """A file system in an image. Every method may raise VolumeStoreError."""

    @property
    def kind(self) -> str:
        """Its name, as mount knows it."""
        ...

    @property
    def tools(self) -> tuple[str, ...]: ...

    @property
    def size_bytes_min(self) -> int: ...

    @property
    def shrinks(self) -> bool: ...

    def is_in(self, head: bytes) -> bool:
        """Do these first HEAD_BYTES of an image say that it is one of these?"""
        ...

    def grows_online(self) -> bool:
        """Can this process grow one that is mounted?"""
        ...

    async def make(self, image: Path) -> None: ...

    async def measure(self, device: str) -> FileSystem:
        """How large it is, mounted or not."""
        ...

    async def grow(self, device: str, undo: Path, *, mounted: bool) -> None:
        """Fill the device. `undo` is where an interrupted one leaves what takes it back."""
        ...

    async def shrink(
        self, name: str, device: str, undo: Path, size_bytes: int, progress: ShrinkProgress
    ) -> None:
        """Make the one of volume `name`, which is not mounted, smaller; only where `shrinks`.

        Raises VolumeBelowUsed, with nothing changed.
        """
        ...

    async def take_back(self, device: str, undo: Path) -> None:
        """Undo what was interrupted and left `undo`; while it is mounted, do nothing."""
        ...
