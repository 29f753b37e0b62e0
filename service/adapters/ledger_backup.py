"""A ledger as files that can be read without a ledger server: written, added to, read back.

    DIR/ledger-0000000001-0000200000.jsonl.gz   records, one a line
    DIR/refusals-0123456789abcdef.jsonl.gz      what was refused (`refusals_backup.py`)
    DIR/manifest.json                           which parts there are, their checksums, the fold's

The manifest is written last, so a part that it does not name is what an interrupted backup left,
and the next one takes it away.
"""

import asyncio
import fcntl
import gzip
import hashlib
import os
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec
from msgspec import Struct

from service.adapters.backup_lines import LINE_BYTES_MAX, BadLine, decode_line, encode_line
from service.adapters.refusals_backup import RefusalsFile
from service.errors import LedgerDamaged, LedgerError, SettingsError
from service.ports import StoredEntry

MANIFEST = "manifest.json"
FORMAT = 1
PART_RECORDS_MAX = 200_000
"""So that a part is checked, copied and replaced alone."""
READ_RECORDS = 1_000
"""Records that are read at a stretch, some 5 ms in a thread."""

_PARTIAL = ".partial"
_OURS = re.compile(
    r"(ledger-\d{10,}-\d{10,}\.jsonl\.gz|refusals-\w+\.jsonl\.gz|manifest\.json)(\.partial)?"
)
_COMPRESSION = 4
"""A seventh larger than zlib's usual 6, in half the time."""


class Part(Struct, frozen=True):
    """A file of consecutive records."""

    name: str
    first_seq: int
    last_seq: int
    bytes: int
    sha256: str
    """Of the file as it lies there."""
    lines_sha256: str
    """Of its lines, uncompressed: the same records give the same, wherever they are read from."""


class Manifest(Struct, frozen=True):
    """What a backup holds, of which installation."""

    format: int
    node: str
    owner: str
    first_seq: int
    last_seq: int
    made_at: str
    """RFC 3339, UTC."""
    gpuledger: str
    """The version that wrote it."""
    fold_sha256: str
    """Of all rows that the records up to `last_seq` make in the read store."""
    fold_schema: int
    """The read store's schema; the digests of two can only be compared when it is the same."""
    parts: tuple[Part, ...]
    refusals: RefusalsFile | None = None
    """None in a backup of before 0.6.0."""

    @property
    def names(self) -> set[str]:
        """Of its files."""
        also = () if self.refusals is None else (self.refusals.name,)
        return {MANIFEST, *(part.name for part in self.parts), *also}


async def load_manifest(folder: Path) -> Manifest:
    """What the backup holds. Raises LedgerDamaged when there is none, or it cannot be read."""
    manifest = await asyncio.to_thread(_load, folder)
    if manifest is None:
        raise LedgerDamaged(
            f"{folder} has no {MANIFEST}: it is no backup, or one that was never finished"
        )
    return manifest


async def read_parts(
    folder: Path, parts: Sequence[Part]
) -> AsyncGenerator[Sequence[StoredEntry], None]:
    """The records of these parts in order, in batches, each part checked to its end.

    Raises LedgerDamaged, naming the file and, where it can be known, the line and the seq.
    """
    for part in parts:
        batches = _read(folder / part.name, part)
        while batch := await asyncio.to_thread(next, batches, None):
            yield batch


