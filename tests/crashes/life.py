"""A life of the service that ends at a crash point, and the next one."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from random import Random
from typing import Any, TypeVar, cast

from projections.store import ReadStore
from projections.tables import Batch
from service.application.executor import PROGRESS_EVERY_S
from service.disk_ports import SystemDisks, VolumeStore
from service.errors import GpuledgerError
from service.ports import ContainerEngine, ImageInfo, Ledger, Progress
from tests.kit.crash_points import COMMIT, Count, Point, Side, watched
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.simulation.disk_lines import LineDisks, LineVolumes
from tests.simulation.engine_line import LineEngine
from tests.simulation.line import Line, Patience, Seen, Weather

T = TypeVar("T")

PULL_S = PROGRESS_EVERY_S


class Wire(Line):
    """A line without delays and faults: the ends of it keep watch all the same."""

    def __init__(self) -> None:
        super().__init__(0, Random(0), Weather(), Counter())

    async def carry(
        self,
        delays_s: Sequence[float],
        do: Callable[[], Awaitable[T]],
        *,
        about: str = "",
        hangs_s: float = 0.0,
        patience: Patience | None = None,
    ) -> T:
        """At once."""
        return await do()


class Cut(Count):
    """Stands at the calls of one life. At `at` it is over: nothing arrives, no reply comes."""

    def __init__(self, at: Point | None = None, *, armed: bool = False) -> None:
        super().__init__()
        self.at = at
        self.armed = armed
        self.over = asyncio.Event()

    async def cross(self, call: str, doing: bool, do: Callable[[], Awaitable[T]]) -> T:
        """See `Watch`."""
        await self._if_alive()
        number = self.next(call) if doing else 0
        await self._pass(call, number, "before")
        try:
            reply = await do()
        except GpuledgerError:
            await self._pass(call, number, "after")
            raise
        await self._pass(call, number, "after")
        return reply

    async def _pass(self, call: str, number: int, side: Side) -> None:
        if number and Point(call, number, side) == self.at:
            self.over.set()
        await self._if_alive()

    async def _if_alive(self) -> None:
        if self.over.is_set():
            await asyncio.get_running_loop().create_future()


class SlowPulls(LineEngine):
    """Pulls take so long that their progress is recorded."""

    async def pull_image(self, image: str, on_progress: Callable[[Progress], None]) -> ImageInfo:
        """As the port says."""
        await asyncio.sleep(PULL_S)
        pulled = await super().pull_image(image, on_progress)
        await asyncio.sleep(PULL_S)
        return pulled


class WatchedStore:
    """A read store whose commits are watched."""

    def __init__(self, store: ReadStore, cut: Cut) -> None:
        self._store = store
        self._cut = cut

    async def apply(self, batch: Batch) -> None:
        """As the store's; one batch is one commit."""
        await self._cut.cross(COMMIT, True, lambda: self._store.apply(batch))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Life:
    """The service from its start to its end."""

    def __init__(self, host: SimulatedHost, seen: Seen, cut: Cut) -> None:
        self.cut = cut
        line = Wire()
        engine = SlowPulls(line, host, seen)
        volumes = LineVolumes(line, host)
        volumes.online = host.volumes.online
        self.service = SimulatedService(
            host,
            ledger=watched(Ledger, cast(Ledger, host.ledger), cut),
            engine=watched(ContainerEngine, cast(ContainerEngine, engine), cut),
            volumes=watched(VolumeStore, cast(VolumeStore, volumes), cut),
            disks=watched(SystemDisks, cast(SystemDisks, LineDisks(line, host)), cut),
            store=cast(ReadStore, WatchedStore(host.store, cut)),
        )
        self._up = asyncio.Event()
        self._living: asyncio.Task[None] | None = None

    async def live(self, deeds: Callable[[SimulatedService], Coroutine[Any, Any, T]]) -> T | None:
        """Start, unless it is up, and do it; None when the end came first."""
        if self._living is None:
            self._living = asyncio.create_task(self._live())
        doing = asyncio.create_task(self._do(deeds))
        over = asyncio.create_task(self.cut.over.wait())
        await asyncio.wait((doing, over, self._living), return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if doing.done():
            return doing.result()
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        if not self.cut.over.is_set():
            await self._living  # what it died of
        return None

    async def end(self) -> None:
        """It is gone, in order or cut off."""
        assert self._living is not None
        self._living.cancel()
        await asyncio.wait((self._living,))
        assert self._living.cancelled(), self._living
        assert not self.service.supervisor.failures, self.service.supervisor.failures

    async def _do(self, deeds: Callable[[SimulatedService], Coroutine[Any, Any, T]]) -> T:
        await self._up.wait()
        return await deeds(self.service)

    async def _live(self) -> None:
        async with self.service:
            self._up.set()
            await asyncio.get_running_loop().create_future()
