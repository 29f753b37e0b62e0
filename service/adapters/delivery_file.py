"""The port `Deliveries` as a SQLite file of its own.

Not in the read store, which may be deleted at any time: of this one the ledger knows nothing. What
was written last may be lost when the host loses power (the file is not synced at each change): then
all of it is as it was a moment before, and some events are sent twice.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from events.messages import Place
from service.errors import DeliveriesUnavailable
from service.webhook_ports import Attempt, Delivery, Standing

FILE = "webhooks.db"
LOG_MAX = 500
"""So many lines of the log of each webhook are kept."""

_VERSION = 1
_BUSY_TIMEOUT_S = 5.0
_DAMAGES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DDL = (
    """CREATE TABLE places (
        webhook TEXT PRIMARY KEY,
        registered_seq INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        idx INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE deliveries (
        webhook TEXT NOT NULL,
        seq INTEGER NOT NULL,
        idx INTEGER NOT NULL,
        type TEXT NOT NULL,
        dead INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        first_us INTEGER NOT NULL,
        due_us INTEGER NOT NULL,
        status INTEGER NOT NULL,
        error TEXT NOT NULL,
        PRIMARY KEY (webhook, seq, idx)
    ) WITHOUT ROWID""",
    "CREATE INDEX deliveries_by_due ON deliveries (webhook, dead, due_us)",
    """CREATE TABLE attempts (
        number INTEGER PRIMARY KEY,
        webhook TEXT NOT NULL,
        id TEXT NOT NULL,
        type TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        at_us INTEGER NOT NULL,
        duration_us INTEGER NOT NULL,
        status INTEGER NOT NULL,
        error TEXT NOT NULL,
        outcome TEXT NOT NULL
    )""",
    "CREATE INDEX attempts_by_webhook ON attempts (webhook, number)",
)
_DELIVERY = "seq, idx, type, attempts, first_us, due_us, status, error"
_ATTEMPT = "id, type, attempt, at_us, duration_us, status, error, outcome"

_log = logging.getLogger(__name__)
T = TypeVar("T")


class DeliveryFile:
    """The file; one thread reads and writes it. It is made when it is first asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="webhooks")
        self._open: sqlite3.Connection | None = None

    async def begin(
        self, webhook: str, registered_seq: int, place: Place, last_seq: int
    ) -> Standing:
        """As the port says."""

        def change(db: sqlite3.Connection) -> Standing:
            known = db.execute("SELECT * FROM places WHERE webhook = ?", (webhook,)).fetchone()
            if known is None or known[1] != registered_seq:
                _forget(db, webhook)
                row = (webhook, registered_seq, place.seq, place.index)
                db.execute("INSERT INTO places VALUES (?, ?, ?, ?)", row)
            elif known[2:] >= (last_seq, 0):
                _log.warning("webhook %s was at %d; the ledger ends before", webhook, known[2])
                _move(db, webhook, Place(last_seq))
            db.execute("DELETE FROM deliveries WHERE webhook = ? AND seq > ?", (webhook, last_seq))
            return _standing(db, webhook)

        return await self._do(change)

    async def standing(self, webhook: str) -> Standing | None:
        """As the port says."""
        return await self._do(lambda db: _standing_of(db, webhook))

    async def note(
        self, webhook: str, attempt: Attempt, due_us: int, place: Place | None
    ) -> Standing:
        """As the port says."""

        def change(db: sqlite3.Connection) -> Standing:
            key = _key(webhook, attempt.id)
            if attempt.outcome == "delivered":
                db.execute("DELETE FROM deliveries WHERE webhook = ? AND seq = ? AND idx = ?", key)
            else:
                dead = attempt.outcome == "dead"
                last = (due_us, attempt.status, attempt.error)
                db.execute(
                    "INSERT INTO deliveries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO"
                    " UPDATE SET dead = excluded.dead, attempts = excluded.attempts,"
                    " due_us = excluded.due_us, status = excluded.status, error = excluded.error",
                    (*key, attempt.type, dead, attempt.number, attempt.at_us, *last),
                )
            if place is not None:
                _move(db, webhook, place)
            _write_line(db, webhook, attempt)
            return _standing(db, webhook)

        return await self._do(change)

    async def note_ping(
        self, webhook: str, registered_seq: int, attempt: Attempt
    ) -> Standing | None:
        """As the port says."""

        def change(db: sqlite3.Connection) -> Standing | None:
            sql = "SELECT registered_seq FROM places WHERE webhook = ?"
            if db.execute(sql, (webhook,)).fetchone() != (registered_seq,):
                return None
            _write_line(db, webhook, attempt)
            return _standing(db, webhook)

        return await self._do(change)

    async def move(self, webhook: str, place: Place) -> None:
        """As the port says."""
        await self._do(lambda db: _move(db, webhook, place))

    async def due(self, webhook: str, now_us: int) -> Delivery | None:
        """As the port says."""
        sql = (
            f"SELECT {_DELIVERY} FROM deliveries WHERE webhook = ? AND NOT dead AND due_us <= ?"
            " ORDER BY due_us, seq, idx LIMIT 1"
        )
        found = await self._do(lambda db: db.execute(sql, (webhook, now_us)).fetchone())
        return _delivery(*found) if found is not None else None

    async def attempts(self, webhook: str, limit: int) -> Sequence[Attempt]:
        """As the port says."""
        sql = f"SELECT {_ATTEMPT} FROM attempts WHERE webhook = ? ORDER BY number DESC LIMIT ?"
        rows = await self._do(lambda db: db.execute(sql, (webhook, limit)).fetchall())
        return [Attempt(*row) for row in rows]

    async def dead(self, webhook: str, limit: int) -> Sequence[Delivery]:
        """As the port says."""
        sql = (
            f"SELECT {_DELIVERY} FROM deliveries WHERE webhook = ? AND dead"
            " ORDER BY seq, idx LIMIT ?"
        )
        rows = await self._do(lambda db: db.execute(sql, (webhook, limit)).fetchall())
        return [_delivery(*row) for row in rows]

    async def revive(
        self, webhook: str, ids: Collection[str], now_us: int
    ) -> tuple[int, Standing | None]:
        """As the port says."""
        sql = "UPDATE deliveries SET dead = 0, attempts = 0, due_us = ? WHERE webhook = ? AND dead"
        return await self._do(
            lambda db: (
                _of_these(db, sql, (now_us, webhook), ids),
                _standing_of(db, webhook),
            )
        )

    async def discard(
        self, webhook: str, ids: Collection[str]
    ) -> tuple[int, Standing | None]:
        """As the port says."""
        sql = "DELETE FROM deliveries WHERE webhook = ? AND dead"
        return await self._do(
            lambda db: (_of_these(db, sql, (webhook,), ids), _standing_of(db, webhook))
        )

    async def keep(self, webhooks: Collection[str]) -> None:
        """As the port says."""

        def change(db: sqlite3.Connection) -> None:
            for (name,) in db.execute("SELECT webhook FROM places").fetchall():
                if name not in webhooks:
                    _forget(db, name)

        # No file is made where there never was a webhook.
        if await self._in_thread(lambda: self._open is not None or self._path.exists()):
            await self._do(change)

    async def close(self) -> None:
        """As the port says."""
        await self._in_thread(self._close)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """All of it in one transaction. Raises DeliveriesUnavailable."""

        def done() -> T:
            try:
                if self._open is None:
                    self._open = self._opened()
                with _transaction(self._open):
                    return work(self._open)
            except sqlite3.Error as error:
                self._close()  # the next call opens it again, as it is then
                raise DeliveriesUnavailable(f"{self._path} cannot be used: {error}") from error

        return await self._in_thread(done)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # -- in the thread ------------------------------------------------------------------------

    def _opened(self) -> sqlite3.Connection:
        """The file, ready. One that is damaged is put aside: all begin anew."""
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in _DAMAGES:
                raise
            aside = self._path.with_name(f"{self._path.name}.damaged")
            _log.error("%s is damaged (%s): all webhooks begin anew", self._path, error)
            try:
                self._path.replace(aside)
                for suffix in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            except OSError as problem:
                raise DeliveriesUnavailable(f"{self._path}: {problem.strerror}") from problem
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            with _transaction(db):
                if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in _DDL:
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _standing_of(db: sqlite3.Connection, webhook: str) -> Standing | None:
    """None when it never began."""
    known = db.execute("SELECT 1 FROM places WHERE webhook = ?", (webhook,)).fetchone()
    return _standing(db, webhook) if known is not None else None


