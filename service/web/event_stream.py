"""GET /events: what happened and what happens, as server-sent events.

The id of a message is its place in the ledger, `<seq>.<index>`. Whoever comes back with it, as
`Last-Event-ID` or `after`, goes on with the next one: nothing is lost, and nothing comes twice.
"""

import asyncio
import logging
import re
import socket
from collections.abc import Sequence

from aiohttp import web

from events.codec import UnreadableRecord
from events.filters import wants_event, wants_record
from events.messages import Place, encode_message, message_of
from events.record import Event, Record
from events.webhooks import Wanted
from service.application.event_feed import EventFeed, Fed, FeedEnded
from service.errors import LedgerError
from service.telemetry import REQUEST_ID
from service.web.access import CALLER
from service.web.context import CONTEXT, WebContext
from service.web.event_filters import KINDS, checked
from service.web.event_secrets import carries_env, hidden_events
from service.web.problems import BadRequest, Code
from service.web.routes import API, Query, Route, check_queries, number_in
from service.web.secrets import shows_secrets

RETRY_MS = 2_000
"""So long a reader that lost its connection is asked to wait before it comes again."""

WRITE_BYTES = 64 * 1024
"""About so much is handed to the socket at once; then it is waited until that was taken."""

WAITING_BYTES_MAX = 256 * 1024
"""So much the kernel keeps for a reader; by itself it would keep megabytes for a slow one."""

_PLACE_PATTERN = r"^[0-9]{1,18}(\.[0-9]{1,9})?$"
_PLACE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?")

_log = logging.getLogger(__name__)


async def _events(request: web.Request) -> web.StreamResponse:
    context = request.app[CONTEXT]
    check_queries(request, ROUTES[0].parameters)
    feed, wanted = context.feed, _wanted(request)
    place = _begin(request, feed)
    until_seq = None if number_in(request, "follow", 1, 0, 1) else feed.last_seq
    with feed.reader(request[CALLER]):
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would hold events back
                "X-Request-Id": REQUEST_ID.get(),
            }
        )
        await response.prepare(request)
        _bound_waiting(request)
        if request.method != "HEAD":
            await _Stream(request, response, context).run(feed, wanted, place, until_seq)
    return response


async def end_streams(app: web.Application) -> None:
    """Have all readers told that the service stops."""
    app[CONTEXT].feed.end("the service stops")


class _Stream:
    """One reader's connection."""

    def __init__(
        self, request: web.Request, response: web.StreamResponse, context: WebContext
    ) -> None:
        self._request = request
        self._response = response
        self._access = context.access
        self._times = context.stream_times
        self._sees_secrets = shows_secrets(request)
        self._now_s = asyncio.get_running_loop().time
        self._written_s = 0.0
        self._admitted_s = self._now_s()

    async def run(
        self, feed: EventFeed, wanted: Wanted, place: Place, until_seq: int | None
    ) -> None:
        """Send until the reader goes away, the feed ends, or `until_seq` is sent.

        Raises ConnectionError when the reader takes nothing for too long.
        """
        seq, seen = place.seq, place.index
        # With the place: who loses the connection before the first event goes on from here.
        begin = b"id: %d\n\n" % seq if seen < 0 else b"\n"
        await self._write(b"retry: %d\n" % RETRY_MS + begin)
        try:
            while until_seq is None or seq < until_seq:
                found = await feed.after(seq, self._times.heartbeat_s)
                if until_seq is not None:
                    found = [fed for fed in found if fed.seq <= until_seq]
                if not await self._still_admitted():
                    await self._write(b": the token is not valid any more\n\n")
                    break
                await self._send(self._frames(feed, wanted, found, seen))
                if found:
                    seq, seen = found[-1].seq, -1
                if self._now_s() - self._written_s >= self._times.heartbeat_s:
                    # With the place, so that what is not wanted is not looked through again.
                    await self._write(b": nothing new\nid: %d\n\n" % seq if seen < 0 else b": \n\n")
        except FeedEnded as end:
            reason = " ".join(str(end).split())
            await self._write(b": %s\n\n" % reason.encode())
        except (LedgerError, UnreadableRecord) as error:
            # The reader comes again; that it cannot be read now is for /readyz to tell.
            _log.warning("%s: %s", self._request.path, error)
            await self._write(b": the ledger cannot be read\n\n")

    async def _still_admitted(self) -> bool:
        """A token can be revoked, and can expire, while its reader listens."""
        now_s = self._now_s()
        if now_s - self._admitted_s < self._times.admitted_s:
            return True
        self._admitted_s = now_s
        return await self._access.still_admits(self._request)

    def _frames(
        self, feed: EventFeed, wanted: Wanted, found: Sequence[Fed], seen: int
    ) -> list[bytes]:
        frames: list[bytes] = []
        for place, fed in enumerate(found):
            if not wants_record(wanted, fed.record):
                continue
            all_frames = frames_of(fed, feed, secrets=self._sees_secrets)
            for index, event in enumerate(fed.record.events):
                if wants_event(wanted, event) and (place or index > seen):
                    frames.append(all_frames[index])
        return frames

    async def _send(self, frames: Sequence[bytes]) -> None:
        pending: list[bytes] = []
        size = 0
        for frame in frames:
            pending.append(frame)
            size += len(frame)
            if size >= WRITE_BYTES:
                await self._write(b"".join(pending))
                pending, size = [], 0
        if pending:
            await self._write(b"".join(pending))

    async def _write(self, data: bytes) -> None:
        """Hand it to the socket, and wait until there is room for more."""
        try:
            async with asyncio.timeout(self._times.write_s):
                await self._response.write(data)
        except TimeoutError:
            _log.info("a reader of events took nothing for %d s: cut off", self._times.write_s)
            if (transport := self._request.transport) is not None:
                transport.abort()
            raise ConnectionAbortedError("the reader is too slow") from None
        self._written_s = self._now_s()


