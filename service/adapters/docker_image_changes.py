"""How two system disks differ, when they are kept as images: seen through the engine's API alone.

The layers' headers are read from what `docker save` streams (no data is kept), and what a container
has of its own is asked for (`GET /containers/{id}/changes`). An engine sends the base's layers too,
whether wanted or not. Where both lie on the same layers nothing is streamed at all, as containers'
own changes tell it. What Docker does not tell then is what a directory held that was deleted and
made again, or, depending on its storage driver, that a directory was a file before.
"""

import asyncio
import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import docker
from docker.errors import NotFound
from msgspec import Struct

from events.labels import LABEL_OWNER
from service.adapters import docker_objects as objects
from service.adapters.docker_connection import DockerConnection
from service.adapters.docker_errors import FOREIGN_ERRORS, map_error
from service.adapters.docker_layers import (
    ENCODING,
    ERRORS,
    Layer,
    LayerEntry,
    Node,
    empty_tree,
    find,
    lay,
    read_layer,
)
from service.adapters.docker_saved import read_saved
from service.adapters.docker_streams import Listening
from service.disk_ports import DiskRef, FileChange, FileChanges
from service.errors import EngineUnavailable, SystemDiskError

_MODIFIED, _ADDED, _DELETED = range(3)
"""The kinds of GET /containers/{id}/changes."""


class _Side(Struct, frozen=True):
    """A system disk: its image, and what a container has changed of that (kind by path)."""

    image_id: str
    diff_ids: tuple[str, ...]
    container_id: str = ""
    own: Mapping[str, int] = {}

    def folders(self, *kinds: int) -> set[str]:
        """Of the directories in which the container did such a thing, the next above it."""
        return {posixpath.dirname(path) for path, kind in self.own.items() if kind in kinds}


class ImageDiffs:
    """Compares kept images, and containers on them. Raises SystemDiskError, EngineUnavailable.

    `base_url` as docker-py takes it; None is the local socket. `owner` is what the owner label of
    our containers says. Nothing is connected until the first call.
    """

    def __init__(
        self, base_url: str | None, *, owner: str, pool_size: int = 2, timeout_s: float = 60.0
    ) -> None:
        self._owner = owner
        self._connection = DockerConnection(base_url, timeout_s, pool_size)
        self._threads = ThreadPoolExecutor(pool_size, "image-diffs")
        self._listening: set[Listening] = set()

    async def close(self) -> None:
        """Stop reading and let go of the connections."""
        for listening in tuple(self._listening):
            listening.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connection.forget()

    async def changes(self, old: DiskRef, new: DiskRef, listed_max: int) -> FileChanges:
        """What is other in `new`; a directory only when it comes or goes.

        Compared are kind, size, mode, owner, modification time and a symbolic link's target. What
        a container changed itself counts as changed, and its sizes are 0. Takes as long as the
        engine needs to send the images, 0.3 to 1 GB/s, unless both lie on the same layers.
        """
        listening = Listening()
        self._listening.add(listening)

        def work() -> FileChanges:
            try:
                client = self._connection.client()
                sides = self._side(client, old), self._side(client, new)
                return _changes(*_trees(client, *sides, listening), listed_max)
            except FOREIGN_ERRORS as foreign:
                error = map_error(foreign)
                if isinstance(error, EngineUnavailable):
                    self._connection.forget()
                    raise error from foreign
                raise SystemDiskError(str(error)) from foreign

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            # Also when the caller was cancelled: the thread must not go on reading.
            listening.close()
            self._listening.discard(listening)

    def _side(self, client: docker.APIClient, disk: DiskRef) -> _Side:
        image, container_id = disk.name, ""
        own: dict[str, int] = {}
        if disk.kind == "directory":
            raise SystemDiskError(f"the system disk {disk.name} is a directory, and no image")
        if disk.kind == "container":
            seen = objects.inspect(client, disk.name)
            if seen is None:
                raise SystemDiskError(f"there is no container {disk.name}")
            if (seen["Config"].get("Labels") or {}).get(LABEL_OWNER) != self._owner:
                raise SystemDiskError(f"container {disk.name} does not belong to this installation")
            image, container_id = seen["Image"], seen["Id"]
            changes = client.diff(container_id) or ()
            own = {change["Path"].lstrip("/"): change["Kind"] for change in changes}
        try:
            there = client.inspect_image(image)
        except NotFound as error:
            raise SystemDiskError(f"there is no image {image}") from error
        return _Side(there["Id"], tuple(objects.diff_ids(there)), container_id, own)


