"""One connection to a NATS server: replies matched by an inbox of its own, errors mapped.

Why not nats-py's own calls (each reproduced with nats-py 2.16): `publish_async` never resolves
its future when the server answers with an error (nats.py #985), and `request` costs three times
as much as one subscription that all replies share. Foreign errors end here: callers see
LedgerUnavailable and JetStreamRefused only.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from service.errors import LedgerUnavailable

log = logging.getLogger(__name__)

API_PREFIX = "$JS.API."
STATUS_HEADER = "Status"
"""Where nats-py puts the code of a message that carries a status instead of a record."""

_CONNECT_TIMEOUT_S = 10.0
_RECONNECT_WAIT_S = 0.1
_PING_INTERVAL_S = 5
"""With three pings out, a server that hangs instead of closing is left after 15 seconds."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class NatsAddress(msgspec.Struct, frozen=True):
    """Where a NATS server is and who we are there; a URL may carry user and password itself."""

    servers: tuple[str, ...]
    user: str | None = None
    password: str | None = None
    credentials_file: str | None = None

    def __repr__(self) -> str:
        """Without the password: addresses end up in logs."""
        return f"NatsAddress({self.title}, user={self.user})"

    @property
    def title(self) -> str:
        """For people: where it is, without the password."""
        return ", ".join(url.rpartition("@")[2] for url in self.servers)


class JetStreamRefused(LedgerUnavailable):
    """The server answered with an error. `err_code` is stable, the text is the server's."""

    def __init__(self, what: str, err_code: int, description: str) -> None:
        super().__init__(f"{what}: {description} ({err_code})")
        self.err_code = err_code


