"""Webhooks: a line to each receiver that is registered and enabled, for as long as it is."""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping

import msgspec

from events.codec import show_time
from events.messages import Place
from events.record import Record
from events.webhook_messages import PING_TYPE, Ping, PingMessage
from events.webhooks import (
    WebhookDisabled,
    WebhookEnabled,
    WebhookRegistered,
    WebhookRemoved,
    WebhookRotated,
)
from projections.webhook_book import Webhook
from service.application.event_feed import EventFeed, Folded
from service.application.intake import Caller, Intake
from service.application.webhook_line import AGAIN_S, Line, Render, Shared, send
from service.application.webhook_signing import Signer
from service.domain.webhook_commands import DisableWebhook
from service.errors import DeliveriesUnavailable, GpuledgerError
from service.ports import Clock, Ids
from service.webhook_ports import Attempt, Deliveries, Outcome, Standing, WebhookSender

log = logging.getLogger(__name__)

ACTOR = "webhooks"
"""Who disables a webhook whose receiver wants no more."""

OTHER_KEY = (
    "its secret was made with another key: put the webhooks.key of then back, or give it a new"
    " secret (rotate)"
)

_CHANGES = (WebhookRegistered, WebhookRotated, WebhookDisabled, WebhookEnabled, WebhookRemoved)


