"""Webhooks on virtual time: a ledger that is folded as it grows, and receivers in memory."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from events.codec import encode
from events.operations import OperationSucceeded
from events.record import Event, Record
from events.subjects import subject_of
from events.webhooks import Wanted
from projections.evolve import evolve
from projections.projector import Subscriber
from projections.state import State
from service.adapters.delivery_file import DeliveryFile
from service.application.event_feed import EventFeed, Folded
from service.application.intake import Accepted, Caller, Intake
from service.application.webhook_signing import Signer
from service.application.webhooks import Webhooks
from service.domain.commands import Envelope, Request
from service.domain.decide import address, decide
from service.domain.rejections import Rejected
from service.domain.webhook_commands import RegisterWebhook
from service.ports import Entry
from service.web.event_secrets import hidden_body
from service.webhook_ports import Deliveries, Reply, WebhookSender
from tests.kit.builders import NODE, facts
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.virtual_time import CountingIds, VirtualClock

T = TypeVar("T")

KEY = bytes(range(32))
URL = "https://one.example/hook"
OTHER_URL = "https://two.example/hook"
TAKEN = Reply(204)
DOWN = Reply(0, "connection refused")
HOUR_S = 3600.0

OF_SETS = Wanted(kind="replica_set")
"""So that the records about the webhooks themselves do not count."""


class InlineDeliveries(DeliveryFile):
    """The port `Deliveries` in memory: the adapter's own statements, without file and thread.

    It outlives the service as the file does.
    """

    def __init__(self) -> None:
        super().__init__(Path(":memory:"))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        done = work()
        await asyncio.sleep(0)
        return done

    async def close(self) -> None:
        """As the port says; memory is not lost."""


class Sent(Struct, frozen=True):
    """A request that a receiver got."""

    at_us: int
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["Webhook-Id"]

    @property
    def payload(self) -> Any:
        return msgspec.json.decode(self.body)


class MemoryReceivers:
    """The port `WebhookSender`: every request is kept, and answered as a test says."""

    def __init__(self) -> None:
        self.got: list[Sent] = []
        self.answers: dict[str, deque[Reply]] = defaultdict(deque)
        """By address what the next requests get; then it is as always."""
        self.always: dict[str, Reply] = defaultdict(lambda: TAKEN)
        self.unlucky: Counter[str] = Counter()
        """By id of an event how often it is not taken before it is."""
        self.slow_s: dict[str, float] = {}
        """So long an address takes to answer."""
        self.most = 0
        """So many requests an address had at the same time."""
        self._busy: Counter[str] = Counter()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """As the port says."""
        self._busy[url] += 1
        self.most = max(self.most, self._busy[url])
        try:
            return await self._answer(url, headers, body)
        finally:
            self._busy[url] -= 1

    async def _answer(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        sent = Sent(VirtualClock().now_us(), url, dict(headers), body)
        self.got.append(sent)
        if slow_s := self.slow_s.get(url):
            await asyncio.sleep(slow_s)
        if self.unlucky[sent.id] > 0:
            self.unlucky[sent.id] -= 1
            return Reply(500, "HTTP 500")
        return self.answers[url].popleft() if self.answers[url] else self.always[url]

    async def close(self) -> None:
        """As the port says."""

    def ids(self, url: str = URL) -> list[str]:
        """The ids of what an address got, in that order."""
        return [one.id for one in self.got if one.url == url]


def webhooks_on(
    feed: EventFeed,
    projector: Folded,
    intake: Intake,
    receivers: WebhookSender,
    deliveries: Deliveries | None = None,
    signer: Signer | None = None,
) -> Webhooks:
    """The webhooks of a service, with doubles for their ports."""
    return Webhooks(
        feed,
        projector,
        deliveries or InlineDeliveries(),
        receivers,
        VirtualClock(),
        CountingIds(),
        signer or Signer(KEY),
        lambda fed, index: hidden_body(fed, projector.state, index),
        intake,
        NODE,
    )


class Rig:
    """What outlives the service: the ledger, the deliveries, the receivers. `living` is a life."""

    def __init__(self, key: bytes = KEY) -> None:
        self.state = State()
        self.folded_seq = 0
        self.failure: str | None = None
        self.ledger = MemoryLedger()
        self.clock = VirtualClock()
        self.deliveries = InlineDeliveries()
        self.receivers = MemoryReceivers()
        self.signer = Signer(key)
        self.webhooks: Webhooks
        self._subscribers: list[Subscriber] = []
        self._count = 0

    # -- as the projector ---------------------------------------------------------------------

    def subscribe(self, callback: Subscriber) -> None:
        """As the projector's."""
        self._subscribers.append(callback)

    async def happen(self, *events: Event, name: str = "foo", **changes: Any) -> int:
        """Store one record of these events (of one, when none is given), and fold it; its seq."""
        seq = self.folded_seq + 1
        known = {"kind": "replica_set", "verb": "run", "at_us": self.clock.now_us(), **changes}
        events = events or (OperationSucceeded(f"op-{seq}"),)
        record = Record(command_id=f"id-{seq}", node=NODE, name=name, events=events, **known)
        entry = Entry(subject_of(record), record.command_id, encode(record))
        await self.ledger.append([entry], seq - 1)
        evolve(self.state, seq, record)
        self.state.forget_touched()
        self.folded_seq = seq
        for callback in self._subscribers:
            callback(seq, record)
        return seq

    # -- as the intake ------------------------------------------------------------------------

    async def submit(
        self, command: Request, request: Mapping[str, Any], caller: Caller
    ) -> Accepted | Rejected:
        """As the intake's."""
        self._count += 1
        operation_id = f"op-{self._count}"
        envelope = Envelope(operation_id, self.clock.now_us(), command, facts(), caller.actor)
        decision = decide(self.state, envelope)
        if isinstance(decision, Rejected):
            return decision
        kind, name, verb = address(command)
        told = {"actor": caller.actor, "operation_id": operation_id}
        seq = await self.happen(*decision, name=name, kind=kind, verb=verb, **told)
        return Accepted(operation_id, seq)

    async def caught_up(self) -> None:
        """Always."""

    async def wait(self, operation_id: str, timeout_s: float) -> None:
        """Nobody waits here."""

    def output(self, operation_id: str) -> None:
        """There is none."""

    async def do(self, command: Request) -> None:
        """A command that has to be accepted."""
        assert isinstance(await self.submit(command, {}, Caller()), Accepted)

    async def register(self, name: str = "one", url: str = URL, **more: Any) -> None:
        """Register a webhook."""
        await self.do(RegisterWebhook(name, url, self.signer.key_id, **more))

    def standing(self) -> tuple[int, int]:
        """How many deliveries of "one" are pending, and dead."""
        found = self.webhooks.standings["one"]
        return found.pending, found.dead

    def trouble(self) -> str:
        """Why "one" does not get on."""
        return self.webhooks.trouble(self.state.webhooks["one"])

    # -- lives --------------------------------------------------------------------------------

    def begin(
        self, deliveries: Deliveries | None = None, sender: WebhookSender | None = None
    ) -> Webhooks:
        """The webhooks of a new life, not running yet."""
        self._subscribers.clear()
        self.webhooks = webhooks_on(
            EventFeed(self.ledger, self),
            self,
            self,
            sender or self.receivers,
            deliveries or self.deliveries,
            self.signer,
        )
        return self.webhooks

    @asynccontextmanager
    async def living(self) -> AsyncIterator[Webhooks]:
        """A life of the service; it must not fail."""
        webhooks = self.begin()
        running = asyncio.create_task(webhooks.run())
        try:
            yield webhooks
        finally:
            running.cancel()
            (ended,) = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended

    async def pass_(self, seconds: float) -> None:
        """Let time go by."""
        await asyncio.sleep(seconds)