def _trees(
    client: docker.APIClient, old: _Side, new: _Side, listening: Listening
) -> tuple[Node, Node]:
    """All that is seen of both, or all that a container on it says of the layers they share."""
    if old.diff_ids == new.diff_ids:
        layers = {"shared": _image_part(client, (old, new))}
        chains: tuple[Sequence[str], ...] = (("shared",), ("shared",))
    else:
        layers = _saved_layers(client, (old, new), listening)
        chains = old.diff_ids, new.diff_ids
    trees = []
    for side, chain in zip((old, new), chains, strict=True):
        tree = empty_tree()
        for number, diff_id in enumerate(chain):
            lay(tree, layers[diff_id], number)
        lay(tree, _own_part(client, side, tree), len(chain))
        trees.append(tree)
    return trees[0], trees[1]


def _saved_layers(
    client: docker.APIClient, sides: Sequence[_Side], listening: Listening
) -> dict[str, Layer]:
    images = {side.image_id: side.diff_ids for side in sides}
    saved = read_saved(client, images, lambda _, stream: read_layer(stream), listening)
    for image_id, diff_ids in images.items():
        if not saved.holds(image_id, diff_ids):
            raise SystemDiskError(
                f"image {image_id} cannot be compared: the engine's image store does not give out"
                " layers as they were committed"
            )
    return saved.layers


def _image_part(client: docker.APIClient, sides: Sequence[_Side]) -> Layer:
    """What containers' changes tell of the image that they were made to."""
    entries: dict[str, LayerEntry] = {}
    for side in sides:
        folders = side.folders(_MODIFIED, _ADDED, _DELETED)
        for path, kind in side.own.items():
            if kind != _ADDED:
                folder = path in folders
                if kind == _MODIFIED and not folder:
                    folder = _is_folder(client, side, path)
                entries.setdefault(path, _entry(path, folder=folder))
    return Layer(tuple(entries[path] for path in sorted(entries)))


def _own_part(client: docker.APIClient, side: _Side, image: Node) -> Layer:
    """A container's own changes, as a layer of which only the paths are known."""
    entries: list[LayerEntry] = []
    folders = side.folders(_MODIFIED, _ADDED)
    for path, kind in sorted(side.own.items()):
        if kind != _DELETED:
            there = find(image, path)
            was_folder = there is not None and there.children is not None
            # One in which things were only deleted may have become a file.
            folder = path in folders or (was_folder and _is_folder(client, side, path))
            entries.append(_entry(path, folder=folder))
    deleted = (path for path, kind in side.own.items() if kind == _DELETED)
    return Layer(tuple(entries), tuple(sorted(deleted)))


def _entry(path: str, *, folder: bool) -> LayerEntry:
    return LayerEntry(path, tarfile.DIRTYPE if folder else b"")


def _is_folder(client: docker.APIClient, side: _Side, path: str) -> bool:
    return objects.is_folder(client, side.container_id, f"/{path}")


def _changes(old: Node, new: Node, listed_max: int) -> FileChanges:
    listed: list[FileChange] = []
    counts = {"added": 0, "changed": 0, "deleted": 0}
    for change in _walk(old, new):
        counts[change.kind] += 1
        if len(listed) < listed_max:
            listed.append(change)
    return FileChanges(tuple(listed), **counts)


def _walk(old: Node, new: Node) -> Iterator[FileChange]:
    """By path, component by component; what went with its directory is not told apart."""
    left: list[tuple[str, Node | None, Node | None]] = [("", old, new)]
    while left:
        path, before, after = left.pop()
        before = before if before is not None and before.there else None
        after = after if after is not None and after.there else None
        change = _change(path, before, after)
        if change is not None:
            yield change
        if after is None or after.children is None:
            continue
        old_children = (before.children if before is not None else None) or {}
        for name in sorted({*old_children, *after.children}, key=_bytes, reverse=True):
            child = posixpath.join(path, name)
            left.append((child, old_children.get(name), after.children.get(name)))


def _change(path: str, before: Node | None, after: Node | None) -> FileChange | None:
    shown = "/" + _bytes(path).decode(ENCODING, "backslashreplace")
    if after is None:
        return None if before is None else FileChange(shown, "deleted")
    size_bytes = after.entry.size if after.entry is not None else 0
    if before is None:
        return FileChange(shown, "added", size_bytes)
    if before.children is not None and after.children is not None:
        return None
    if before.entry is not None and after.entry is not None and after.entry.same_as(before.entry):
        return None
    return FileChange(shown, "changed", size_bytes)


def _bytes(path: str) -> bytes:
    return path.encode(ENCODING, ERRORS)
