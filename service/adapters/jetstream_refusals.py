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

from service.adapters.jetstream_connection import (
    API_PREFIX,
    STATUS_HEADER,
    JetStreamRefused,
    NatsAddress,
    NatsConnection,
)
from service.adapters.jetstream_reader import MESSAGE_ID
from service.adapters.jetstream_stream import NO_STREAM
from service.audit_ports import KEPT, REFUSALS, Noted, NotedEntry, decode_noted
from service.errors import LedgerDamaged, LedgerUnavailable
from service.ports import Entry, StoredEntry

STREAM = "REFUSALS"
WINDOW_NS = 120 * 10**9
"""So long the server knows again what is sent twice."""

EXPECTED_LAST = "Nats-Expected-Last-Sequence"
EXPECTED_ID = "Nats-Expected-Last-Msg-Id"

ANSWER_S = 5.0
SUBJECTS_MAX = 500
"""Callers whose newest one is asked for at once; the server gives 1,024 at most."""

_SEQUENCE = "Nats-Sequence"
_SUBJECT = "Nats-Subject"
_END = "204"
_NOTHING = "404"

_encode = msgspec.json.Encoder().encode


class JetStreamRefusals:
    """The port `RefusalLog`. An async context, so that it lets go of its connection."""

    def __init__(
        self,
        server: NatsAddress,
        admin: NatsAddress | None = None,
        *,
        per_caller_max: int = KEPT.per_caller,
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

    async def append(self, entries: Sequence[Entry], last_number: int) -> int:
        """As the port says: each names what it follows, so none is stored without those before it,
        and none that comes late. The number alone does not do: it may be another's by then."""
        connection = await self._open()
        replies: list[asyncio.Future[Msg | None]] = []
        try:
            async with asyncio.timeout(ANSWER_S):
                for number, one in enumerate(entries, last_number):
                    headers = {MESSAGE_ID: one.message_id, EXPECTED_LAST: str(number)}
                    if number > last_number:
                        headers[EXPECTED_ID] = entries[number - last_number - 1].message_id
                    replies.append(await connection.send(one.subject, one.body, headers))
                for number, reply in enumerate(replies, last_number + 1):
                    see_stored(await reply, number)
        except TimeoutError as error:
            raise LedgerUnavailable(f"{STREAM}: no answer within {ANSWER_S:.0f} s") from error
        finally:
            for reply in replies:
                reply.cancel()
        return last_number + len(entries)

    async def ends(self) -> tuple[int, Sequence[StoredEntry]]:
        """As the port says."""
        connection = await self._open()
        wanted = {"subjects_filter": f"{REFUSALS}.>"}
        state = (await connection.call(f"STREAM.INFO.{STREAM}", wanted, ANSWER_S))["state"]
        subjects = sorted(state.get("subjects") or ())
        found: list[StoredEntry] = []
        for begin in range(0, len(subjects), SUBJECTS_MAX):
            some = subjects[begin : begin + SUBJECTS_MAX]
            last = {"multi_last": some, "up_to_seq": state["last_seq"], "batch": len(some)}
            found += await _got(connection, last)
        return state["last_seq"], found

    async def is_missing(self) -> bool:
        """Is there no such stream? It is not made. Raises LedgerUnavailable."""
        async with NatsConnection.open(self._server) as connection:
            return await _is_missing(connection)

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
            entries = await _got(connection, {"seq": begin, "batch": end - begin}, end)
            found = [*[NotedEntry(one.seq, _noted(one)) for one in entries], *found]
            # Where much was pushed out the numbers are far apart.
            end, span = begin, min(2 * span, 8 * limit)
        return found[::-1][:limit]

    async def after(self, number: int, limit: int) -> Sequence[StoredEntry]:
        """As the port says."""
        return await _got(await self._open(), {"seq": number + 1, "batch": limit})

    async def _open(self) -> NatsConnection:
        """The connection, with the stream there. Raises LedgerUnavailable."""
        async with self._opening:
            if self._connection is not None and not self._connection.closed:
                return self._connection
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(NatsConnection.open(self._server))
                if await _is_missing(connection):
                    async with NatsConnection.open(self._admin) as admin:
                        wanted = config_of(self._per_caller_max)
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


def config_of(per_caller_max: int = KEPT.per_caller) -> dict[str, Any]:
    """The stream's settings."""
    return {
        "name": STREAM,
        "subjects": [f"{REFUSALS}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_bytes": KEPT.bytes,
        "max_age": KEPT.age_us * 1000,
        "max_msgs_per_subject": per_caller_max,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "duplicate_window": WINDOW_NS,
    }


async def _got(
    connection: NatsConnection, request: dict[str, Any], end: int | None = None
) -> list[StoredEntry]:
    """What is stored and was asked for, in order; none with the number `end` or a greater one."""
    inbox = f"_INBOX.{connection.unique_name()}"
    found: list[StoredEntry] = []
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(message: Msg) -> None:
        headers = message.headers or {}
        number = int(headers.get(_SEQUENCE, 0))
        if STATUS_HEADER not in headers and (end is None or number < end):
            subject, message_id = headers.get(_SUBJECT, ""), headers.get(MESSAGE_ID, "")
            found.append(StoredEntry(number, subject, message_id, message.data))
        elif not over.done():
            _finish(over, headers)

    async with connection.subscription(inbox, receive):
        subject = f"{API_PREFIX}DIRECT.GET.{STREAM}"
        await connection.publish(subject, _encode(request), reply=inbox)
        try:
            async with asyncio.timeout(ANSWER_S):
                await over
        except TimeoutError as error:
            raise LedgerUnavailable(f"{STREAM}: no answer within {ANSWER_S:.0f} s") from error
    return found


def _finish(over: "asyncio.Future[None]", headers: dict[str, str]) -> None:
    """The batch is over, because it is, or because of an error."""
    status = headers.get(STATUS_HEADER, _END)
    if status in (_END, _NOTHING):
        over.set_result(None)
    else:
        over.set_exception(LedgerUnavailable(f"{STREAM} cannot be read: status {status}"))


def _noted(entry: StoredEntry) -> Noted:
    try:
        return decode_noted(entry.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LedgerDamaged(f"entry {entry.seq} of {STREAM} cannot be read: {error}") from error


def see_stored(answer: Msg | None, number: int) -> None:
    """Raises LedgerUnavailable unless the server says that it stored one under this number."""
    if answer is None or not answer.data:
        raise LedgerUnavailable(f"{STREAM}: the connection or JetStream went away")
    said = msgspec.json.decode(answer.data)
    error = said.get("error")
    if error is not None:
        raise LedgerUnavailable(f"{STREAM}: {error.get('description')} ({error.get('err_code')})")
    if said.get("duplicate") or said.get("seq") != number:
        raise LedgerUnavailable(f"{STREAM}: it was stored before, as number {said.get('seq')}")
