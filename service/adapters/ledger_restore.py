"""Making the ledger's stream anew from a backup: the same records at the same sequences.

Until all of it is there, the stream may be purged, and such a stream is refused as a ledger
(`check_stream`): no service ever begins on half a restore, also after a kill -9. When it is
complete the stream gets the settings that cannot be taken back. Records lose the instant at which
the server stored them; theirs is in their bodies.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from service.adapters.jetstream import CONFLICTS
from service.adapters.jetstream_connection import JetStreamRefused, NatsAddress, NatsConnection
from service.adapters.jetstream_reader import MESSAGE_ID, read_records
from service.adapters.jetstream_stream import (
    NO_STREAM,
    STREAM,
    check_stream,
    create_anew,
    wanted_config,
)
from service.errors import LedgerDamaged, LedgerUnavailable, SettingsError
from service.ports import StoredEntry

log = logging.getLogger(__name__)

BATCH_RECORDS = 500
"""One sync of the stream for so many; more are not faster."""
BATCH_BYTES = 8 << 20
DUPLICATES_S = 0.1
"""The server's shortest memory for message ids. A log of many days, written in a minute, may hold
an id twice where the service sent it again; at its real pace the server had forgotten the first."""
TRIES_MAX = 50

_ANSWER_S = 30.0
_SET_UP_S = 10.0
_FILLING: dict[str, Any] = {
    "deny_delete": False,
    "deny_purge": False,
    "duplicate_window": round(DUPLICATES_S * 1e9),
}


class _Refusal(msgspec.Struct, frozen=True):
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct, frozen=True):
    seq: int = 0
    error: _Refusal | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


@asynccontextmanager
async def restored_stream(address: NatsAddress) -> AsyncIterator["StreamFiller"]:
    """An empty stream to be filled; a ledger when the context is left, nothing when it fails.

    Raises SettingsError when there is a stream with records in it already, or one that cannot be
    a ledger; LedgerUnavailable when the server does not do it.
    """
    async with NatsConnection.open(address) as connection:
        found = await _found_empty(connection, repr(address))
        wanted = found or wanted_config(1)
        if found is not None:
            await connection.call(f"STREAM.DELETE.{STREAM}", timeout_s=_SET_UP_S)
        made = await create_anew(connection, {**wanted, **_FILLING})
        config = {**made, **{key: wanted[key] for key in _FILLING}}
        try:
            filler = StreamFiller(connection)
            yield filler
            await connection.call(f"STREAM.UPDATE.{STREAM}", config, timeout_s=_SET_UP_S)
            await _check(connection, filler.last_seq, repr(address))
        except BaseException:
            await _take_back(connection, found)
            raise


class StreamFiller:
    """Appends what it is given, in atomic batches, and sees that every sequence is right."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self.last_seq = 0

    async def fill(self, batches: AsyncIterator[Sequence[StoredEntry]]) -> None:
        """Store the records in order. Raises LedgerUnavailable when the server did not take one."""
        waiting: list[StoredEntry] = []
        ids: set[str] = set()
        size = 0
        async for batch in batches:
            for entry in batch:
                full = len(waiting) == BATCH_RECORDS or size + len(entry.body) > BATCH_BYTES
                # A batch may not hold an id twice.
                if waiting and (full or (entry.message_id and entry.message_id in ids)):
                    await self._store(waiting)
                    waiting, ids, size = [], set(), 0
                waiting.append(entry)
                ids.add(entry.message_id)
                size += len(entry.body)
        if waiting:
            await self._store(waiting)

    def stored(self) -> AsyncGenerator[Sequence[StoredEntry], None]:
        """What the server gives back of it."""
        return read_records(self._connection, 0, self.last_seq)

    async def _store(self, entries: Sequence[StoredEntry]) -> None:
        assert entries[0].seq == self.last_seq + 1, "a backup is read in order"
        ack = await self._send(entries)
        tries = 1
        while ack.error is not None and ack.error.err_code in CONFLICTS and tries < TRIES_MAX:
            await asyncio.sleep(2 * DUPLICATES_S)  # until the server has forgotten an id
            ack = await self._send(entries)
            tries += 1
        if ack.error is None and ack.seq == entries[-1].seq:
            self.last_seq = ack.seq
            return
        said = f"{ack.error.description} ({ack.error.err_code})" if ack.error else f"seq {ack.seq}"
        raise LedgerUnavailable(f"records from seq {entries[0].seq} were not stored: {said}")

    async def _send(self, entries: Sequence[StoredEntry]) -> _Ack:
        """All of them or none, as one atomic batch (ADR-50)."""
        batch_id = self._connection.unique_name()
        *others, last = entries
        for number, entry in enumerate(others, 1):
            headers = self._headers(entry, batch_id, number)
            await self._connection.publish(entry.subject, entry.body, headers=headers)
        headers = self._headers(last, batch_id, len(entries))
        headers["Nats-Batch-Commit"] = "1"
        reply = await self._connection.send(last.subject, last.body, headers)
        try:
            async with asyncio.timeout(_ANSWER_S):
                message = await reply
        except TimeoutError as error:
            raise LedgerUnavailable(f"no acknowledgement within {_ANSWER_S:.0f} s") from error
        if message is None or not message.data:
            raise LedgerUnavailable("the connection or JetStream went away")
        return _decode_ack(message.data)

    def _headers(self, entry: StoredEntry, batch_id: str, number: int) -> dict[str, str]:
        headers = {"Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
        if entry.message_id:
            headers[MESSAGE_ID] = entry.message_id
        if number == 1:
            headers["Nats-Expected-Last-Sequence"] = str(self.last_seq)
        return headers


async def _found_empty(connection: NatsConnection, server: str) -> dict[str, Any] | None:
    """The configuration of an empty stream that is there already; None when there is none."""
    try:
        info = await connection.call(f"STREAM.INFO.{STREAM}")
    except JetStreamRefused as refused:
        if refused.err_code == NO_STREAM:
            return None
        raise
    if info["state"]["last_seq"]:
        raise SettingsError(
            f"{server}: stream {STREAM} is not empty (it goes to seq"
            f" {info['state']['last_seq']}); restore into another server, or delete it first"
        )
    check_stream(info["config"], server)
    config: dict[str, Any] = info["config"]
    return config


async def _take_back(connection: NatsConnection, found: dict[str, Any] | None) -> None:
    try:
        await connection.call(f"STREAM.DELETE.{STREAM}", timeout_s=_SET_UP_S)
        if found is not None:
            await create_anew(connection, found)
    except LedgerUnavailable as error:
        log.error("half a restore is left in stream %s, delete it: %s", STREAM, error)


async def _check(connection: NatsConnection, last_seq: int, server: str) -> None:
    info = await connection.call(f"STREAM.INFO.{STREAM}")
    check_stream(info["config"], server)
    state = info["state"]
    if (state["first_seq"], state["last_seq"], state["messages"]) != (1, last_seq, last_seq):
        raise LedgerDamaged(f"{server}: stream {STREAM} has other sequences than the backup")
