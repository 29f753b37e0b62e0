"""The line to one receiver: each event that it wants is sent, in order, one at a time.

An event that was not taken becomes a delivery and is tried again later; those after it go on. The
place in the ledger moves in the same transaction that notes what came of an event, so whatever
dies, each is sent at least once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from msgspec import Struct

from events.codec import UnreadableRecord
from events.filters import wants_event, wants_record
from events.messages import Place, type_of
from events.webhook_messages import CONTENT_TYPE
from projections.webhook_book import Webhook
from service.application.event_feed import EventFeed, Fed, FeedEnded
from service.application.webhook_schedule import retry_after_us
from service.application.webhook_signing import Signer
from service.errors import DeliveriesUnavailable, LedgerError
from service.ports import Clock
from service.webhook_ports import Attempt, Deliveries, Outcome, Reply, Standing, WebhookSender

log = logging.getLogger(__name__)

PENDING_MAX = 1_000
"""With so many to be tried again it reads no further: the ledger keeps the rest."""

DEAD_MAX = 1_000
"""With so many dead letters, too: somebody has to look."""

PLACE_EVERY_S = 10.0
"""So old is the place that is kept at most, where nothing wanted comes by."""

PATIENCE_S = 15.0
AGAIN_S = 5.0
"""What was to be read or written and could not be is tried again after so long."""

GONE = 410
"""HTTP's word for: do not come again."""

Render = Callable[[Fed, int], bytes]
"""The event of a record with an index, as it is sent."""


class Shared(Struct, frozen=True):
    """What all lines have in common."""

    feed: EventFeed
    deliveries: Deliveries
    sender: WebhookSender
    clock: Clock
    signer: Signer
    render: Render
    disable: Callable[[Webhook, str], Awaitable[None]]
    """Disable a webhook, and say why."""
    noted: Callable[[str, Standing, Attempt | None], None]
    """Hears where a webhook is now, and what attempt led there."""


async def send(
    shared: Shared, webhook: Webhook, message_id: str, body: bytes
) -> tuple[Reply, int, int]:
    """Sign and send once: what came of it, when it began, and how long it took (microseconds)."""
    at_us, begun_s = shared.clock.now_us(), shared.clock.monotonic_s()
    headers = shared.signer.headers(webhook, message_id, at_us, body)
    headers["Content-Type"] = CONTENT_TYPE
    reply = await shared.sender.post(webhook.url, headers, body)
    return reply, at_us, round((shared.clock.monotonic_s() - begun_s) * 1e6)


class _HungUp(Exception):
    """Nothing more may be sent on this line."""


