"""One layer made of several, as a tar that shows the same on the same base.

Of every path only the newest entry is taken over, byte for byte as its layer has it, attributes
included. A deletion is taken over only where the base has the path, and nothing newer hides the
base there: overlayfs hides deletions only in directories that have something below them, elsewhere
they would show as names that cannot be read.
"""

import errno
import hashlib
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO

from service.adapters.docker_layers import (
    ENCODING,
    ERRORS,
    OPAQUE,
    WHITEOUT,
    LayerEntry,
    Node,
    padded,
)
from service.errors import EngineRefused

_PIECE_BYTES = 1 << 20
_END = bytes(2 * tarfile.BLOCKSIZE)


def shown(upper: Node, base: Node) -> Iterator[tuple[str, Node | None]]:
    """What one layer has to say so that `upper` shows on `base`: path and node, parents first.

    None stands for a mark, whose path then is that of its whiteout.
    """
    # No recursion: a path can have more levels than Python's stack.
    left: list[tuple[str, Node, Node | None]] = [("", upper, base)]
    while left:
        path, node, below = left.pop()
        hides = below is not None and below.there
        if not node.there:
            if hides:
                folder, name = posixpath.split(path)
                yield posixpath.join(folder, WHITEOUT + name), None
            continue
        if node.entry is not None:
            yield path, node
        if node.opaque:
            if hides:
                yield posixpath.join(path, OPAQUE), None
            below = None
        under = (below.children if below is not None else None) or {}
        for name, child in sorted((node.children or {}).items(), reverse=True):
            left.append((posixpath.join(path, name), child, under.get(name)))


class LayerMerge:
    """Writes the tar of one layer to `out`.

    `layers` are the seekable tars of those it is made of, by the number that the nodes have.
    `go_on` is called before each entry, and raises to give up.
    """

    def __init__(
        self, layers: Sequence[IO[bytes]], out: IO[bytes], go_on: Callable[[], None]
    ) -> None:
        self._layers = layers
        self._out = out
        self._go_on = go_on
        self._digest = hashlib.sha256()
        self._names: dict[tuple[int, int], str] = {}
        """Under which path a file's data was written, by its layer and origin there."""
        self.size_bytes = 0

    def write(self, upper: Node, base: Node) -> str:
        """Write all of it; the layer's diff id. Raises EngineRefused, OSError of the files."""
        for path, node in shown(upper, base):
            self._go_on()
            if node is None or node.entry is None:
                self._header(tarfile.TarInfo(path))
            else:
                self._entry(node.layer, node.entry)
        self._put(_END)
        return f"sha256:{self._digest.hexdigest()}"

    def _entry(self, number: int, entry: LayerEntry) -> None:
        if entry.kind == tarfile.LNKTYPE:
            raise EngineRefused(
                f"/{entry.path} is a hard link to a file of another layer: such layers cannot be"
                " made one"
            )
        layer = self._layers[number]
        if entry.kind == tarfile.DIRTYPE:
            self._copy(layer, entry.start, entry.length)
            return
        written = self._names.setdefault((number, entry.origin), entry.path)
        if written != entry.path:
            self._link(layer, entry, written)
        elif entry.origin == entry.start:
            self._copy(layer, entry.start, entry.length)
        else:
            self._take_over(layer, entry)

    def _take_over(self, layer: IO[bytes], entry: LayerEntry) -> None:
        """The name that had the data is gone, or comes later: this one gets them."""
        header = _read_header(layer, entry.origin)
        header.name = entry.path
        data_start = header.offset_data
        self._header(header)
        self._copy(layer, data_start, padded(entry.size))

    def _link(self, layer: IO[bytes], entry: LayerEntry, written: str) -> None:
        # Docker sets owner, mode and attributes again for every name of a file, from its header.
        header = _read_header(layer, entry.start)
        header.type, header.linkname, header.size = tarfile.LNKTYPE, written, 0
        self._header(header)

    def _header(self, header: tarfile.TarInfo) -> None:
        self._put(header.tobuf(tarfile.PAX_FORMAT, ENCODING, ERRORS))

    def _copy(self, layer: IO[bytes], start: int, length: int) -> None:
        layer.seek(start)
        while length > 0:
            piece = layer.read(min(length, _PIECE_BYTES))
            if not piece:
                raise OSError(errno.EIO, f"a layer ends {length} bytes early")
            self._put(piece)
            length -= len(piece)

    def _put(self, piece: bytes) -> None:
        self._out.write(piece)
        self._digest.update(piece)
        self.size_bytes += len(piece)


def _read_header(layer: IO[bytes], start: int) -> tarfile.TarInfo:
    """The header there, ready to be written with other names."""
    layer.seek(start)
    with tarfile.open(fileobj=layer, mode="r:", encoding=ENCODING, errors=ERRORS) as tar:
        header = tar.next()
    if header is None:
        raise OSError(errno.EIO, "a layer ends where a header was")
    own = ("path", "linkpath", "size")
    header.pax_headers = {key: text for key, text in header.pax_headers.items() if key not in own}
    return header
