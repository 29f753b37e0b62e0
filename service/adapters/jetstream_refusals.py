"""Refusals on a stream of their own: it forgets the oldest, so that it can fill no disk.

One subject for each known caller, and one for all who are not known, with a limit for each: who
floods pushes out what it was refused itself. Nothing is done before it is asked for, and a server
that does not answer is connected to anew the next time: the service starts and goes on without.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import msgspec
from nats.aio.msg import Msg

from events.subjects import token
from service.adapters.jetstream_connection import (
    API_PREFIX,
    STATUS_HEADER,
    JetStreamRefused,
    NatsAddress,
    NatsConnection,
)
from service.adapters.jetstream_reader import MESSAGE_ID
from service.adapters.jetstream_stream import NO_STREAM
from service.audit_ports import Noted, NotedEntry, Refusal
from service.errors import LedgerDamaged, LedgerUnavailable

STREAM = "REFUSALS"
PREFIX = "refusals"
BYTES_MAX = 256 << 20
AGE_DAYS_MAX = 400
PER_CALLER_MAX = 50_000
"""Of one known caller, and of all that are not known together: some 40 MB."""

ANSWER_S = 5.0

_DAY_NS = 24 * 3600 * 10**9
_SEQUENCE = "Nats-Sequence"
_END = "204"
_NOTHING = "404"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Noted).decode


class JetStreamRefusals:
    """The port `RefusalLog`. An async context, so that it lets go of its connection."""

    def __init__(
        self,
        server: NatsAddress,
        admin: NatsAddress | None = None,
        *,
        per_caller_max: int = PER_CALLER_MAX,
    ) -> None:
        """`admin` makes the stream where it is missing; without it `server`'s user does."""
        self._server = server
        self._admin = admin or server
        self._per_caller_max = per_caller_max
        self._stack = AsyncExitStack()
        self._connection: NatsConnection | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def append(self, noted: Sequence[Noted]) -> None:
        """As the port says. One that is sent again within two minutes is stored once."""
        connection = await self._open()
        replies: list[asyncio.Future[Msg | None]] = []
        try:
            async with asyncio.timeout(ANSWER_S):
                for one in noted:
                    headers = {MESSAGE_ID: _message_id(one)}
                    replies.append(await connection.send(_subject(one), _encode(one), headers))
                for reply in replies:
                    _see_stored(await reply)
        except TimeoutError as error:
            raise LedgerUnavailable(f"{STREAM}: no answer within {ANSWER_S:.0f} s") from error
        finally:
            for reply in replies:
                reply.cancel()

    async def before(self, number: int | None, limit: int) -> Sequence[NotedEntry]:
        """As the port says. It reads ahead of the place as far back as it takes."""
        connection = await self._open()
        state = (await connection.call(f"STREAM.INFO.{STREAM}"))["state"]
        first = max(1, state["first_seq"])
        end = min(state["last_seq"] + 1, number or state["last_seq"] + 1)
        found: list[NotedEntry] = []
        span = limit
        while end > first and len(found) < limit:
            begin = max(first, end - span)
            found = [*await self._between(connection, begin, end), *found]
            # Where much was pushed out the numbers are far apart.
            end, span = begin, min(2 * span, 8 * limit)
        return found[::-1][:limit]

    async def _between(
        self, connection: NatsConnection, begin: int, end: int
    ) -> list[NotedEntry]:
        """What is stored of a range of numbers, in order."""
        inbox = f"_INBOX.{connection.unique_name()}"
        found: list[tuple[int, bytes]] = []
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def receive(message: Msg) -> None:
            headers = message.headers or {}
            number = int(headers.get(_SEQUENCE, end))
            if STATUS_HEADER not in headers and number < end:
                found.append((number, message.data))
            elif not over.done():
                _finish(over, headers)

        async with connection.subscription(inbox, receive):
            request = {"seq": begin, "batch": end - begin}
            subject = f"{API_PREFIX}DIRECT.GET.{STREAM}"
            await connection.publish(subject, _encode(request), reply=inbox)
            try:
                async with asyncio.timeout(ANSWER_S):
                    await over
            except TimeoutError as error:
                raise LedgerUnavailable(f"{STREAM}: no answer within {ANSWER_S:.0f} s") from error
        return [NotedEntry(number, _noted(number, body)) for number, body in found]

    async def _open(self) -> NatsConnection:
        """The connection, with the stream there. Raises LedgerUnavailable."""
        async with self._opening:
            if self._connection is not None and not self._connection.closed:
                return self._connection
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(NatsConnection.open(self._server))
                if await _is_missing(connection):
                    async with NatsConnection.open(self._admin) as admin:
                        wanted = _config(self._per_caller_max)
                        await admin.call(f"STREAM.CREATE.{STREAM}", wanted, timeout_s=10.0)
                self._stack = stack.pop_all()
            self._connection = connection
            return connection


async def _is_missing(connection: NatsConnection) -> bool:
    try:
        await connection.call(f"STREAM.INFO.{STREAM}")
    except JetStreamRefused as refused:
        if refused.err_code != NO_STREAM:
            raise
        return True
    return False


def _config(per_caller_max: int) -> dict[str, Any]:
    return {
        "name": STREAM,
        "subjects": [f"{PREFIX}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_bytes": BYTES_MAX,
        "max_age": AGE_DAYS_MAX * _DAY_NS,
        "max_msgs_per_subject": per_caller_max,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "duplicate_window": 120 * 10**9,
    }


def _finish(over: "asyncio.Future[None]", headers: dict[str, str]) -> None:
    """The batch is over, because it is, or because of an error."""
    status = headers.get(STATUS_HEADER, _END)
    if status in (_END, _NOTHING):
        over.set_result(None)
    else:
        over.set_exception(LedgerUnavailable(f"{STREAM} cannot be read: status {status}"))


def _noted(number: int, body: bytes) -> Noted:
    try:
        noted: Noted = _decode(body)
        return noted
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerDamaged(f"entry {number} of {STREAM} cannot be read: {error}") from error


def _subject(noted: Noted) -> str:
    if isinstance(noted, Refusal) and noted.actor:
        return f"{PREFIX}.known.{token(noted.actor)}"
    return f"{PREFIX}.unknown"


def _message_id(noted: Noted) -> str:
    return noted.id if isinstance(noted, Refusal) else f"lost-{noted.at_us}-{noted.times}"


def _see_stored(answer: Msg | None) -> None:
    if answer is None or not answer.data:
        raise LedgerUnavailable(f"{STREAM}: the connection or JetStream went away")
    error = msgspec.json.decode(answer.data).get("error")
    if error is not None:
        raise LedgerUnavailable(f"{STREAM}: {error.get('description')} ({error.get('err_code')})")
