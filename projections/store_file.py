"""The read store's file: what is written to it and how, and whether it is still the one opened.

All of this blocks; it runs in the read store's own thread.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path

import msgspec

from projections import schema
from projections.tables import Row, Value

ROWS_PER_STATEMENT_MAX = 1_000
"""A statement with many rows gives up the interpreter lock once, not once a row: while records
are folded, getting the lock back takes up to 5 ms. SQLite allows 32,766 parameters."""

_PRIVATE = 0o600
_DAMAGES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_OUT_OF_REACH = (
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED),
)


def keep_private(path: Path) -> None:
    """Close a file to all but its owner before SQLite opens it, and make it where it is not there.

    Environments are in it, and the folder may be open to others. The files beside it get its mode.
    What cannot be made or changed is for SQLite to say, when it opens it.
    """
    with suppress(OSError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(path, flags, _PRIVATE))
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + suffix).chmod(_PRIVATE)


class StoreFile:
    """The file that a read store has open. `mark` is where a reader notes damage."""

    def __init__(self, path: Path, mark: Path) -> None:
        self._path = path
        self._mark = mark
        self._seen: os.stat_result | None = None

    def remember(self) -> None:
        """It was opened just now."""
        with suppress(FileNotFoundError):
            self._seen = self._path.stat()

    def forget(self) -> None:
        """It is closed: the next look is at another one."""
        self._seen = None

    def lost(self) -> str | None:
        """Why the open file is not what was written; None when it is."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return "it is gone"
        seen, self._seen = self._seen or now, now
        if (now.st_dev, now.st_ino) != (seen.st_dev, seen.st_ino):
            return "another file is in its place"
        if now.st_size < seen.st_size:  # SQLite never makes it shorter
            return "it was cut off"
        if self._mark.exists():
            return "it was found damaged"
        try:
            # By SQLite itself: to open and close the file otherwise would end its locks.
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as probe:
                probe.execute("SELECT seq FROM position").fetchone()
        except sqlite3.DatabaseError as error:
            # A plain error of SQL: the table is gone, so the file begins anew by itself.
            wrong = is_damage(error) or error.sqlite_errorcode == sqlite3.SQLITE_ERROR
            return str(error) if wrong else None
        return None


@contextmanager
def transaction(writer: sqlite3.Connection) -> Iterator[None]:
    """All that is written within, or nothing of it."""
    outermost = not writer.in_transaction  # a rebuild is one transaction as a whole
    if outermost:
        writer.execute("BEGIN IMMEDIATE")
    try:
        yield
        if outermost:
            writer.execute("COMMIT")
    except BaseException:
        if outermost and writer.in_transaction:
            writer.execute("ROLLBACK")
        raise


def upsert(writer: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    """Write rows, many a statement."""
    for begin in range(0, len(rows), ROWS_PER_STATEMENT_MAX):
        some = rows[begin : begin + ROWS_PER_STATEMENT_MAX]
        values = list(chain.from_iterable(some))
        writer.execute(schema.upsert(table, len(some)), values)


def bodies(writer: sqlite3.Connection, sql: str, *values: Value) -> list[bytes]:
    """The first column of what a statement gives."""
    return [row[0] for row in writer.execute(sql, values)]


def is_damage(error: Exception) -> bool:
    """Does the file hold something else than what was written? (Not: is it locked, or full.)"""
    if isinstance(error, msgspec.DecodeError):
        return True
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _DAMAGES  # the bits above tell where it was noticed


def is_away(error: sqlite3.Error) -> bool:
    """May the same be written when there is room, or the disk is back?"""
    return error.sqlite_errorcode & 0xFF in _OUT_OF_REACH