class BackupFolder:
    """A folder that a backup is written to, for one process at a time (an async context)."""

    def __init__(self, path: Path, part_records_max: int = PART_RECORDS_MAX) -> None:
        self.path = path.absolute()
        self._part_records_max = part_records_max
        self.manifest: Manifest | None = None
        """What is there already."""
        self._open = ExitStack()

    async def __aenter__(self) -> Self:
        """Make the folder, or look what is in it.

        Raises SettingsError when it is no place for a backup or another one is being written
        there, LedgerDamaged when its manifest cannot be read.
        """
        await asyncio.to_thread(self._enter)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    async def write(
        self, batches: AsyncIterator[Sequence[StoredEntry]]
    ) -> tuple[Part, ...]:
        """Write records as new parts, on disk when it returns. `commit` makes them count.

        Raises LedgerError when the disk does not take them.
        """
        parts: list[Part] = []
        writer: _PartWriter | None = None
        try:
            async for batch in batches:
                rest = batch
                while rest:
                    if writer is None:
                        writer = await asyncio.to_thread(
                            _PartWriter, self.path, rest[0].seq, self._part_records_max
                        )
                    some, rest = rest[: writer.room], rest[writer.room :]
                    await asyncio.to_thread(writer.write, some)
                    if not writer.room:
                        parts.append(await asyncio.to_thread(writer.finish))
                        writer = None
            if writer is not None:
                parts.append(await asyncio.to_thread(writer.finish))
        except OSError as error:
            raise LedgerError(f"{self.path}: the backup cannot be written: {error}") from error
        finally:
            if writer is not None:
                writer.abandon()
        return tuple(parts)

    async def commit(self, manifest: Manifest) -> None:
        """Replace the manifest at once: before it the old backup counts, after it the new one."""
        old = self.manifest.names if self.manifest else set()
        try:
            await asyncio.to_thread(_write_manifest, self.path, manifest)
            for name in old - manifest.names:
                await asyncio.to_thread((self.path / name).unlink, missing_ok=True)
        except OSError as error:
            raise LedgerError(f"{self.path}: the backup cannot be written: {error}") from error
        self.manifest = manifest

    def _enter(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._open.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            names = {entry.name for entry in self.path.iterdir()}
            self.manifest = _load(self.path)
            kept = self.manifest.names if self.manifest else ()
            foreign = sorted(name for name in names if not _OURS.fullmatch(name))
            if foreign and self.manifest is None:
                raise SettingsError(
                    f"{self.path} is not empty ({foreign[0]}) and no backup: choose another folder"
                )
            for name in names.difference(kept, foreign):
                (self.path / name).unlink()  # an interrupted backup left it
        except BlockingIOError:
            self._open.close()
            raise SettingsError(f"{self.path}: another backup is being written there") from None
        except OSError as error:
            self._open.close()
            raise SettingsError(
                f"{self.path} cannot hold a backup ({error.strerror}): choose another folder"
            ) from error
        except BaseException:
            self._open.close()
            raise


class _PartWriter:
    """One part on its way to the disk, under a temporary name."""

    def __init__(self, folder: Path, first_seq: int, records_max: int) -> None:
        self._folder = folder
        self._end_seq = first_seq + records_max
        self._first_seq = self._next_seq = first_seq
        self._partial = folder / f"ledger-{first_seq:010}-{first_seq:010}.jsonl.gz{_PARTIAL}"
        self._lines = hashlib.sha256()
        self._open = ExitStack()
        self._file = self._open.enter_context(_create(self._partial))
        # Without a name and a time in it, the same records make the same file.
        self._gzip = self._open.enter_context(
            gzip.GzipFile("", "wb", _COMPRESSION, self._file, mtime=0)
        )

    @property
    def room(self) -> int:
        """How many more records it takes."""
        return self._end_seq - self._next_seq

    def write(self, entries: Sequence[StoredEntry]) -> None:
        text = b"".join([encode_line(entry) + b"\n" for entry in entries])
        self._gzip.write(text)
        self._lines.update(text)
        self._next_seq += len(entries)

    def finish(self) -> Part:
        """On disk, and under its own name."""
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._open.close()
        last_seq = self._next_seq - 1
        path = self._folder / f"ledger-{self._first_seq:010}-{last_seq:010}.jsonl.gz"
        self._partial.rename(path)
        _sync_folder(self._folder)
        return Part(
            path.name,
            self._first_seq,
            last_seq,
            path.stat().st_size,
            _sha256(path),
            self._lines.hexdigest(),
        )

    def abandon(self) -> None:
        """Leave nothing of a part that was not finished; of a finished one there is nothing."""
        with suppress(OSError):  # what it could not write before, it tries once more
            self._open.close()
        self._partial.unlink(missing_ok=True)


def _read(path: Path, part: Part) -> Iterator[list[StoredEntry]]:
    """The batches of a part; the last one only when all of it was right. It blocks."""
    seq = part.first_seq - 1
    batch: list[StoredEntry] = []
    try:
        with path.open("rb") as file, gzip.GzipFile(fileobj=file) as lines:
            for line in iter(partial(lines.readline, LINE_BYTES_MAX), b""):
                entry = decode_line(line)
                if entry.seq != seq + 1 or seq == part.last_seq:
                    raise BadLine(f"it holds seq {entry.seq}")
                seq += 1
                batch.append(entry)
                if len(batch) == READ_RECORDS:
                    yield batch
                    batch = []
    except FileNotFoundError as error:
        records = f"records {part.first_seq} to {part.last_seq}"
        raise LedgerDamaged(f"{path} is missing, with {records}") from error
    except (OSError, EOFError, zlib.error, BadLine) as error:
        line_number = seq - part.first_seq + 2
        raise LedgerDamaged(
            f"{path} is damaged at line {line_number} (seq {seq + 1}): {error}"
        ) from error
    if seq != part.last_seq:
        line_number = seq - part.first_seq + 2
        raise LedgerDamaged(
            f"{path} ends before line {line_number} (seq {seq + 1});"
            f" it should go to seq {part.last_seq}"
        )
    if _sha256(path) != part.sha256:
        raise LedgerDamaged(f"{path} is not the file that was written: its checksum is another")
    if batch:
        yield batch


def _load(folder: Path) -> Manifest | None:
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerDamaged(f"{path} cannot be read: {error}") from error
    if manifest.format != FORMAT:
        raise LedgerDamaged(
            f"{path} has format {manifest.format}, not {FORMAT}: another gpuledger wrote it"
        )
    seq = 1
    for part in manifest.parts:
        if part.first_seq != seq or part.last_seq < seq or not _OURS.fullmatch(part.name):
            raise LedgerDamaged(f"{path} is damaged: {part.name} should begin with seq {seq}")
        seq = part.last_seq + 1
    if manifest.refusals is not None and not _OURS.fullmatch(manifest.refusals.name):
        raise LedgerDamaged(f"{path} is damaged: {manifest.refusals.name} is no file of a backup")
    if (manifest.first_seq, manifest.last_seq + 1) != (1, seq):
        raise LedgerDamaged(f"{path} is damaged: its parts end at seq {seq - 1}")
    return manifest


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    partial_path = folder / f"{MANIFEST}{_PARTIAL}"
    with _create(partial_path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial_path.rename(folder / MANIFEST)
    _sync_folder(folder)


def _create(path: Path) -> BinaryIO:
    """For its owner only: records hold environments, and these hold passwords."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
