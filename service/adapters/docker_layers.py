"""Layers of images: what their tars say, and what a container sees of several of them.

A layer is a tar of what was added and changed. A deletion is a file called `.wh.<name>`, and
`.wh..wh..opq` in a directory says that nothing of the layers below shows in it (OCI image-spec,
layer.md). Both speak of the layers below only, wherever in the tar they stand.
"""

import posixpath
import tarfile
from collections.abc import Iterator
from typing import IO, Any, cast

from msgspec import Struct
from msgspec.structs import replace

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"

ENCODING = "utf-8"
ERRORS = "surrogateescape"
"""Names are bytes: what is no UTF-8 goes through Python's text and comes out as it was."""

_PIECE_BYTES = 1 << 20


class LayerEntry(Struct, frozen=True, gc=False):
    """An entry of a layer's tar, without its data."""

    path: str
    """Below the root, which is the empty path."""
    kind: bytes
    """Tar's type. A further name of a file has the file's; LNKTYPE is left where that file is
    not in the same layer. Empty when nothing but the path is known."""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: float = 0.0
    target: str = ""
    """Of a symbolic link, and of a hard link that is left as such."""
    start: int = 0
    """Where its header begins in the tar, in bytes."""
    origin: int = 0
    """Where that of the file's first name begins, which has the data; mostly the same."""
    length: int = 0
    """Bytes of header, data and padding."""

    def same_as(self, other: "LayerEntry") -> bool:
        """Would a look at both, without reading them, find no difference?"""
        return bool(self.kind) and self._shown() == other._shown()

    def _shown(self) -> tuple[object, ...]:
        return self.kind, self.mode, self.uid, self.gid, self.size, self.mtime, self.target


class Layer(Struct, frozen=True):
    """What a layer says, in the order of its tar."""

    entries: tuple[LayerEntry, ...]
    whiteouts: tuple[str, ...] = ()
    """Paths that the layers below have, and that are not there any more."""
    opaques: tuple[str, ...] = ()
    """Directories in which nothing of the layers below shows."""


class Node:
    """A path in a tree of layers: a directory has children, a deletion neither them nor entry."""

    __slots__ = ("children", "entry", "layer", "opaque")

    def __init__(
        self,
        entry: LayerEntry | None,
        children: "dict[str, Node] | None",
        layer: int,
        *,
        opaque: bool = False,
    ) -> None:
        self.entry = entry
        """None also for a directory that no layer has an entry of its own for."""
        self.children = children
        self.layer = layer
        """The number of the layer that the entry is from."""
        self.opaque = opaque

    @property
    def there(self) -> bool:
        """False for a deletion."""
        return self.entry is not None or self.children is not None


def read_layer(stream: IO[bytes]) -> Layer:
    """The headers of a layer's uncompressed tar; it need not be seekable.

    What follows the end mark is left unread. Raises tarfile.ReadError when it ends early.
    """
    entries: dict[str, LayerEntry] = {}
    whiteouts: list[str] = []
    opaques: list[str] = []
    with tarfile.open(
        fileobj=stream, mode="r|", bufsize=_PIECE_BYTES, encoding=ENCODING, errors=ERRORS
    ) as tar:
        for member, length in members(tar):
            path = normal(member.name)
            folder, name = posixpath.split(path)
            if name == OPAQUE:
                opaques.append(folder)
            elif name.startswith(WHITEOUT):
                whiteouts.append(posixpath.join(folder, name.removeprefix(WHITEOUT)))
            else:
                entries[path] = _entry(path, member, length, entries)
    return Layer(tuple(entries.values()), tuple(whiteouts), tuple(opaques))


def members(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Each member of a tar and the bytes that it takes, none of them remembered."""
    # tarfile keeps all that it has seen, which of a large image is gigabytes. The list of it is
    # public, but not in the type stubs.
    seen: list[tarfile.TarInfo] = cast("Any", tar).members
    while (member := tar.next()) is not None:
        seen.clear()
        yield member, tar.offset - member.offset


def normal(name: str) -> str:
    """A path below the root, however the tar writes it."""
    return posixpath.normpath("/" + name).lstrip("/")


def padded(size_bytes: int) -> int:
    """What data of this size take in a tar."""
    return -(-size_bytes // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _entry(
    path: str, member: tarfile.TarInfo, length: int, before: dict[str, LayerEntry]
) -> LayerEntry:
    first = before.get(normal(member.linkname)) if member.islnk() else None
    entry = LayerEntry(
        path=path,
        kind=tarfile.REGTYPE if member.isreg() else member.type,
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        size=member.size if member.isreg() else 0,
        mtime=member.mtime,
        target=member.linkname if member.issym() or member.islnk() else "",
        start=member.offset,
        origin=first.origin if first else member.offset,
        length=length,
    )
    if first is None:
        return entry
    return replace(entry, kind=first.kind, size=first.size, target=first.target)


def empty_tree() -> Node:
    """A root with nothing in it, to lay layers onto."""
    return Node(None, {}, 0)


def lay(root: Node, layer: Layer, number: int) -> None:
    """Put a layer, by its number, on top of those that `root` is made of."""
    for path in layer.opaques:
        node = _directory(root, path, number)
        node.children, node.opaque = {}, True
    for path in layer.whiteouts:
        folder, name = posixpath.split(path)
        _children(_directory(root, folder, number))[name] = Node(None, None, number)
    for entry in layer.entries:
        _place(root, entry, number)


def find(root: Node, path: str) -> Node | None:
    """What a tree has at a path; None where no layer says anything of it."""
    node: Node | None = root
    for name in path.split("/") if path else ():
        node = ((node.children if node is not None else None) or {}).get(name)
    return node


def _place(root: Node, entry: LayerEntry, number: int) -> None:
    if not entry.path:
        root.entry, root.layer = entry, number
    elif entry.kind == tarfile.DIRTYPE:
        node = _directory(root, entry.path, number)
        node.entry, node.layer = entry, number
    else:
        folder, name = posixpath.split(entry.path)
        _children(_directory(root, folder, number))[name] = Node(entry, None, number)


def _directory(root: Node, path: str, number: int) -> Node:
    """The directory at `path`, made where there is none; what it replaces does not show in it."""
    node = root
    for name in path.split("/") if path else ():
        children = _children(node)
        there = children.get(name)
        if there is None or there.children is None:
            there = Node(None, {}, number, opaque=there is not None)
            children[name] = there
        node = there
    return node


def _children(directory: Node) -> dict[str, Node]:
    return cast("dict[str, Node]", directory.children)
