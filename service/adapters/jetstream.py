"""The ledger on NATS JetStream: appending, fenced by the sequence that must be the last one.

Three ways to append, by how many records wait (fsync of 50 µs; every record is synced before it
is acknowledged): one at a time 4,900/s; up to `PIPELINE_MAX` at once, each with its predicted
sequence, 13,000/s; more as an atomic batch, which is the group commit (one sync for all):
30,000/s in batches of 500, and 16,000/s instead of 600/s where an fsync takes 1 ms.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Self

import msgspec
from nats.aio.msg import Msg

from service.adapters.jetstream_connection import NatsAddress, NatsConnection
from service.adapters.jetstream_reader import MESSAGE_ID, read_records
from service.adapters.jetstream_stream import (
    MESSAGE_BYTES_MAX,
    STREAM,
    check_stream,
    create_stream,
    find_stream,
)
from service.errors import LedgerConflict, LedgerError, LedgerUnavailable, SettingsError
from service.ports import Entry, StoredEntry

PIPELINE_MAX = 32
"""Above this an atomic batch, at some 6 ms, is faster than so many syncs."""
BATCH_MAX = 1000
"""The server's own limit for an atomic batch (ADR-50)."""
HEADER_BYTES_MAX = 1024
RECORD_BYTES_MAX = MESSAGE_BYTES_MAX - HEADER_BYTES_MAX
"""Body of one entry, with its id (which may travel twice)."""

CONFLICTS = frozenset({10070, 10071, 10164, 10201})
"""err_codes after which nothing is stored: wrong last id, wrong last sequence, the same while
another append is in flight (replicated streams only), an id of the batch is stored already."""

_EXPECTED_SEQ = "Nats-Expected-Last-Sequence"
_EXPECTED_ID = "Nats-Expected-Last-Msg-Id"
_BATCH_ID = "Nats-Batch-Id"
_BATCH_SEQ = "Nats-Batch-Sequence"
_BATCH_COMMIT = "Nats-Batch-Commit"


class _Refusal(msgspec.Struct, frozen=True):
    code: int
    err_code: int = 0
    description: str = ""


class _Ack(msgspec.Struct, frozen=True):
    """The server's answer to a publish."""

    seq: int = 0
    duplicate: bool = False
    error: _Refusal | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


