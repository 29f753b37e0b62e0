"""Layers on their way through our own disk: too large for memory, read more than once.

They lie in a folder of their own in the temporary folder (TMPDIR), which is gone afterwards.
"""

import errno
import hashlib
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from msgspec import Struct

from service.adapters.docker_layers import Layer, read_layer
from service.errors import EngineRefused

_PIECE_BYTES = 1 << 20


class Spooled(Struct, frozen=True):
    """A layer that was read, and its tar; None of a layer of the base, whose data nobody needs."""

    layer: Layer
    file: Path | None
    diff_id: str
    """By what was read."""


class Spool:
    """Takes layers out of a stream: of the base's what they say, of all others their tars too."""

    def __init__(self, folder: Path, base_diff_ids: Collection[str]) -> None:
        self._folder = folder
        self._base_diff_ids = base_diff_ids
        self._count = 0

    def take(self, name: str, stream: IO[bytes]) -> Spooled:
        """As `docker_saved.ReadLayer`. Raises EngineRefused when the disk does not take it."""
        named = f"sha256:{name.rpartition('/')[2]}"
        if named in self._base_diff_ids:
            return Spooled(read_layer(stream), None, named)
        # Docker 20.10 does not say which layer it is: its digest does, at the end.
        self._count += 1
        path = self._folder / f"{self._count}.tar"
        with own_disk():
            with path.open("wb") as file:
                copying = _Copying(stream, file)
                layer = read_layer(cast("IO[bytes]", copying))
                while copying.read(_PIECE_BYTES):
                    pass
            if copying.diff_id in self._base_diff_ids:
                path.unlink()
                return Spooled(layer, None, copying.diff_id)
        return Spooled(layer, path, copying.diff_id)


@contextmanager
def spool_folder() -> Iterator[Path]:
    """A new empty folder, removed with all that is in it."""
    with own_disk():
        made = tempfile.TemporaryDirectory(prefix="gpuledger-layers-")
    with made as folder:
        yield Path(folder)


@contextmanager
def own_disk() -> Iterator[None]:
    """What goes wrong in here is our disk's doing, and not the engine's. Raises EngineRefused."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise EngineRefused(
            f"layers could not be made one in the folder {tempfile.gettempdir()}: {error}."
            " The variable TMPDIR names another one.",
            "no_space" if full else "refused",
        ) from error


class _Copying:
    """A stream that leaves a copy of what is read from it."""

    def __init__(self, stream: IO[bytes], copy: IO[bytes]) -> None:
        self._stream = stream
        self._copy = copy
        self._digest = hashlib.sha256()

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        self._digest.update(piece)
        self._copy.write(piece)
        return piece