def frames_of(fed: Fed, feed: EventFeed, *, secrets: bool) -> Sequence[bytes]:
    """The events of a record as they are sent; made once, whoever reads them."""
    record = fed.record
    secrets = secrets or not carries_env(record)
    if (frames := fed.sent_as.get(secrets)) is None:
        events = record.events if secrets else hidden_events(record, feed.state)
        frames = [_frame(fed.seq, record, index, event) for index, event in enumerate(events)]
        fed.sent_as[secrets] = frames
    return frames


def _frame(seq: int, record: Record, index: int, event: Event) -> bytes:
    message = message_of(seq, record, index, event)
    head = f"id: {message.id}\nevent: {message.type}\ndata: "
    return head.encode() + encode_message(message) + b"\n\n"


def _bound_waiting(request: web.Request) -> None:
    """Let no more wait for the reader in the kernel than WAITING_BYTES_MAX."""
    transport = request.transport
    if transport is not None and (own := transport.get_extra_info("socket")) is not None:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WAITING_BYTES_MAX)


def _wanted(request: web.Request) -> Wanted:
    """What is asked for. Raises BadRequest."""
    kind, name, tenant, types = (
        request.query.get(field, "") for field in ("kind", "name", "tenant", "type")
    )
    return checked(kind, name, tenant, types.split(","))


def _begin(request: web.Request, feed: EventFeed) -> Place:
    """Where to go on; without a word about it, with what happens from now on. Raises BadRequest."""
    header = request.headers.get("Last-Event-ID")
    text = header if header else request.query.get("after")
    if text is None:
        return Place(feed.last_seq)
    field = "Last-Event-ID" if header else "after"
    if (parts := _PLACE.fullmatch(text)) is None:
        raise _bad(field, "is the id of an event, such as 17.0, or the seq of a record; 0 is all")
    seq = int(parts[1])
    if seq > feed.last_seq:
        raise _bad(field, f"is {text}, but the ledger ends at {feed.last_seq}: it is another one")
    return Place(seq) if parts[2] is None or not seq else Place(seq - 1, int(parts[2]))


def _bad(field: str, text: str) -> BadRequest:
    return BadRequest(Code.BAD_REQUEST, f"{field} {text}", field)


ROUTES = (
    Route(
        *("GET", f"{API}/events", _events, "Follow what happens, as server-sent events", "Events"),
        enveloped=False,
        media_type="text/event-stream",
        streams=True,
        now="it goes on from any event itself: after",
        queries=(
            Query("kind", f"Only of this kind: {', '.join(KINDS)}."),
            Query("name", "Only of this replica set, volume, GPU, orphan or node."),
            Query("type", "Only of this type, or of these, with commas between."),
            Query("tenant", "Only what tokens of this tenant asked for."),
            Query(
                "after",
                "Begin after this event (`17.0`) or record (`17`); 0 is from the beginning. The"
                " header Last-Event-ID says the same, and counts more. Without both: from now on.",
                pattern=_PLACE_PATTERN,
            ),
            Query(
                "follow", "0: end with the last event that there is.", "integer", least=0, most=1
            ),
        ),
        codes=(Code.BAD_REQUEST,),
    ),
)
