"""Making the stream of refusals anew from a backup: the same ones in the same order.

Their numbers are others where the first stream had forgotten some; nothing that is stored or
signed names a number. The server counts their age from now on.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from nats.aio.msg import Msg

from service.adapters.jetstream_connection import JetStreamRefused, NatsAddress, NatsConnection
from service.adapters.jetstream_reader import MESSAGE_ID
from service.adapters.jetstream_refusals import (
    EXPECTED_LAST,
    STREAM,
    JetStreamRefusals,
    config_of,
    see_stored,
)
from service.adapters.jetstream_stream import NO_STREAM, create_anew
from service.adapters.ledger_restore import DUPLICATES_S
from service.errors import LedgerDamaged, LedgerUnavailable, SettingsError
from service.ports import StoredEntry

BATCH_ENTRIES = 500

_ANSWER_S = 30.0
_SET_UP_S = 10.0


@asynccontextmanager
async def restored_refusals(address: NatsAddress) -> AsyncIterator["RefusalsFiller"]:
    """An empty stream to be filled; that of the service when the context is left, none when it
    fails.

    Raises SettingsError when there is one with refusals in it already, LedgerUnavailable when the
    server does not do it, LedgerDamaged when it gives back something else.
    """
    async with NatsConnection.open(address) as connection:
        await _take_away_empty(connection, repr(address))
        config = config_of()
        filling = {**config, "duplicate_window": round(DUPLICATES_S * 1e9)}
        await create_anew(connection, filling)
        try:
            filler = RefusalsFiller(connection)
            yield filler
            await connection.call(f"STREAM.UPDATE.{STREAM}", config, timeout_s=_SET_UP_S)
            await _see_same(address, filler)
        except BaseException:
            with suppress(LedgerUnavailable):
                await connection.call(f"STREAM.DELETE.{STREAM}", timeout_s=_SET_UP_S)
            raise


class RefusalsFiller:
    """Appends what it is given, in order."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection
        self._last_number = 0
        self._ids: set[str] = set()
        """Of those whose message is not named by their hash: before 0.6.0 one could be stored
        twice, minutes apart, and here the server must have forgotten the first by then."""
        self.content = hashlib.sha256()

    async def fill(self, batches: AsyncIterator[Sequence[StoredEntry]]) -> None:
        """Store them. Raises LedgerUnavailable when the server did not take one."""
        async for batch in batches:
            waiting: list[StoredEntry] = []
            for entry in batch:
                if entry.message_id in self._ids:
                    await self._store(waiting)
                    waiting = []
                    await asyncio.sleep(2 * DUPLICATES_S)
                    self._ids.clear()
                if ":" not in entry.message_id:
                    self._ids.add(entry.message_id)
                waiting.append(entry)
                if len(waiting) == BATCH_ENTRIES:
                    await self._store(waiting)
                    waiting = []
            await self._store(waiting)

    async def _store(self, entries: Sequence[StoredEntry]) -> None:
        replies: list[asyncio.Future[Msg | None]] = []
        try:
            async with asyncio.timeout(_ANSWER_S):
                for number, entry in enumerate(entries, self._last_number):
                    headers = {MESSAGE_ID: entry.message_id, EXPECTED_LAST: str(number)}
                    replies.append(await self._connection.send(entry.subject, entry.body, headers))
                for number, reply in enumerate(replies, self._last_number + 1):
                    see_stored(await reply, number)
        except TimeoutError as error:
            raise LedgerUnavailable(f"{STREAM}: no answer within {_ANSWER_S:.0f} s") from error
        finally:
            for reply in replies:
                reply.cancel()
        self._last_number += len(entries)
        _add(self.content, entries)


async def _take_away_empty(connection: NatsConnection, server: str) -> None:
    """An empty one may be there: the service made it, or somebody for it."""
    try:
        info = await connection.call(f"STREAM.INFO.{STREAM}")
    except JetStreamRefused as refused:
        if refused.err_code == NO_STREAM:
            return
        raise
    if info["state"]["last_seq"]:
        raise SettingsError(
            f"{server}: stream {STREAM} is not empty; restore into another server, or delete it"
            " first"
        )
    await connection.call(f"STREAM.DELETE.{STREAM}", timeout_s=_SET_UP_S)


async def _see_same(address: NatsAddress, filler: RefusalsFiller) -> None:
    content, number = hashlib.sha256(), 0
    async with JetStreamRefusals(address) as kept:
        while entries := await kept.after(number, BATCH_ENTRIES):
            _add(content, entries)
            number = entries[-1].seq
    if content.digest() != filler.content.digest():
        raise LedgerDamaged("what was stored of the refusals is not what stands in the backup")


def _add(content: "hashlib._Hash", entries: Sequence[StoredEntry]) -> None:
    for entry in entries:
        head = f"{entry.subject}\n{entry.message_id}\n{len(entry.body)}\n"
        content.update(head.encode() + entry.body)
