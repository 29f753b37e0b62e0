"""Refusals as a file of a backup: all that were kept when it was made, written and read back.

The log of them forgets, so the file is made anew each time. It is called by what is in it: the
one that the manifest names stays whole until there is another.
"""

import asyncio
import gzip
import hashlib
import os
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from msgspec import Struct

from service.adapters.backup_lines import LINE_BYTES_MAX, BadLine, decode_line, encode_line
from service.errors import LedgerDamaged, LedgerError
from service.ports import StoredEntry

READ_ENTRIES = 1_000
_FRESH = "refusals-new.jsonl.gz.partial"
_COMPRESSION = 4


class RefusalsFile(Struct, frozen=True):
    """What a backup holds of refusals."""

    name: str
    count: int
    bytes: int
    sha256: str
    """Of the file as it lies there."""


async def write_refusals(
    folder: Path, batches: AsyncIterator[Sequence[StoredEntry]]
) -> RefusalsFile:
    """Write them to the folder, on disk when it returns; a manifest makes them count.

    Raises LedgerError when the disk does not take them.
    """
    writer: _Writer | None = None
    try:
        writer = await asyncio.to_thread(_Writer, folder)
        async for batch in batches:
            await asyncio.to_thread(writer.write, batch)
        return await asyncio.to_thread(writer.finish)
    except OSError as error:
        raise LedgerError(f"{folder}: the backup cannot be written: {error}") from error
    finally:
        if writer is not None:
            await asyncio.to_thread(writer.abandon)


async def read_refusals_file(
    folder: Path, file: RefusalsFile
) -> AsyncGenerator[Sequence[StoredEntry], None]:
    """Those of a backup in batches, the file checked to its end.

    Raises LedgerDamaged, naming the file and, where it can be known, the line.
    """
    batches = _read(folder / file.name, file)
    while batch := await asyncio.to_thread(next, batches, None):
        yield batch


class _Writer:
    """The file on its way to the disk, under a temporary name. It blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder / _FRESH
        self._lines = hashlib.sha256()
        self._count = 0
        self._open = ExitStack()
        # For its owner only: who was refused what is not for everybody.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        descriptor = os.open(self._partial, flags, 0o600)
        self._file = self._open.enter_context(os.fdopen(descriptor, "wb"))
        self._gzip = self._open.enter_context(
            gzip.GzipFile("", "wb", _COMPRESSION, self._file, mtime=0)
        )

    def write(self, entries: Sequence[StoredEntry]) -> None:
        text = b"".join([encode_line(entry) + b"\n" for entry in entries])
        self._gzip.write(text)
        self._lines.update(text)
        self._count += len(entries)

    def finish(self) -> RefusalsFile:
        """On disk, and under its own name."""
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._open.close()
        path = self._folder / f"refusals-{self._lines.hexdigest()[:16]}.jsonl.gz"
        self._partial.rename(path)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return RefusalsFile(path.name, self._count, path.stat().st_size, _sha256(path))

    def abandon(self) -> None:
        """Leave nothing of one that was not finished; of a finished one there is nothing."""
        with suppress(OSError):  # what it could not write before, it tries once more
            self._open.close()
        self._partial.unlink(missing_ok=True)


def _read(path: Path, file: RefusalsFile) -> Iterator[list[StoredEntry]]:
    """Its batches; the last one only when all of it was right. It blocks."""
    count = number = 0
    batch: list[StoredEntry] = []
    try:
        with path.open("rb") as compressed, gzip.GzipFile(fileobj=compressed) as lines:
            for line in iter(partial(lines.readline, LINE_BYTES_MAX), b""):
                entry = decode_line(line)
                if entry.seq <= number or count == file.count:
                    raise BadLine(f"it holds number {entry.seq}")
                number, count = entry.seq, count + 1
                batch.append(entry)
                if len(batch) == READ_ENTRIES:
                    yield batch
                    batch = []
    except FileNotFoundError as error:
        raise LedgerDamaged(f"{path} is missing, with {file.count} refusals") from error
    except (OSError, EOFError, zlib.error, BadLine) as error:
        raise LedgerDamaged(f"{path} is damaged at line {count + 1}: {error}") from error
    if count != file.count:
        raise LedgerDamaged(f"{path} ends before line {count + 1} of {file.count}")
    if _sha256(path) != file.sha256:
        raise LedgerDamaged(f"{path} is not the file that was written: its checksum is another")
    if batch:
        yield batch


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