class NatsConnection:
    """A connection that reconnects for ever and never sends anything late.

    While it is lost, every call fails at once: a publish kept for later would be stored after
    its caller had been told that it failed.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name
        self._inbox = client.new_inbox()
        self._tokens = itertools.count()
        self._replies: dict[str, asyncio.Future[Msg | None]] = {}
        self._connected = asyncio.Event()
        self.lost_callbacks: set[Callable[[], None]] = set()
        """Called whenever the connection is lost, and when it is closed."""

    @classmethod
    @asynccontextmanager
    async def open(cls, address: NatsAddress) -> AsyncIterator["NatsConnection"]:
        """Connect; raises LedgerUnavailable when no server answers within ten seconds."""
        client = Client()
        connection = cls(client, f"the NATS server at {address.title}")
        try:
            await connection._connect(address)
            yield connection
        finally:
            await connection._close()

    @property
    def payload_bytes_max(self) -> int:
        """What the server takes in one message, headers and body."""
        return self._client.max_payload

    @property
    def closed(self) -> bool:
        return self._client.is_closed

    async def wait_connected(self) -> None:
        """Wait for a connection as long as it takes; LedgerUnavailable when closed for good."""
        await self._connected.wait()
        if self.closed:
            raise LedgerUnavailable(f"{self._name}: the connection is closed")

    def unique_name(self) -> str:
        """22 letters and digits that never come twice."""
        return self._client.new_inbox().rpartition(".")[2]

    async def send(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> "asyncio.Future[Msg | None]":
        """Publish; the future becomes the reply, or None when the connection was lost before."""
        future: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()
        token = str(next(self._tokens))
        self._replies[token] = future
        future.add_done_callback(lambda _: self._replies.pop(token, None))
        try:
            await self.publish(subject, body, f"{self._inbox}.{token}", headers)
        except BaseException:
            future.cancel()
            raise
        return future

    async def publish(
        self, subject: str, body: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish without waiting for anything."""
        try:
            await self._client.publish(
                subject, body, reply=reply, headers=None if headers is None else dict(headers)
            )
        except (NatsError, OSError) as error:
            raise LedgerUnavailable(f"{self._name}: nothing was sent: {error}") from error

    async def call(self, api: str, body: object = None, timeout_s: float = 2.0) -> dict[str, Any]:
        """Ask the JetStream API; raises JetStreamRefused with the server's code, or
        LedgerUnavailable when there is no answer within `timeout_s`."""
        payload = b"" if body is None else _encode(body)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await (await self.send(API_PREFIX + api, payload))
        except TimeoutError as error:
            raise LedgerUnavailable(f"{api}: no answer within {timeout_s} s") from error
        if reply is None:
            raise LedgerUnavailable(f"{api}: the connection was lost")
        if not reply.data:
            raise LedgerUnavailable(f"{api}: JetStream is not ready")
        answer = _decode(reply.data)
        if (refusal := answer.get("error")) is not None:
            raise JetStreamRefused(api, refusal.get("err_code", 0), refusal.get("description", ""))
        return answer

    @asynccontextmanager
    async def subscription(
        self, subject: str, callback: Callable[[Msg], None]
    ) -> AsyncIterator[None]:
        """Subscribe without limits on what is pending: nats-py drops what exceeds them, so
        whoever subscribes asks only for what it can hold."""

        async def receive(message: Msg) -> None:
            callback(message)

        try:
            subscribed = await self._client.subscribe(
                subject, cb=receive, pending_msgs_limit=0, pending_bytes_limit=0
            )
        except (NatsError, OSError) as error:
            raise LedgerUnavailable(f"{self._name}: {error}") from error
        try:
            yield
        finally:
            if not self.closed:
                await subscribed.unsubscribe()

    async def _connect(self, address: NatsAddress) -> None:
        last_error: Exception | None = None
        connecting = True

        async def on_error(error: Exception) -> None:
            nonlocal last_error
            # Nobody there is said once, not at each of a hundred tries.
            known = connecting and str(error) == str(last_error)
            last_error = error
            if connecting and type(error) is NatsError:
                # The base class itself is the server's own no, to the password for one. This
                # leaves connect(), which would ask the same again until the time is up.
                raise error
            # While it reconnects, every try is an error; one line told of the loss already.
            quiet = known or self._client.is_reconnecting
            level = logging.DEBUG if quiet else logging.WARNING
            log.log(level, "%s: %s", self._name, error)

        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await self._client.connect(
                    list(address.servers),
                    user=address.user,
                    password=address.password,
                    user_credentials=address.credentials_file,
                    name="gpuledger",
                    error_cb=on_error,
                    disconnected_cb=self._on_lost,
                    reconnected_cb=self._on_connected,
                    closed_cb=self._on_closed,
                    connect_timeout=2,
                    # The stubs say int; nats-py itself only adds and compares it.
                    reconnect_time_wait=_RECONNECT_WAIT_S,  # type: ignore[arg-type]
                    max_reconnect_attempts=-1,
                    ping_interval=_PING_INTERVAL_S,
                    # What was published while disconnected would be sent after the reconnect.
                    pending_size=-1,
                )
                await self._client.subscribe(
                    f"{self._inbox}.*",
                    cb=self._on_reply,
                    pending_msgs_limit=0,
                    pending_bytes_limit=0,
                )
        except TimeoutError as error:
            reason = last_error or "no answer"
            raise LedgerUnavailable(f"{self._name}: cannot connect: {reason}") from error
        except (NatsError, OSError) as error:
            raise LedgerUnavailable(f"{self._name}: cannot connect: {error}") from error
        connecting = False
        self._connected.set()

    async def _close(self) -> None:
        # nats-py asserts that connect() got past its arguments; a bad URL does not.
        with suppress(AssertionError):
            await self._client.close()
        # Not every way out of nats-py calls back: whoever still waits must learn of it.
        await self._on_closed()

    async def _on_reply(self, message: Msg) -> None:
        future = self._replies.get(message.subject.rpartition(".")[2])
        if future is not None and not future.done():
            future.set_result(message)

    async def _on_lost(self) -> None:
        if not self._client.is_closed:
            log.warning("%s: connection lost, reconnecting", self._name)
        self._connected.clear()
        self._fail_waiting()

    async def _on_connected(self) -> None:
        log.info("%s: connected again", self._name)
        self._connected.set()

    async def _on_closed(self) -> None:
        self._fail_waiting()
        # Wakes whoever waits for a connection, to find it closed.
        self._connected.set()

    def _fail_waiting(self) -> None:
        for future in list(self._replies.values()):
            if not future.done():
                future.set_result(None)
        for callback in tuple(self.lost_callbacks):
            callback()
