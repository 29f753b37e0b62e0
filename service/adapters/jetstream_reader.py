"""Reading the ledger: pull requests of our own, two ahead, and a check that nothing is missing.

Why not nats-py's consumers (each reproduced with nats-py 2.16): the ordered consumer silently
lost 18,996 of 20,000 records under backlog, and `fetch()` stalls (nats.py #986) and reads 31,000
records a second where this reads 150,000.

Each session has a consumer of its own, in the server's memory. Whatever disturbs it (connection,
server, leadership, silence) ends the session, and the next one goes on after the last record
that was handed out. So a gap inside a session proves nothing, but a fresh session that does not
begin with the next record does: sequences have no gaps, and a record is missing.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, suppress

import msgspec
from nats.aio.msg import Msg

from service.adapters.jetstream_connection import (
    API_PREFIX,
    STATUS_HEADER,
    JetStreamRefused,
    NatsConnection,
)
from service.adapters.jetstream_stream import STREAM
from service.errors import LedgerDamaged, LedgerUnavailable
from service.ports import StoredEntry

log = logging.getLogger(__name__)

MESSAGE_ID = "Nats-Msg-Id"
NO_MESSAGE = 10037
"""JetStream's err_code for a sequence that holds no record."""

PULL_RECORDS = 1000
"""Records per pull request; a batch holds at most the two that are outstanding."""
PULL_BYTES = 8 * 1024 * 1024
"""Bytes per pull request. The server cuts off a client for which 64 MB are pending."""
HEARTBEAT_S = 2.5
EXPIRES_S = 10.0
"""A request that is not filled in so long ends; on idle ends the tail of the log is checked."""
RETRY_S = 0.1
RETRY_S_MAX = 2.0

_PENDING_MESSAGES = "Nats-Pending-Messages"
"""On a status that ends one request: how many of its records will not come. A status without
it (consumer deleted, leader changed, server shutting down) ends the consumer."""
_HEARTBEAT = "100"
_NS = 1_000_000_000

_encode = msgspec.json.Encoder().encode


async def read_records(
    connection: NatsConnection, after_seq: int, until_seq: int | None
) -> AsyncGenerator[list[StoredEntry], None]:
    """Yield batches of consecutive records, as the port `Ledger.read` says.

    Rides out interruptions for ever; raises LedgerDamaged when a record is missing, and
    LedgerUnavailable when the connection was closed for good.
    """
    last_seq = after_seq
    retry_s = RETRY_S
    while until_seq is None or last_seq < until_seq:
        await connection.wait_connected()
        session = _Session(connection, last_seq, until_seq)
        try:
            async with aclosing(session.batches()) as batches:
                async for batch in batches:
                    last_seq = batch[-1].seq
                    retry_s = RETRY_S
                    yield batch
        except LedgerUnavailable as interruption:
            if connection.closed:
                raise
            log.warning("reading after %d interrupted: %s", last_seq, interruption)
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, RETRY_S_MAX)


