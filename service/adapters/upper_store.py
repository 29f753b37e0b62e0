"""The store of kept layers, and the steps by which a layer moves in and out.

    <DockerRootDir>/gpuledger-snapshots/<owner>/<kept>/origin.json     whose layer it is
                                               <kept>/diff            the layer
                                               <kept>/size            its bytes, for progress
                                               <kept>/link, times     while it is compacted
                                               .removed-<kept>        one that is being deleted

It lies inside Docker's root directory, which is a mount of its own (dockerd binds it onto
itself), and rename(2) does not cross mounts. None of Docker's prune commands looks there.

Each procedure is a generator that yields after every step that could be the last one before a
crash. The files are the only state: run again from the start, a procedure finds what is done
and finishes the rest. Everything here blocks.
"""

import os
import re
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from service.adapters.upper_clone import discard, size_on_disk
from service.adapters.upper_entry import copy_attributes, is_carried
from service.adapters.upper_layers import Layer
from service.disk_ports import StoredDisk
from service.errors import SystemDiskError

STORE_FOLDER = "gpuledger-snapshots"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_PUT_BACK_MARK = "gpuledger-put-back-"
_PART = "diff.part"
_OVERLAY_XATTR = "trusted.overlay."

T = TypeVar("T")
Steps = Generator[str, None, None]


class Origin(Struct, frozen=True):
    """Whose layer was kept."""

    container: str
    container_id: str
    image_id: str
    changed_ns: int = 0
    """When the layer's own directory was last changed (ctime): to keep it changes that. 0 when it
    was kept by a version that did not note it."""


