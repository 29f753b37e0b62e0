"""The whole service on the simulated world, served on a real socket from a thread of its own.

What answers are the real web layer, intake, writer, fold and executor; only the ports are doubles.
"""

import asyncio
import logging
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from projections.checkpoints import Checkpoints
from projections.timeline import Timeline
from service.application.disk_diff import DiskDiff
from service.application.event_feed import EventFeed
from service.application.explainer import Explainer
from service.application.past import Past
from service.domain.commands import CreateVolume
from service.web.access import Access
from service.web.app import make_app
from service.web.context import NodeFacts, WebContext
from service.web.cors import Cors
from service.web.limits import CallerLimits
from tests.kit.builders import GIB, NODE, OWNER, PORT_FIRST, run
from tests.kit.decided_again import decided_again
from tests.kit.memory_audit import MemoryAudit
from tests.kit.scripted_intake import ScriptedComparison
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.web_site import MemoryTokens
from tests.kit.webhook_rig import MemoryReceivers, webhooks_on

PORTS = 64
WAIT_S = 0.05
"""So long a command's caller waits: what takes longer is answered 202."""


class SimulatedSite:
    """A context manager. `url` is where it is; `faults` are the error lines that were logged."""

    def __init__(self) -> None:
        self.url = ""
        self.faults: list[logging.LogRecord] = []
        self.host = SimulatedHost(gpus=4, ports=PORTS)
        self.audit: MemoryAudit
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="simulated-site")
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._listener = _Faults(self.faults)
        logging.getLogger().addHandler(self._listener)
        self._thread.start()
        assert self._ready.wait(60), "the site did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        self._loop.close()
        logging.getLogger().removeHandler(self._listener)
        if self._failure is not None:
            raise self._failure

    def records_are_read_back(self) -> int:
        """Every stored record is stored as it reads, is decided again and folds; how many."""
        return sum(1 for _ in decided_again(self.host.ledger.entries))

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        async with SimulatedService(self.host) as service:
            await service.succeed(
                CreateVolume("disk", GIB),
                run("foo", 1, 1, data_disk_bytes=GIB, cmd=("sleep", "600000")),
            )
            self.audit = MemoryAudit(
                self.host.store,
                self.host.ledger,
                self.host.clock,
                lambda: service.projector.folded_seq,
                service.metrics,
            )
            service.supervisor.start("refusals", self.audit.refusals.run())
            runner = web.AppRunner(
                make_app(self._context(service)),
                access_log=None,
                max_line_size=65_536,
                shutdown_timeout=1,
            )
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()
            assert not service.supervisor.failures, service.supervisor.failures

    def _context(self, service: SimulatedService) -> WebContext:
        host = self.host
        limits = CallerLimits(0, 0, host.clock.monotonic_s)
        compare = ScriptedComparison()
        timeline = Timeline(host.ledger.read, Checkpoints(Path("/nonexistent")))
        feed = EventFeed(service.ledger, service.projector)
        webhooks = webhooks_on(feed, service.projector, service.intake, MemoryReceivers())
        service.supervisor.start("webhooks", webhooks.run())
        past = Past(timeline, host.store, service.projector, host.clock)
        return WebContext(
            intake=service.intake,
            present=host.store,
            past=past,
            explainer=Explainer(
                past, host.store, host.ledger.read, PORT_FIRST, PORT_FIRST + PORTS - 1
            ),
            health=service.health,
            metrics=service.metrics,
            ids=host.ids,
            node=lambda: NodeFacts(NODE, OWNER, "0", {"docker": "26"}, "simulated"),
            disk_diff=DiskDiff(lambda: service.state, compare, compare),
            access=Access(MemoryTokens(), limits, Cors(()), may_be_open=True, local=True),
            orphans=service.orphans.look,
            now_us=host.clock.now_us,
            feed=feed,
            webhooks=webhooks,
            refusals=self.audit.refusals,
            audit=self.audit.audit,
            port_first=PORT_FIRST,
            port_last=PORT_FIRST + PORTS - 1,
            wait_timeout_s=WAIT_S,
        )


class _Faults(logging.Handler):
    """Keeps what is logged as an error: what nobody foresaw."""

    def __init__(self, into: list[logging.LogRecord]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(record)