class _Session:
    """One consumer, from its creation to the first thing that disturbs it."""

    def __init__(self, connection: NatsConnection, after_seq: int, until_seq: int | None) -> None:
        self._connection = connection
        self._consumer = connection.unique_name()
        self._inbox = f"_INBOX.{self._consumer}"
        self._fresh = True
        self._last_seq = after_seq
        self._until_seq = until_seq
        self._buffer: list[StoredEntry] = []
        self._asked = 0
        """Records requested and not yet received."""
        self._more_coming = False
        """What the server said with the last record: are there more behind it?"""
        self._end_seq = 0
        """The end of the log when the session began: so far there must be records."""
        self._idle = False
        self._heard = True
        self._broken: LedgerUnavailable | LedgerDamaged | None = None
        self._wake = asyncio.Event()

    async def batches(self) -> AsyncGenerator[list[StoredEntry], None]:
        """Yield batches until `until_seq`, or raise what ended the session."""
        async with AsyncExitStack() as stack:
            self._connection.lost_callbacks.add(self._on_lost)
            stack.callback(self._connection.lost_callbacks.discard, self._on_lost)
            await self._check_bounds()
            await stack.enter_async_context(
                self._connection.subscription(self._inbox, self._on_message)
            )
            self._more_coming = await self._create_consumer() > 0
            stack.push_async_callback(self._delete_consumer)
            yielded_seq = self._last_seq
            while self._until_seq is None or yielded_seq < self._until_seq:
                await self._pull_ahead()
                await self._wait()
                batch, self._buffer = self._buffer, []
                if batch:
                    yielded_seq = batch[-1].seq
                    yield batch
                if self._broken is not None and not self._buffer:
                    raise self._broken
                if self._idle and not batch:
                    await self._check_tail()
                self._idle = False

    async def _check_bounds(self) -> None:
        """The log must hold the next record, or end right before it."""
        state = (await self._connection.call(f"STREAM.INFO.{STREAM}"))["state"]
        if state["first_seq"] > self._last_seq + 1:
            raise _missing(self._last_seq + 1, f"the ledger begins at {state['first_seq']}")
        if state["last_seq"] < self._last_seq:
            raise _missing(state["last_seq"] + 1, f"seq {self._last_seq} was there before")
        self._end_seq = state["last_seq"]

    async def _check_tail(self) -> None:
        """Nothing came for a while: is that because there is nothing?

        A record lost at the end of the log shows no gap; a reader would wait for it for ever.
        """
        state = (await self._connection.call(f"STREAM.INFO.{STREAM}"))["state"]
        next_seq = self._last_seq + 1
        if state["last_seq"] < next_seq:
            return
        try:
            await self._connection.call(f"STREAM.MSG.GET.{STREAM}", {"seq": next_seq})
        except JetStreamRefused as refused:
            if refused.err_code == NO_MESSAGE:
                raise _missing(next_seq, f"the ledger ends at {state['last_seq']}") from refused
            raise
        raise LedgerUnavailable(f"the server did not deliver seq {next_seq}")

    async def _create_consumer(self) -> int:
        """Make the consumer; return how many records it has to deliver."""
        made = await self._connection.call(
            f"CONSUMER.CREATE.{STREAM}.{self._consumer}",
            {
                "stream_name": STREAM,
                "config": {
                    "name": self._consumer,
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": self._last_seq + 1,
                    "ack_policy": "none",
                    "replay_policy": "instant",
                    # For a process that dies; one that ends deletes its consumer.
                    "inactive_threshold": 60 * _NS,
                    "mem_storage": True,
                    "num_replicas": 1,
                },
            },
        )
        pending: int = made["num_pending"]
        return pending

    async def _delete_consumer(self) -> None:
        # Nobody waits for the answer: what is left behind ends by itself in a minute.
        with suppress(LedgerUnavailable):
            await self._connection.send(
                f"{API_PREFIX}CONSUMER.DELETE.{STREAM}.{self._consumer}", b""
            )

    async def _pull_ahead(self) -> None:
        """Keep up to two requests outstanding, so that the server never waits for us."""
        while self._broken is None and self._asked <= PULL_RECORDS:
            wanted = PULL_RECORDS
            if self._until_seq is not None:
                wanted = min(wanted, self._until_seq - self._last_seq - self._asked)
                if wanted == 0:
                    return
            self._asked += wanted
            request = {
                "batch": wanted,
                "max_bytes": PULL_BYTES,
                "expires": int(EXPIRES_S * _NS),
                "idle_heartbeat": int(HEARTBEAT_S * _NS),
            }
            await self._connection.publish(
                f"{API_PREFIX}CONSUMER.MSG.NEXT.{STREAM}.{self._consumer}",
                _encode(request),
                reply=self._inbox,
            )

    async def _wait(self) -> None:
        """Wait for records, for the end of a request, or for silence."""
        while True:
            try:
                async with asyncio.timeout(2 * HEARTBEAT_S):
                    await self._wake.wait()
                break
            except TimeoutError:
                if not self._heard:
                    self._broken = LedgerUnavailable(f"no heartbeat for {2 * HEARTBEAT_S} s")
                    break
                self._heard = False
        self._wake.clear()

    def _on_message(self, message: Msg) -> None:
        """A record or a status. Runs once per record: 150,000 times a second in a replay."""
        self._heard = True
        if self._broken is not None:
            return
        headers = message.headers or {}
        if not message.reply:
            self._on_status(headers)
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time>.<pending>, with
        # <domain>.<account> after ACK and a token at the end since the second version.
        tokens = message.reply.split(".")
        first_version = len(tokens) == 9
        seq = int(tokens[5] if first_version else tokens[7])
        if seq != self._last_seq + 1:
            self._on_gap(seq)
            return
        self._fresh = False
        self._last_seq = seq
        self._buffer.append(
            StoredEntry(seq, message.subject, headers.get(MESSAGE_ID, ""), message.data)
        )
        self._asked -= 1
        self._more_coming = (tokens[8] if first_version else tokens[10]) != "0"
        # While more is on its way, a batch fills up: its reader pays per batch (a transaction).
        filling = self._more_coming and self._asked > 0 and len(self._buffer) < PULL_RECORDS
        if not filling:
            self._wake.set()

    def _on_status(self, headers: dict[str, str]) -> None:
        status = headers.get(STATUS_HEADER, "")
        if status == _HEARTBEAT:
            # The server is idle: when there has to be more, something is wrong with that.
            if self._more_coming or self._last_seq < self._end_seq:
                self._idle = True
                self._wake.set()
            return
        not_coming = headers.get(_PENDING_MESSAGES)
        if not_coming is None:
            self._broken = LedgerUnavailable(f"the consumer ended with status {status}")
        else:
            self._asked -= int(not_coming)
            self._idle = True
        self._wake.set()

    def _on_gap(self, seq: int) -> None:
        if self._fresh:
            self._broken = _missing(self._last_seq + 1, f"the next record is {seq}")
        else:
            self._broken = LedgerUnavailable(f"seq {seq} came after {self._last_seq}")
        self._wake.set()

    def _on_lost(self) -> None:
        self._broken = LedgerUnavailable("the connection was lost")
        self._wake.set()


def _missing(seq: int, but: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"seq {seq} of the ledger is missing: {but}. Nothing may be skipped: restore a backup"
    )