class Line:
    """`run` sends until it is cancelled, or until the feed ends."""

    def __init__(self, webhook: Webhook, shared: Shared) -> None:
        self.name = webhook.name
        self.seq = webhook.seq
        self._begin = Place(webhook.after_seq)
        self._shared = shared
        self._standing = Standing(self._begin)
        self._turn = asyncio.Lock()
        self._room_made = asyncio.Event()
        self._due_changed = asyncio.Event()
        self._kept_s = 0.0
        self._failure = ""

    @property
    def trouble(self) -> str:
        """Why it does not get on, for people; empty when it does."""
        if self._failure or (full := self._full()):
            return self._failure or full
        last = self._standing.last
        return f"the last attempt failed: {last.error}" if last is not None and last.error else ""

    async def run(self) -> None:
        """Send what there is, and what comes."""
        while True:
            try:
                await self._work()
            except FeedEnded:
                return
            except _HungUp:
                # It is cancelled in a moment, or was enabled again before anybody looked.
                log.debug("webhook %s is disabled or removed", self.name)
            except (DeliveriesUnavailable, LedgerError, UnreadableRecord) as error:
                self._failure = str(error)
                log.warning("webhook %s: %s; trying again", self.name, error)
            await self._shared.clock.sleep(AGAIN_S)

    async def _refresh(self) -> None:
        """Look where it is. Raises DeliveriesUnavailable."""
        found = await self._shared.deliveries.standing(self.name)
        if found is not None:
            self.stand(found)

    async def _work(self) -> None:
        """Both tasks, until one of them ends with an error, which is raised."""
        shared = self._shared
        self._webhook()  # another that has its name by now would have to begin anew
        self.stand(
            await shared.deliveries.begin(self.name, self.seq, self._begin, shared.feed.last_seq)
        )
        self._failure, self._kept_s = "", shared.clock.monotonic_s()
        tasks = [asyncio.create_task(part) for part in (self._follow(), self._retry())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    async def _follow(self) -> None:
        """Send each event for the first time, in the order of the ledger."""
        place = self._standing.place
        while True:
            await self._room()
            found = await self._shared.feed.after(place.seq, PATIENCE_S)
            for fed in found:
                begin = place.index + 1 if fed.seq == place.seq + 1 else 0
                await self._send_new(fed, begin)
                place = Place(fed.seq)
            now_s = self._shared.clock.monotonic_s()
            if place != self._standing.place and now_s - self._kept_s >= PLACE_EVERY_S:
                await self._shared.deliveries.move(self.name, place)
                await self._refresh()
                self._kept_s = now_s

    async def _send_new(self, fed: Fed, begin: int) -> None:
        """Send what is wanted of a record, from one of its events on."""
        webhook = self._webhook()
        if not wants_record(webhook.wanted, fed.record):
            return
        for index, event in enumerate(fed.record.events):
            if index < begin or not wants_event(webhook.wanted, event):
                continue
            await self._room()
            async with self._turn:
                await self._attempt(fed, index, 1, Place(fed.seq - 1, index))

    async def _retry(self) -> None:
        """Send again what was not taken, when it is due."""
        shared = self._shared
        while True:
            self._due_changed.clear()
            due_us, now_us = self._standing.due_us, shared.clock.now_us()
            if due_us is None or due_us > now_us:
                with suppress(TimeoutError):
                    async with asyncio.timeout(due_us and (due_us - now_us) / 1e6):
                        await self._due_changed.wait()
                continue
            async with self._turn:
                found = await shared.deliveries.due(self.name, shared.clock.now_us())
                if found is None:
                    await self._refresh()
                    continue
                at = Place.of(found.id)
                fed = await shared.feed.record(at.seq + 1)
                await self._attempt(fed, at.index, found.attempts + 1, None)

    async def _attempt(self, fed: Fed, index: int, number: int, place: Place | None) -> None:
        """Send an event, and note what came of it; then it is at `place`, if one is given."""
        shared, webhook = self._shared, self._webhook()
        event_id = f"{fed.seq}.{index}"
        body = shared.render(fed, index)
        reply, at_us, duration_us = await send(shared, webhook, event_id, body)
        wait_us = retry_after_us(self.name, event_id, number, reply.retry_after_s)
        outcome: Outcome = "failed" if wait_us is not None else "dead"
        attempt = Attempt(
            id=event_id,
            type=type_of(fed.record.events[index]),
            number=number,
            at_us=at_us,
            duration_us=duration_us,
            status=reply.status,
            error=reply.error,
            outcome="delivered" if reply.taken else outcome,
        )
        due_us = shared.clock.now_us() + (wait_us or 0)
        self.stand(await shared.deliveries.note(self.name, attempt, due_us, place), attempt)
        if place is not None:
            self._kept_s = shared.clock.monotonic_s()
        if reply.status == GONE:
            await shared.disable(webhook, "the receiver answered 410 Gone")

    def _webhook(self) -> Webhook:
        """As it is registered now. Raises _HungUp when it is so no more, or is disabled."""
        found = self._shared.feed.state.webhooks.get(self.name)
        if found is None or found.seq != self.seq or found.disabled:
            raise _HungUp
        return found

    def stand(self, standing: Standing, attempt: Attempt | None = None) -> None:
        """It is there by now."""
        self._standing = standing
        self._room_made.set()
        self._due_changed.set()
        self._shared.noted(self.name, standing, attempt)

    def _full(self) -> str:
        """Why it reads no further; empty when it does."""
        if self._standing.dead >= DEAD_MAX:
            return (
                f"{self._standing.dead} dead letters: it stands still until they are sent again,"
                " or discarded"
            )
        if self._standing.pending >= PENDING_MAX:
            return f"{self._standing.pending} events wait to be tried again: it stands still"
        return ""

    async def _room(self) -> None:
        """Return when it may read further."""
        while self._full():
            self._room_made.clear()
            await self._room_made.wait()
