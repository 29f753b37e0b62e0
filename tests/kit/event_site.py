"""The web application with its ledger being followed, and readers of its events."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from msgspec import Struct

from events.codec import encode
from events.record import Event, Record
from events.subjects import subject_of
from projections.projector import Subscriber
from projections.state import State
from service.ports import Entry
from tests.kit.web_site import Site

EVENTS = "/api/v1/events"


class Fold:
    """What the feed needs of a projector: it folds when it is told to."""

    def __init__(self) -> None:
        self.state = State()
        self.folded_seq = 0
        self.failure: str | None = None
        self._subscribers: list[Subscriber] = []

    def subscribe(self, callback: Subscriber) -> None:
        """As the projector's."""
        self._subscribers.append(callback)

    def fold(self, record: Record) -> None:
        """Go on by one record. The state stays empty."""
        self.folded_seq += 1
        for callback in self._subscribers:
            callback(self.folded_seq, record)


class Message(Struct, frozen=True):
    """One message of a stream, as a client makes it out."""

    id: str
    event: str
    data: str

    @property
    def payload(self) -> Any:
        return json.loads(self.data)


class Stream:
    """What a client reads of a response. `last_id` is what it would come back with."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments: list[str] = []
        self.last_id = ""
        self.retry = 0

    async def messages(self) -> AsyncIterator[Message]:
        """All messages until the end of the stream, by the rules of the HTML standard."""
        event, data = "", ""
        while line := await self.response.content.readline():
            field, _colon, value = line.decode().removesuffix("\n").partition(":")
            value = value.removeprefix(" ")
            match field:
                case "" if _colon:
                    self.comments.append(value)
                case "" if data:
                    yield Message(self.last_id, event, data)
                    event, data = "", ""
                case "id":
                    self.last_id = value
                case "event":
                    event = value
                case "data":
                    data += value
                case "retry":
                    self.retry = int(value)

    async def begin(self) -> str:
        """The place that the stream begins at, which it says first."""
        retry, place = [(await self.response.content.readline()).decode() for _ in range(2)]
        assert retry.startswith("retry: ")
        return place.removeprefix("id: ").strip()

    async def next(self) -> Message:
        """The next message, which has to come."""
        async with asyncio.timeout(60):
            return await anext(aiter(self.messages()))

    async def all(self) -> list[Message]:
        """The messages up to the end of the stream, which has to come."""
        async with asyncio.timeout(60):
            return [one async for one in self.messages()]


class EventSite(Site):
    """A site on which records are stored and folded."""

    async def append(self, *records: Record) -> None:
        """Append records, and return when they are folded."""
        last = await self.ledger.last_seq()
        entries = [Entry(subject_of(one), one.command_id, encode(one)) for one in records]
        last = await self.ledger.append(entries, last)
        await self.projector.wait_folded(last)

    async def happen(self, *events: Event, name: str = "foo", **changes: Any) -> int:
        """Store one record of these events; its seq."""
        seq = await self.ledger.last_seq() + 1
        known = {"kind": "replica_set", "verb": "run", "at_us": seq, **changes}
        await self.append(
            Record(command_id=f"id-{seq}", node="n1", name=name, events=events, **known)
        )
        return seq

    @property
    def connections(self) -> int:
        """How many there are, as the server sees it."""
        server = self._runner.server
        assert server is not None
        return len(server.connections)

    async def readers_are(self, count: int) -> None:
        """Return when there are so many readers, which has to become so."""
        async with asyncio.timeout(60):
            while self.context.feed.readers != count:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    @asynccontextmanager
    async def stream(self, query: str = "", **options: Any) -> AsyncIterator[Stream]:
        """The answer to a reader that is let in."""
        url = f"http://127.0.0.1:{self.port}{EVENTS}{query}"
        async with self.client.get(url, **options) as response:
            assert response.status == 200, await response.text()
            yield Stream(response)


@asynccontextmanager
async def event_site(**options: Any) -> AsyncIterator[EventSite]:
    """A site whose projector runs."""
    async with AsyncExitStack() as stack:
        site = EventSite(**options)
        await stack.enter_async_context(site.store)
        await site.projector.load()
        following = asyncio.create_task(site.projector.run())
        await stack.enter_async_context(site)
        try:
            yield site
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
