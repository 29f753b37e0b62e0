"""The read store: the projections as SQLite rows, and the queries on them.

One thread writes, with one connection and one call per batch: a hop between threads for every
statement would cost more than the statements. Readers have connections of their own, which
cannot write; WAL lets them go on while a batch is written.

    ReadStoreError
    ├── StoreFenced     another projector moved the position; nothing was written
    ├── StoreAway       the disk is full or read-only, or the file out of reach; try again
    └── StoreDamaged    the file cannot be read; the next `open` begins a new one
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiosqlite
import msgspec

from projections import schema, tables
from projections.queries import Queries
from projections.state import FINISHED_OPERATIONS_MAX, State
from projections.store_file import (
    StoreFile,
    bodies,
    is_away,
    is_damage,
    keep_private,
    transaction,
    upsert,
)
from projections.tables import Batch, Row, Value
from projections.usage import Usage

READERS = 2
DUMP_ROWS = 1_000

_BUSY_TIMEOUT_MS = 5_000
_REBUILD_CACHE_KIB = 256 * 1024
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class ReadStoreError(Exception):
    """Base of what can go wrong with the read store. The text is for people."""


class StoreFenced(ReadStoreError):
    """The position is not where this projector left it: another one writes to this file."""


class StoreAway(ReadStoreError):
    """The disk is full or read-only, or the file is locked or out of reach. Nothing was written."""


class StoreDamaged(ReadStoreError):
    """The file cannot be read. It is marked, and the next `open` begins a new one."""


class ReadStore(Queries):
    """The read store in a file.

    Every method raises StoreDamaged when the file cannot be read. When the disk is full, or the
    file is locked or out of reach, queries and `apply` raise StoreAway, the others sqlite3.Error.
    """

    def __init__(self, path: Path, readers: int = READERS) -> None:
        self._path = path.absolute()
        self._mark = self._path.with_name(self._path.name + ".damaged")
        self._reader_count = readers
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._readers: list[aiosqlite.Connection] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-store")
        self._writer: sqlite3.Connection | None = None
        self._file = StoreFile(self._path, self._mark)

    async def open(self) -> None:
        """Open the file. One that is absent, damaged or of another version begins empty."""
        try:
            await self._in_thread(self._open_writer)
            await self._open_readers()
        except BaseException:
            await self.close()
            raise

    async def _open_readers(self) -> None:
        for _ in range(self._reader_count):
            reader = await aiosqlite.connect(
                f"{self._path.as_uri()}?mode=ro", uri=True, isolation_level=None
            )
            self._readers.append(reader)
            await reader.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            self._idle.put_nowait(reader)

    async def close(self) -> None:
        """Finish the batch being written, then close all connections. `open` opens again."""
        readers, self._readers = self._readers, []
        self._idle = asyncio.Queue()  # before the first is closed: none of them is taken any more
        for reader in readers:
            await reader.close()
        await self._in_thread(self._close_writer)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def apply(self, batch: Batch) -> None:
        """Write a batch and move the position, all or nothing.

        Raises StoreFenced, and StoreAway: then it may be applied again.
        """
        await self._in_thread(partial(self._apply, batch))

    async def lost(self) -> str | None:
        """Why what is written to the open file is lost, or read from it wrong; None when well.

        A file that was deleted or replaced goes on working for whoever has it open.
        """
        return await self._in_thread(lambda: self._file.lost() if self._writer else None)

    async def load(self) -> tuple[State, Usage]:
        """Both folds at `position`, from the rows; from rows that cannot be read, empty ones."""
        try:
            return await self._in_thread(self._load)
        except StoreDamaged:
            await self.close()
            await self.open()
            return State(), Usage()

    async def load_state(self) -> State:
        """The state alone."""
        return (await self.load())[0]

    @asynccontextmanager
    async def fast_rebuild(self) -> AsyncIterator[None]:
        """Begin from empty, and write all within in one go; until it is done, nobody reads.

        Left by an exception the store is closed, and the next `open` throws the file away; so
        it does after a crash.
        """
        await self.close()
        try:
            await self._in_thread(self._begin_rebuild)
            yield
            await self._in_thread(self._end_rebuild)
            await self._open_readers()
        except BaseException:
            await self.close()
            raise

    async def rows(self) -> AsyncIterator[tuple[str, list[Row]]]:
        """Every row of every table, some at a time, in the order of the keys; one snapshot."""
        async with self._reader() as reader:
            await reader.execute("BEGIN")
            try:
                for table in schema.COLUMNS:
                    async with reader.execute(schema.select_all(table)) as cursor:
                        while some := await cursor.fetchmany(DUMP_ROWS):
                            yield table, [tuple(row) for row in some]
            finally:
                await reader.execute("ROLLBACK")

    async def dump(self) -> dict[str, list[Row]]:
        """All rows by table, to compare two stores; `rows` does it without holding them all."""
        dump: dict[str, list[Row]] = {table: [] for table in schema.COLUMNS}
        async for table, some in self.rows():
            dump[table] += some
        return dump

    async def _rows(self, sql: str, *values: Value) -> list[Any]:
        async with self._reader() as reader:
            try:
                return list(await reader.execute_fetchall(sql, values))
            except sqlite3.OperationalError as error:
                raise StoreAway(f"{self._path} cannot be asked: {error}") from error

    def _decoded(self, read: Callable[[Any], _T], bodies: Iterable[Any]) -> list[_T]:
        with self._damage_noted():
            return list(map(read, bodies))

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[aiosqlite.Connection]:
        if not self._readers:
            raise StoreAway("the read store is not open")
        idle = self._idle  # `close` and `open` make another one
        reader = await idle.get()
        if idle is not self._idle:
            idle.put_nowait(reader)  # for the next who waits there, to learn the same
            raise StoreAway(f"{self._path} is being opened anew")
        try:
            with self._damage_noted():
                yield reader
        finally:
            idle.put_nowait(reader)

    # -- in the writing thread ----------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        with self._damage_noted():
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @contextmanager
    def _damage_noted(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
            if not is_damage(error):
                raise
            self._mark.touch()
            raise StoreDamaged(f"{self._path} cannot be read: {error}") from error

    def _open_writer(self) -> None:
        if reason := self._fault():
            _log.warning("the read store %s begins anew: %s", self._path, reason)
            self._remove_files()
        self._writer = self._connect()
        with transaction(self._writer):
            if self._writer.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in (*schema.DDL, *schema.INDEXES):
                    self._writer.execute(statement)
                self._writer.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
        self._file.remember()

    def _connect(self) -> sqlite3.Connection:
        keep_private(self._path)
        writer = sqlite3.connect(self._path, isolation_level=None)
        try:
            writer.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
            writer.execute("PRAGMA journal_mode = WAL")
            writer.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error:
            writer.close()
            raise
        return writer

    def _close_writer(self) -> None:
        self._file.forget()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _fault(self) -> str | None:
        """Why the file cannot be used; None when it can be, or there is none."""
        if self._mark.exists():
            return "it was found damaged"
        try:
            with closing(self._connect()) as probe:
                (version,) = probe.execute("PRAGMA user_version").fetchone()
                (objects,) = probe.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return str(error)
        if version == schema.SCHEMA_VERSION or not objects:
            return None
        return f"its schema has version {version}, not {schema.SCHEMA_VERSION}"

    def _remove_files(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)  # last, so that a crash before it repeats all this

    def _begin_rebuild(self) -> None:
        """One transaction without a journal: what is not finished is thrown away anyway."""
        self._remove_files()
        self._writer = writer = self._connect()
        writer.execute("PRAGMA journal_mode = OFF")
        writer.execute(f"PRAGMA cache_size = -{_REBUILD_CACHE_KIB}")
        for statement in schema.DDL:
            writer.execute(statement)
        writer.execute("BEGIN")

    def _end_rebuild(self) -> None:
        """Sync everything, and only then say that the file is whole."""
        writer = self._open_connection()
        for statement in schema.INDEXES:
            writer.execute(statement)
        writer.execute("COMMIT")
        writer.execute(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
        self._close_writer()
        self._writer = self._connect()
        self._file.remember()

    def _open_connection(self) -> sqlite3.Connection:
        if self._writer is None:
            raise ReadStoreError("the read store is not open")
        return self._writer

    def _apply(self, batch: Batch) -> None:
        writer = self._open_connection()
        again = not writer.in_transaction  # a rebuild that fails begins from empty
        try:
            self._apply_in(writer, batch)
        except sqlite3.OperationalError as error:
            if again and is_away(error):
                raise StoreAway(f"{self._path} cannot be written to: {error}") from error
            raise

    def _apply_in(self, writer: sqlite3.Connection, batch: Batch) -> None:
        with transaction(writer):
            moved = writer.execute(schema.MOVE_POSITION, (batch.seq, batch.after_seq))
            if moved.rowcount != 1:
                raise StoreFenced(
                    f"{self._path} is no longer at record {batch.after_seq}:"
                    " another projector writes to it"
                )
            for table, keys in batch.gone.items():
                writer.executemany(schema.delete(table), keys)
            for table, aggregates in batch.changed.items():
                upsert(writer, table, list(map(tables.ROW_OF[table], aggregates)))
            upsert(writer, "history", batch.history)

    def _load(self) -> tuple[State, Usage]:
        writer = self._open_connection()

        with transaction(writer):
            (seq,) = writer.execute("SELECT seq FROM position").fetchone()
            found = {table: bodies(writer, sql) for table, sql in schema.STATE_BODIES.items()}
            finished = bodies(writer, schema.FINISHED_BODIES, FINISHED_OPERATIONS_MAX)
            opened = bodies(writer, schema.OPEN_USAGE)
            gpus = writer.execute(schema.GPUS_USED).fetchall()
        state = tables.load_state(seq, found, finished)
        return state, tables.load_usage(seq, opened, gpus)