class JetStreamLedger:
    """The port `Ledger` on a stream of a NATS server, ours or the user's.

    Several `append` calls may be in flight when each was started after the one whose last
    sequence it expects; after a failure nothing may be built on predicted sequences any more.
    """

    def __init__(
        self,
        server: NatsAddress,
        admin: NatsAddress | None = None,
        *,
        replicas: int = 1,
        append_timeout_s: float = 5.0,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        """`admin` makes the stream where it is missing; without it `server`'s user does.

        With three replicas a change of leader takes up to 5.4 s (measured): then appends may
        raise LedgerUnavailable, and work again when asked again. `on_silence` is called when an
        append is not answered in time.
        """
        self._server = server
        self._admin = admin or server
        self._replicas = replicas
        self._append_timeout_s = append_timeout_s
        self._on_silence = on_silence
        self._replicated = replicas > 1
        """Of the stream as it was when we connected."""
        self._stack = AsyncExitStack()
        self._send_order = asyncio.Lock()
        self._unconfirmed: dict[int, tuple[str, asyncio.Future[Msg | None]]] = {}
        """Predicted seq → id and reply of an entry that was sent and not yet acknowledged."""

    async def __aenter__(self) -> Self:
        """Connect and see that the stream is there and right.

        Raises LedgerUnavailable when the server does not answer, SettingsError when the stream
        is one that could lose records.
        """
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(NatsConnection.open(self._server))
            if connection.payload_bytes_max < MESSAGE_BYTES_MAX:
                raise SettingsError(
                    f"{self._server}: max_payload is {connection.payload_bytes_max} bytes;"
                    f" records need {MESSAGE_BYTES_MAX}"
                )
            config = await find_stream(connection)
            if config is None:
                async with NatsConnection.open(self._admin) as admin:
                    config = await create_stream(admin, self._replicas)
            check_stream(config, repr(self._server))
            self._replicated = config["num_replicas"] > 1
            self._connection = connection
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; appends and reads still going on raise LedgerUnavailable."""
        await self._stack.aclose()

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """Append all entries or none that follows a failed one; return the last one's seq.

        Raises LedgerConflict when nothing was stored because `expected_last_seq` is not the
        last sequence, or because an entry's id is stored elsewhere (within the server's
        duplicate window of an hour). When exactly these entries follow `expected_last_seq`
        already, as after an append whose reply was lost, that is success. Raises
        LedgerUnavailable when some prefix, perhaps empty, may be stored, and LedgerError when
        an entry is too large to be stored at all.
        """
        assert entries, "an append of nothing has no sequence"
        for entry in entries:
            size = len(entry.body) + 2 * len(entry.message_id)
            if size > RECORD_BYTES_MAX:
                raise LedgerError(
                    f"record {entry.message_id} has {size} bytes; at most {RECORD_BYTES_MAX}"
                )
        if len(entries) <= (1 if self._replicated else PIPELINE_MAX):
            return await self._append_each(entries, expected_last_seq)
        last_seq = expected_last_seq
        for start in range(0, len(entries), BATCH_MAX):
            try:
                last_seq = await self._append_batch(entries[start : start + BATCH_MAX], last_seq)
            except LedgerConflict as conflict:
                if start == 0:
                    raise
                raise LedgerUnavailable(f"{start} of {len(entries)} stored: {conflict}") from None
        return last_seq

    async def read(
        self, after_seq: int, until_seq: int | None = None
    ) -> AsyncGenerator[Sequence[StoredEntry], None]:
        """As the port says. Close it (`aclosing`) to free its consumer on the server.

        An `after_seq` beyond the end of the ledger is LedgerDamaged as well: whoever was there
        before read records that are gone.
        """
        async with aclosing(read_records(self._connection, after_seq, until_seq)) as batches:
            async for batch in batches:
                yield batch

    async def last_seq(self) -> int:
        """As the port says; raises LedgerUnavailable when there is no answer within 2 s."""
        info = await self._connection.call(f"STREAM.INFO.{STREAM}")
        last_seq: int = info["state"]["last_seq"]
        return last_seq

    async def find(self, message_id: str, after_seq: int) -> int | None:
        """As the port says; reads forward, so give the latest `after_seq` that is safe."""
        last_seq = await self.last_seq()
        async with aclosing(self.read(after_seq, last_seq)) as batches:
            async for batch in batches:
                for entry in batch:
                    if entry.message_id == message_id:
                        return entry.seq
        return None

    async def _append_each(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """One publish per entry, all in flight at once.

        Each expects the sequence *and the id* of the one before while that is unconfirmed: by
        the sequence alone, an entry whose predecessor lost against another writer's record
        would be taken, as that record has just the sequence that was predicted.

        On a replicated stream an id that is not the expected one stops the stream for good: no
        append is answered any more (reproduced with nats-server 2.15.1 and three replicas). So
        there every append waits for the one before, and several entries go as a batch.
        """
        sent: list[asyncio.Future[Msg | None]] = []
        try:
            async with self._send_order:
                if self._replicated:
                    await self._confirmed(expected_last_seq)
                for seq, entry in enumerate(entries, expected_last_seq + 1):
                    headers = {MESSAGE_ID: entry.message_id, _EXPECTED_SEQ: str(seq - 1)}
                    if (before := self._unconfirmed.get(seq - 1)) is not None:
                        headers[_EXPECTED_ID] = before[0]
                    reply = await self._connection.send(entry.subject, entry.body, headers)
                    self._unconfirmed[seq] = (entry.message_id, reply)
                    sent.append(reply)
            acks = await self._acks(sent)
        finally:
            self._forget(sent, expected_last_seq)
        wrong = [
            ack
            for seq, ack in enumerate(acks, expected_last_seq + 1)
            if ack.error is not None or ack.seq != seq
        ]
        if wrong:
            await self._settle(entries, expected_last_seq, wrong[0])
        return expected_last_seq + len(entries)

    async def _append_batch(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """One atomic batch: all entries or none, with one sync of the stream."""
        last_seq = expected_last_seq + len(entries)
        sent: list[asyncio.Future[Msg | None]] = []
        batch_id = self._connection.unique_name()
        try:
            async with self._send_order:
                await self._confirmed(expected_last_seq)
                for number, entry in enumerate(entries, 1):
                    headers = {
                        MESSAGE_ID: entry.message_id,
                        _BATCH_ID: batch_id,
                        _BATCH_SEQ: str(number),
                    }
                    if number == 1:
                        headers[_EXPECTED_SEQ] = str(expected_last_seq)
                    if number < len(entries):
                        await self._connection.publish(entry.subject, entry.body, headers=headers)
                        continue
                    headers[_BATCH_COMMIT] = "1"
                    reply = await self._connection.send(entry.subject, entry.body, headers)
                    self._unconfirmed[last_seq] = (entry.message_id, reply)
                    sent.append(reply)
            (ack,) = await self._acks(sent)
        finally:
            self._forget(sent, last_seq - 1)
        if ack.error is not None or ack.seq != last_seq:
            await self._settle(entries, expected_last_seq, ack)
        return last_seq

    async def _confirmed(self, seq: int) -> None:
        """Wait until an entry of ours that is still in flight is acknowledged as `seq`.

        For what cannot expect the id of the record before it: an atomic batch (error 10177),
        and anything on a replicated stream.
        """
        if (before := self._unconfirmed.get(seq)) is None:
            return
        _, reply = before
        await asyncio.wait([reply])
        if reply.cancelled() or (ack := _ack(reply.result())) is None or ack.seq != seq:
            raise LedgerUnavailable("nothing was sent: the append that it builds on failed")

    async def _acks(self, sent: Sequence[asyncio.Future[Msg | None]]) -> list[_Ack]:
        try:
            async with asyncio.timeout(self._append_timeout_s):
                replies = [await reply for reply in sent]
        except TimeoutError as error:
            self._on_silence()
            raise LedgerUnavailable(
                f"no acknowledgement within {self._append_timeout_s} s; it may be stored"
            ) from error
        acks = [ack for reply in replies if (ack := _ack(reply)) is not None]
        if len(acks) < len(sent):
            raise LedgerUnavailable("the connection or JetStream went away; it may be stored")
        return acks

    def _forget(self, sent: Sequence[asyncio.Future[Msg | None]], before_seq: int) -> None:
        for seq, reply in enumerate(sent, before_seq + 1):
            reply.cancel()
            if seq in self._unconfirmed and self._unconfirmed[seq][1] is reply:
                del self._unconfirmed[seq]

    async def _settle(self, entries: Sequence[Entry], expected_last_seq: int, ack: _Ack) -> None:
        """Something was refused: return when all entries are stored none the less, else raise.

        On a stream with one replica the expectation is checked before the id, so that an append
        sent again after a lost reply is a conflict (10071), not a duplicate: the ledger tells.
        """
        last_seq = await self.last_seq()
        stored = 0
        until_seq = min(last_seq, expected_last_seq + len(entries))
        async with aclosing(self.read(expected_last_seq, until_seq)) as batches:
            async for batch in batches:
                for found in batch:
                    if found.seq != expected_last_seq + stored + 1:
                        break
                    stored += found.message_id == entries[stored].message_id
        if stored == len(entries):
            return
        if ack.error is None:
            reason = f"an id is stored as seq {ack.seq} already"
        else:
            reason = f"{ack.error.description} ({ack.error.err_code})"
        if stored == 0 and (ack.error is None or ack.error.err_code in CONFLICTS):
            raise LedgerConflict(f"expected {expected_last_seq} as the last sequence: {reason}")
        raise LedgerUnavailable(f"{stored} of {len(entries)} stored: {reason}")


def _ack(reply: Msg | None) -> _Ack | None:
    """The server's answer; None when there is none: connection lost, or JetStream not ready."""
    return _decode_ack(reply.data) if reply is not None and reply.data else None
