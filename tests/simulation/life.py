"""One life of the service in a simulation: from a start to its crash."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from random import Random
from typing import Any, TypeVar

from projections.projector import Projector
from service.application.writer import Receipt, Writer
from service.domain.commands import Envelope
from service.domain.rejections import Rejected
from service.ports import Ledger
from service.telemetry import Metrics
from tests.kit.simulated_service import SimulatedHost
from tests.simulation.calling_service import CallingService
from tests.simulation.clients import ConnectionLost
from tests.simulation.disk_lines import LineDisks, LineVolumes
from tests.simulation.engine_line import LineEngine
from tests.simulation.ledger_line import LineLedger
from tests.simulation.line import Line, Seen, Weather
from tests.simulation.receivers import Abroad

T = TypeVar("T")


class CountingWriter(Writer):
    """A Writer that counts what it refuses the service itself."""

    def __init__(
        self,
        ledger: Ledger,
        projector: Projector,
        node: str,
        metrics: Metrics,
        *,
        met: Counter[str],
    ) -> None:
        super().__init__(ledger, projector, node, metrics)
        self._met = met

    async def submit(self, envelope: Envelope) -> Receipt | Rejected:
        answer = await super().submit(envelope)
        if isinstance(answer, Rejected) and not envelope.request:
            self._met[f"refused: {answer.reason}"] += 1
        return answer


class Life:
    """The service from a start to its crash, and the requests that it serves."""

    def __init__(
        self,
        number: int,
        host: SimulatedHost,
        rng: Random,
        weather: Weather,
        seen: Seen,
        abroad: Abroad,
        made: type[CallingService] = CallingService,
    ) -> None:
        self.line = Line(number, rng, weather, seen.met)
        self.engine = LineEngine(self.line, host, seen)
        self.service = made(
            host,
            self.line,
            abroad,
            seen,
            ledger=LineLedger(self.line, host.ledger),
            engine=self.engine,
            volumes=LineVolumes(self.line, host),
            disks=LineDisks(self.line, host),
            writer=lambda *parts: CountingWriter(*parts, met=seen.met),
        )
        self.up = asyncio.Event()
        self._requests: list[asyncio.Task[Any]] = []

    async def run(self) -> None:
        """Until it is cancelled. Raises LedgerUnavailable when it cannot start."""
        try:
            async with self.service:
                self.up.set()
                await asyncio.get_running_loop().create_future()
        finally:
            self.line.is_cut = True
            for request in self._requests:
                request.cancel()
            assert not self.service.supervisor.failures, self.service.supervisor.failures

    async def serve(self, request: Coroutine[Any, Any, T]) -> T:
        """A request, as its client sees it. Raises ConnectionLost when the service dies."""
        task = asyncio.create_task(request)
        self._requests.append(task)
        await asyncio.wait((task,))
        self._requests.remove(task)
        if task.cancelled():
            raise ConnectionLost
        return task.result()