def _standing(db: sqlite3.Connection, webhook: str) -> Standing:
    (place,) = db.execute("SELECT seq, idx FROM places WHERE webhook = ?", (webhook,))
    pending, dead, due_us = db.execute(
        "SELECT COUNT(*) FILTER (WHERE NOT dead), COUNT(*) FILTER (WHERE dead),"
        " MIN(due_us) FILTER (WHERE NOT dead) FROM deliveries WHERE webhook = ?",
        (webhook,),
    ).fetchone()
    last = db.execute(
        f"SELECT {_ATTEMPT} FROM attempts WHERE webhook = ? ORDER BY number DESC LIMIT 1",
        (webhook,),
    ).fetchone()
    return Standing(Place(*place), pending, dead, due_us, Attempt(*last) if last else None)


def _move(db: sqlite3.Connection, webhook: str, place: Place) -> None:
    sql = "UPDATE places SET seq = ?, idx = ? WHERE webhook = ?"
    db.execute(sql, (place.seq, place.index, webhook))


def _write_line(db: sqlite3.Connection, webhook: str, one: Attempt) -> None:
    line = (one.id, one.type, one.number, one.at_us, one.duration_us, one.status, one.error)
    db.execute(
        f"INSERT INTO attempts (webhook, {_ATTEMPT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (webhook, *line, one.outcome),
    )
    db.execute(
        "DELETE FROM attempts WHERE webhook = ?1 AND number <= (SELECT number FROM attempts"
        " WHERE webhook = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        (webhook, LOG_MAX),
    )


def _forget(db: sqlite3.Connection, webhook: str) -> None:
    for table in ("places", "deliveries", "attempts"):
        db.execute(f"DELETE FROM {table} WHERE webhook = ?", (webhook,))


def _of_these(
    db: sqlite3.Connection, sql: str, values: tuple[int | str, ...], ids: Collection[str]
) -> int:
    """Do it to each that is named, or to all; how many there were."""
    if not ids:
        return db.execute(sql, values).rowcount
    webhook = str(values[-1])
    keys = (_key(webhook, one)[1:] for one in sorted(set(ids)))
    return sum(
        db.execute(f"{sql} AND seq = ? AND idx = ?", (*values, *key)).rowcount for key in keys
    )


def _key(webhook: str, event_id: str) -> tuple[str, int, int]:
    place = Place.of(event_id)
    return webhook, place.seq + 1, place.index


def _delivery(seq: int, index: int, *rest: object) -> Delivery:
    return Delivery(f"{seq}.{index}", *rest)  # type: ignore[arg-type]
