"""A log copied into a file without a name, to be read as often and as slowly as one likes.

Who goes through a log step by step thinks for minutes: no server waits for that, and the ledger
may be used by others meanwhile. The file is gone with the process, as what is in it is secret.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from events.codec import CloudEvent, UnreadableRecord, read
from service.errors import LedgerDamaged, LedgerError
from service.ports import StoredEntry

_LENGTH_BYTES = 4
_READ_BYTES = 1 << 20


class LogCopy:
    """The records of a log from the first on; a context that closes the file. It blocks."""

    def __init__(self) -> None:
        """Raises LedgerError when there is no place for it."""
        self.last_seq = 0
        try:
            self._file = tempfile.TemporaryFile(prefix="gpuledger-replay-")  # noqa: SIM115
        except OSError as error:
            raise _no_room(error) from error

    def append(self, entries: Sequence[StoredEntry]) -> None:
        """Add the records that follow. Raises LedgerError."""
        try:
            for entry in entries:
                self._file.write(len(entry.body).to_bytes(_LENGTH_BYTES, "big") + entry.body)
        except OSError as error:
            raise _no_room(error) from error
        self.last_seq += len(entries)

    def records(self) -> Iterator[tuple[int, CloudEvent]]:
        """All of them with their sequences. Raises LedgerDamaged at one that cannot be read."""
        self._flush()
        with os.fdopen(os.dup(self._file.fileno()), "rb", _READ_BYTES) as file:
            file.seek(0)
            for seq in range(1, self.last_seq + 1):
                body = file.read(int.from_bytes(file.read(_LENGTH_BYTES), "big"))
                try:
                    event = read(body)
                except UnreadableRecord as error:
                    raise LedgerDamaged(f"record {seq} cannot be read: {error}") from error
                yield seq, event

    def _flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise _no_room(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _no_room(error: OSError) -> LedgerError:
    folder = tempfile.gettempdir()
    return LedgerError(
        f"{folder} cannot hold a copy of the log ({error.strerror}): make room there, name another"
        " folder with TMPDIR, or copy less with --to"
    )