class Webhooks:
    """`run` sends until it is cancelled. Make it once the ledger is caught up."""

    def __init__(
        self,
        feed: EventFeed,
        projector: Folded,
        deliveries: Deliveries,
        sender: WebhookSender,
        clock: Clock,
        ids: Ids,
        signer: Signer,
        render: Render,
        intake: Intake,
        node: str,
    ) -> None:
        self.deliveries = deliveries
        """What was sent and is to be; to be changed by the methods here only."""
        self.signer = signer
        self.standings: dict[str, Standing] = {}
        """Where each webhook was last known to be."""
        self.sent: Counter[Outcome] = Counter()
        """Attempts since the start, by what came of them."""
        self._feed = feed
        self._ids = ids
        self._node = node
        self._intake = intake
        self._lines: dict[str, tuple[Line, asyncio.Task[None]]] = {}
        self._changed = asyncio.Event()
        self._shared = Shared(
            feed, deliveries, sender, clock, signer, render, self._disable, self._note
        )
        projector.subscribe(self._on_record)

    async def run(self) -> None:
        """Keep a line to each receiver."""
        try:
            while True:
                self._changed.clear()
                try:
                    await self._arrange()
                except DeliveriesUnavailable as error:
                    log.warning("%s; trying again", error)
                    await self._shared.clock.sleep(AGAIN_S)
                    continue
                await self._changed.wait()
        finally:
            for name in tuple(self._lines):
                await self._hang_up(name)

    async def close(self) -> None:
        """Let go of the file and of all connections."""
        await self._shared.sender.close()
        await self.deliveries.close()

    def trouble(self, webhook: Webhook) -> str:
        """Why a webhook does not get on, for people; empty when it does."""
        if not self.signer.knows(webhook):
            return OTHER_KEY
        line = self._lines.get(webhook.name)
        return line[0].trouble if line is not None and not webhook.disabled else ""

    def troubles(self) -> dict[str, str]:
        """The same of all that are registered."""
        return {name: self.trouble(one) for name, one in self._feed.state.webhooks.items()}

    async def ping(self, webhook: Webhook) -> Attempt:
        """Send a message that is no event, now, and note it. Raises DeliveriesUnavailable."""
        message_id = f"ping-{self._ids.new()}"
        message = PingMessage(
            specversion="1.0",
            id=message_id,
            source=f"/gpuledger/{self._node}",
            type=PING_TYPE,
            subject=f"webhook/{webhook.name}",
            time=show_time(self._shared.clock.now_us()),
            datacontenttype="application/json",
            data=Ping(webhook.name),
        )
        body = msgspec.json.encode(message)
        reply, at_us, duration_us = await send(self._shared, webhook, message_id, body)
        attempt = Attempt(
            id=message_id,
            type=PING_TYPE,
            number=1,
            at_us=at_us,
            duration_us=duration_us,
            status=reply.status,
            error=reply.error,
            outcome="delivered" if reply.taken else "failed",
        )
        standing = await self.deliveries.note_ping(webhook.name, webhook.seq, attempt)
        self._stand(webhook.name, standing)
        return attempt

    async def revive(self, name: str, ids: Collection[str]) -> int:
        """Send dead letters again (all, when none is named); how many. Raises
        DeliveriesUnavailable."""
        now_us = self._shared.clock.now_us()
        count, standing = await self.deliveries.revive(name, ids, now_us)
        self._stand(name, standing)
        return count

    async def discard(self, name: str, ids: Collection[str]) -> int:
        """Forget dead letters (all, when none is named); how many. Raises
        DeliveriesUnavailable."""
        count, standing = await self.deliveries.discard(name, ids)
        self._stand(name, standing)
        return count

    def _stand(self, name: str, standing: Standing | None) -> None:
        """Something was changed for a webhook, perhaps while nothing is sent to it."""
        if standing is None or name not in self._feed.state.webhooks:
            return
        if (line := self._lines.get(name)) is not None:
            line[0].stand(standing)
        else:
            self.standings[name] = standing

    async def _arrange(self) -> None:
        """Lines to those that are registered and enabled, and to no others."""
        registered: Mapping[str, Webhook] = self._feed.state.webhooks
        for name, (line, task) in tuple(self._lines.items()):
            known = registered.get(name)
            if known is None or known.seq != line.seq or not self._may_send(known):
                await self._hang_up(name)
            elif task.done():
                task.result()  # it ended with the feed, or raises what was a mistake of ours
        await self.deliveries.keep(registered)
        for name in self.standings.keys() - registered.keys():
            del self.standings[name]
        for name in tuple(registered):  # it may change at every turn of the loop
            webhook = registered.get(name)
            if webhook is None or name in self._lines:
                continue  # whoever has the line of another gets his own the next time
            if self._may_send(webhook):
                self._call(webhook)
            else:
                # Whoever looks at it is to see nothing of another that had its name.
                begin, last_seq = Place(webhook.after_seq), self._feed.last_seq
                standing = await self.deliveries.begin(name, webhook.seq, begin, last_seq)
                self.standings[name] = standing

    def _may_send(self, webhook: Webhook) -> bool:
        return not webhook.disabled and self.signer.knows(webhook)

    def _call(self, webhook: Webhook) -> None:
        line = Line(webhook, self._shared)
        task = asyncio.create_task(line.run(), name=f"webhook {webhook.name}")
        task.add_done_callback(lambda _: self._changed.set())
        self._lines[webhook.name] = line, task

    async def _hang_up(self, name: str) -> None:
        _, task = self._lines.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _disable(self, webhook: Webhook, why: str) -> None:
        """Have it recorded. When that fails, the next attempt will say the same again.

        Not of another that has its name by then.
        """
        command = DisableWebhook(webhook.name, why, webhook.seq)
        try:
            await self._intake.submit(command, {"why": why}, Caller(actor=ACTOR))
        except GpuledgerError as error:
            log.warning("webhook %s could not be disabled (%s): %s", webhook.name, why, error)

    def _note(self, name: str, standing: Standing, attempt: Attempt | None) -> None:
        self.standings[name] = standing
        if attempt is None:
            return
        self.sent[attempt.outcome] += 1
        if attempt.outcome == "dead" and standing.dead == 1:
            log.warning("webhook %s has a dead letter, %s: %s", name, attempt.id, attempt.error)

    def _on_record(self, seq: int, record: Record) -> None:
        if any(isinstance(event, _CHANGES) for event in record.events):
            self._changed.set()
