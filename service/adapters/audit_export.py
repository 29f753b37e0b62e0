"""An export of the audit as it is read back: one JSON object a line.

    {"export": {...}}      first: what it is about
    {"row": {...}}         what somebody did, or was refused
    {"record": {...}}      a record as it is stored, with the body as text
    {"refusal": {...}}     a refusal, the same way
    {"checkpoint": {...}}  last: what proves the records and the refusals
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from service.audit_ports import Checkpoint
from service.errors import AuditError
from service.ports import StoredEntry

FORMAT = 1
BATCH_RECORDS = 1_000


class About(Struct, frozen=True, rename={"begin": "from", "end": "to"}):
    """The first line of an export."""

    format: int
    first: int
    """The sequence that the rows begin with."""
    last: int
    records: bool
    """Are the records in it, and the refusals?"""
    begin: str = ""
    """From where on, as it was asked for: a sequence or an instant."""
    end: str = ""


class _Record(Struct, frozen=True):
    seq: int
    subject: str
    id: str
    body: str | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET

    @property
    def entry(self) -> StoredEntry:
        body = self.body.encode() if isinstance(self.body, str) else self.base64
        return StoredEntry(self.seq, self.subject, self.id, body or b"")


class _Line(Struct, frozen=True):
    export: About | UnsetType = UNSET
    row: dict[str, Any] | UnsetType = UNSET
    record: _Record | UnsetType = UNSET
    refusal: _Record | UnsetType = UNSET
    checkpoint: Checkpoint | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Line).decode


class ExportFile:
    """The parts of an export, each read when it is asked for. Raises AuditError. Blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        first = next(self._lines(), None)
        if first is None or isinstance(first.export, UnsetType):
            raise AuditError(f"{path} is no export of the audit as JSON lines")
        if first.export.format != FORMAT:
            raise AuditError(f"{path} has format {first.export.format}, not {FORMAT}")
        self.about = first.export

    def rows(self) -> list[dict[str, Any]]:
        """What it says was done."""
        return [line.row for line in self._lines() if not isinstance(line.row, UnsetType)]

    def checkpoint(self) -> Checkpoint | None:
        """What proves it; None of an export that was cut off."""
        found = None
        for line in self._lines():
            if not isinstance(line.checkpoint, UnsetType):
                found = line.checkpoint
        return found

    def batches(self) -> Iterator[Sequence[StoredEntry]]:
        """The records."""
        return _batched(line.record for line in self._lines())

    def refusals(self) -> Iterator[Sequence[StoredEntry]]:
        """The refusals."""
        return _batched(line.refusal for line in self._lines())

    def _lines(self) -> Iterator[_Line]:
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        yield _decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError) as error:
                        raise AuditError(f"line {number} of {self._path}: {error}") from error
        except OSError as error:
            raise AuditError(f"{self._path} cannot be read ({error.strerror})") from error


def _batched(found: Iterable[_Record | UnsetType]) -> Iterator[Sequence[StoredEntry]]:
    batch: list[StoredEntry] = []
    for one in found:
        if isinstance(one, UnsetType):
            continue
        batch.append(one.entry)
        if len(batch) == BATCH_RECORDS:
            yield batch
            batch = []
    if batch:
        yield batch
