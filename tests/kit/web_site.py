"""The web application being served on a real socket, and a client for it."""

import json
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from projections.projector import Projector
from service.access_ports import Grant, Role
from service.application.disk_diff import DiskDiff
from service.application.event_feed import EventFeed
from service.application.explainer import Explainer
from service.application.orphans import Found
from service.application.past import Past
from service.settings_text import Network
from service.telemetry import Metrics
from service.web.access import Access
from service.web.app import make_app
from service.web.context import NodeFacts, PresentReads, StreamTimes, WebContext
from service.web.cors import Cors
from service.web.limits import CallerLimits
from tests.kit.inline_store import InlineStore
from tests.kit.memory_audit import MemoryAudit
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.past import Standing, explainer_of, past_of
from tests.kit.scripted_intake import (
    CountedIds,
    MemoryReads,
    ScriptedComparison,
    ScriptedIntake,
    SetHealth,
)
from tests.kit.webhook_rig import MemoryReceivers, webhooks_on

RUN = {"imageName": "ubuntu:24.04", "replicaSetName": "foo"}
"""The smallest body of a run."""

PATIENT = StreamTimes()
"""As the service itself has them."""


class MemoryTokens:
    """The port `Tokens` on a mapping: what is put into it holds at once."""

    def __init__(self) -> None:
        self.grants: dict[str, Grant] = {}

    async def any(self) -> bool:
        """As the port says."""
        return bool(self.grants)

    async def find(self, presented: str) -> Grant | None:
        """As the port says."""
        return self.grants.get(presented)


class Answer:
    """A response with its body read."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        return self.json["data"]

    @property
    def code(self) -> int:
        return int(self.json["code"])


class Site:
    """The application being served, and a client for it."""

    def __init__(
        self,
        *,
        origins: Sequence[str] = (),
        rate_limit: int = 0,
        waiting_limit: int = 0,
        may_be_open: bool = True,
        local: bool = True,
        proxies: Sequence[Network] = (),
        stream_times: StreamTimes = PATIENT,
        past: Past | None = None,
        present: PresentReads | None = None,
        explainer: Explainer | None = None,
    ) -> None:
        self.now_s = 1000.0
        """The time of the limits: it stands still until a test moves it."""
        self.now_us = 1_700_000_000_000_000
        self.tokens = MemoryTokens()
        self.limits = CallerLimits(rate_limit, waiting_limit, lambda: self.now_s)
        self.access = Access(
            *(self.tokens, self.limits, Cors(origins)),
            may_be_open=may_be_open,
            local=local,
            proxies=proxies,
        )
        self.reads = MemoryReads()
        self.intake = ScriptedIntake(self.reads)
        self.directories = ScriptedComparison()
        self.images = ScriptedComparison()
        self.health = SetHealth()
        self.ledger = MemoryLedger()
        self.store = InlineStore()
        self.projector = Projector(self.ledger.read, self.store)
        """Of what is followed; nothing is folded until a test runs it."""
        self.receivers = MemoryReceivers()
        feed = EventFeed(self.ledger, self.projector)
        self.webhooks = webhooks_on(feed, self.projector, self.intake, self.receivers)
        metrics = Metrics()
        self.audit = MemoryAudit(self.reads, self.ledger, Standing(0, 0), lambda: 7, metrics)
        self.facts = NodeFacts("n1", "owner-1", "0.1.0", {"docker": "26.1.5"}, "simulated")
        past = past or past_of((), InlineStore())
        explainer = explainer or explainer_of((), InlineStore(), past)
        self.context = self._context(feed, metrics, past, present, explainer, stream_times)
        self.found = Found((), {})
        """The orphans that there are."""
        self.port = 0
        self.client: aiohttp.ClientSession

    def _context(
        self,
        feed: EventFeed,
        metrics: Metrics,
        past: Past,
        present: PresentReads | None,
        explainer: Explainer,
        stream_times: StreamTimes,
    ) -> WebContext:
        return WebContext(
            intake=self.intake,
            present=present or self.reads,
            past=past,
            explainer=explainer,
            health=self.health,
            metrics=metrics,
            ids=CountedIds(),
            node=lambda: self.facts,
            disk_diff=DiskDiff(self.reads.state, self.directories, self.images),
            access=self.access,
            orphans=self.look_for_orphans,
            now_us=lambda: self.now_us,
            feed=feed,
            webhooks=self.webhooks,
            refusals=self.audit.refusals,
            audit=self.audit.audit,
            port_first=40000,
            port_last=40009,
            wait_timeout_s=5,
            stream_times=stream_times,
        )

    async def look_for_orphans(self) -> Found:
        """What `found` says."""
        return self.found

    async def send(self, method: str, path: str, **options: Any) -> Answer:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.client.request(method, url, **options) as response:
            return Answer(response, await response.read())

    async def get(self, path: str) -> Answer:
        return await self.send("GET", path)

    def grant(self, role: Role, name: str = "", tenant: str = "") -> dict[str, str]:
        """Make a token; the headers that send it."""
        text = f"token-{len(self.tokens.grants)}"
        self.tokens.grants[text] = Grant(name or role, tenant, role)
        return {"Authorization": f"Bearer {text}"}

    async def run(self, **options: Any) -> Answer:
        return await self.send("POST", "/api/v1/replicaSet", **{"json": RUN, **options})

    @property
    def connections(self) -> int:
        """Of callers, at the moment."""
        server = self._runner.server
        return len(server.connections) if server is not None else 0

    async def __aenter__(self) -> Self:
        app = make_app(self.context)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.client = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.client.close()
        await self.stop_serving()

    async def stop_serving(self) -> None:
        """As at the end of the service; once more is no harm."""
        await self._runner.cleanup()