class Store:
    """Kept layers of one owner. `root` is the engine's root directory, as we see it."""

    def __init__(self, root: Path, owner: str) -> None:
        self.folder = root / STORE_FOLDER / checked_name(owner)

    def diff(self, kept: str) -> Path:
        """Where the kept layer is, or would be."""
        return self.entry(kept) / "diff"

    def holds(self, kept: str) -> bool:
        return os.path.lexists(self.diff(kept))

    def list_kept(self) -> tuple[StoredDisk, ...]:
        """What is there, also what is half moved in; not what is half deleted."""
        if not self.folder.is_dir():
            return ()
        names = sorted(entry.name for entry in self.folder.iterdir())
        return tuple(
            StoredDisk(name, self.noted_size(name) or None)
            for name in names
            if _NAME.fullmatch(name)
        )

    def require(self, kept: str) -> Origin:
        """Whose layer it is. Raises SystemDiskError when there is no such kept layer."""
        if not self.holds(kept):
            raise SystemDiskError(f"there is no kept system disk {kept}")
        try:
            return msgspec.json.decode(self._origin_file(kept).read_bytes(), type=Origin)
        except (OSError, msgspec.DecodeError) as error:
            raise SystemDiskError(f"whose system disk {kept} is cannot be read: {error}") from error

    def keep(self, layer: Layer, kept: str) -> Steps:
        """Move the layer into the store, and leave an empty one in its place."""
        if self.holds(kept):
            self._require_origin(kept, layer)
        else:
            (layer.folder / f"{_PUT_BACK_MARK}{kept}").unlink(missing_ok=True)
            self._note_origin(kept, layer)
            yield "noted"
            os.rename(layer.upper, self.diff(kept))
            yield "moved"
        self._leave_empty_layer(layer, kept)
        # The order does not matter: whatever of it a power cut leaves out, the next call does.
        sync_folder(self.entry(kept))
        sync_folder(layer.folder)
        yield "synced"

    def measure(self, kept: str) -> int:
        """Bytes of a kept layer on the disk; 0 when it would take too long to know. Noted."""
        size_bytes = size_on_disk(self.diff(kept)) or 0
        self._size_file(kept).write_text(str(size_bytes))
        return size_bytes

    def noted_size(self, kept: str) -> int:
        """What was measured, without measuring; 0 when it is not known."""
        try:
            return int(self._size_file(kept).read_text())
        except (OSError, ValueError):
            return 0

    def undo_keep(self, layer: Layer, kept: str) -> None:
        """After a failure, as if `keep` had not been called."""
        if self.holds(kept):
            os.rename(self.diff(kept), layer.upper)  # replaces an empty directory only
        sync_folder(layer.folder)
        discard(self.entry(kept))

    def put_back(self, layer: Layer, kept: str) -> Steps:
        """Move the layer back to the container that it was taken from.

        Afterwards the store knows nothing of it any more; a mark beside the layer, which goes
        with the container, tells a second call that it was done.
        """
        mark = layer.folder / f"{_PUT_BACK_MARK}{kept}"
        if self.holds(kept):
            self._require_origin(kept, layer)
            mark.touch(mode=0o600)
            sync_folder(layer.folder)
            yield "marked"
            _empty(layer.upper)
            yield "emptied"
            os.rename(self.diff(kept), layer.upper)
            yield "moved"
            sync_folder(layer.folder)
        elif not mark.exists():
            raise SystemDiskError(f"there is no kept system disk {kept}")
        discard(self.entry(kept))
        yield "forgotten"

    def require_fit(self, layer: Layer, kept: str) -> None:
        """Raises SystemDiskError unless the container can be filled with this kept layer."""
        origin = self.require(kept)
        if origin.image_id != layer.image_id:
            # Whiteouts and changed folders mean something on that image only.
            raise SystemDiskError(
                f"system disk {kept} belongs on image {origin.image_id}, but container"
                f" {layer.container} was made from {layer.image_id}"
            )

    def begin_fill(self, layer: Layer, kept: str) -> Path:
        """Make way for a clone beside the container's layer; where to put it."""
        self.require_fit(layer, kept)
        part = part_of(layer)
        discard(part)
        return part

    def finish_fill(self, layer: Layer) -> Steps:
        """Put the clone in the place of the container's own layer."""
        _empty(layer.upper)
        yield "emptied"
        os.rename(part_of(layer), layer.upper)
        yield "moved"
        sync_folder(layer.folder)

    def remove(self, kept: str) -> Steps:
        """Drop a kept layer. Out of sight first, so that a half-deleted one is never cloned."""
        trash = self.folder / f".removed-{kept}"
        discard(trash)
        entry = self.entry(kept)
        if os.path.lexists(entry):
            os.rename(entry, trash)
            sync_folder(self.folder)
            yield "hidden"
            discard(trash)
        yield "deleted"

    def entry(self, kept: str) -> Path:
        """The folder of a kept layer, and of what is noted about it."""
        return self.folder / checked_name(kept)

    def _origin_file(self, kept: str) -> Path:
        return self.entry(kept) / "origin.json"

    def _size_file(self, kept: str) -> Path:
        return self.entry(kept) / "size"

    def _note_origin(self, kept: str, layer: Layer) -> None:
        make_folder(self.entry(kept))
        changed_ns = os.lstat(layer.upper).st_ctime_ns
        origin = Origin(layer.container, layer.container_id, layer.image_id, changed_ns)
        with self._origin_file(kept).open("wb") as file:
            file.write(msgspec.json.encode(origin))
            file.flush()
            os.fsync(file.fileno())

    def _require_origin(self, kept: str, layer: Layer) -> None:
        origin = self.require(kept)
        if origin.container_id != layer.container_id:
            raise SystemDiskError(
                f"system disk {kept} was kept from container {origin.container}"
                f" ({origin.container_id[:12]}), not from {layer.container}"
            )

    def _leave_empty_layer(self, layer: Layer, kept: str) -> None:
        """Without one, a container can neither be started nor be looked into."""
        if os.path.lexists(layer.upper):
            return
        empty = self.entry(kept) / "empty"
        empty.mkdir(exist_ok=True)
        _copy_attributes(self.diff(kept), empty)
        os.rename(empty, layer.upper)


def part_of(layer: Layer) -> Path:
    """Where a clone is made, beside the layer that it will be; it goes with the container."""
    return layer.folder / _PART


def run_all(steps: Generator[object, None, T]) -> T:
    """Go through all steps of a procedure; its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def checked_name(name: str) -> str:
    """A name that is one path component of ours. Raises SystemDiskError."""
    if not _NAME.fullmatch(name):
        raise SystemDiskError(f"{name!r} is no name for a system disk")
    return name


def make_folder(folder: Path) -> None:
    """With its parents, for root only, and so that a power cut does not take it away."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
        sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in it on the disk; ext4, xfs and btrfs log renames in their order."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> None:
    """An empty layer is what rename(2) replaces. Whatever a failed start left there goes."""
    if os.path.lexists(folder):
        for name in os.listdir(folder):
            discard(folder / name)


def _copy_attributes(source: Path, target: Path) -> None:
    """Owner, mode, ACLs and the like of a container's root; what overlayfs notes is its own."""

    def carried(name: str) -> bool:
        return not name.startswith(_OVERLAY_XATTR) and is_carried(name)

    copy_attributes(os.fsencode(source), os.fsencode(target), os.lstat(source), carried)
