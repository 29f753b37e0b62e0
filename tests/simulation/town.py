"""A simulation: one host, one life of the service after another, clients, and bad weather."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

from projections.state import Operation, State
from service.application.gpu_access import LOOK_EVERY_S as ACCESS_EVERY_S
from service.application.intake import Accepted, Caller
from service.application.observer import LOOK_EVERY_S as CONTAINERS_EVERY_S
from service.application.orphans import LOOK_EVERY_S as ORPHANS_EVERY_S
from service.application.retention import LOOK_EVERY_S as DISKS_EVERY_S
from service.application.watcher import LOOK_EVERY_S as GPUS_EVERY_S
from service.domain.commands import Request
from service.domain.orphan_commands import RemoveOrphan
from service.domain.orphans import BY_HAND
from service.domain.rejections import Rejected
from service.errors import DeliveriesUnavailable, LedgerUnavailable
from tests.kit.inline_store import InlineStore
from tests.kit.simulated_service import SimulatedHost
from tests.simulation.calling_service import CallingService
from tests.simulation.checks import due, waiting
from tests.simulation.clients import (
    FORBIDDEN,
    NAMES,
    PATIENCE_S,
    PULLED,
    Client,
    ConnectionLost,
    Told,
)
from tests.simulation.gpu_meddlers import GpuMeddlers
from tests.simulation.life import Life
from tests.simulation.line import DELAY_S_MAX, Seen, Weather
from tests.simulation.long_after import LongAfter
from tests.simulation.meddlers import Meddlers
from tests.simulation.receivers import Abroad
from tests.simulation.webhook_checks import Auditor
from tests.simulation.webhook_clients import TENANT, change_one, ping_one

T = TypeVar("T")

GPUS, PORTS = 3, 5
SIZES = ((1, 5), (2, 4), (2, 8), (3, 3), (3, 6), (3, 20))
"""How many clients, and how many commands each: a seed has one of these. Most faults need few
commands to do harm, and a start is where most harm shows; some need a long history."""

KEEP_REVISIONS = 2
ROOMY_BYTES = 1 << 40
PEACES_S = (2.0, 5.0, 15.0)
"""So long it takes at most from one trouble to the next: a seed has one of these."""

FAULT_RATES = (0.0, 0.02, 0.1, 0.3)

SILENCE_S = 8.0
"""After so long the stream of an engine that hangs is given up."""

DRIVER_PATIENCE_S = 10.0
"""So long the adapter waits for the driver."""

LOOKED_S = 75.0
"""What a look takes at most, where one before it hangs, and what follows from it."""

ORPHAN_GRACE_S = 60.0

LONG_AFTER = 0.3
"""So many seeds with webhooks at their end go on for days."""

QUIET_WITHIN_S = 600.0
"""From when all is well again: far more than the longest pause between two attempts."""


class Simulation:
    """All of it, from one seed. `run` returns when everything has come to rest."""

    def __init__(self, seed: int) -> None:
        self._rng = Random(seed)
        self.host = SimulatedHost(
            GPUS,
            PORTS,
            pullable=[PULLED],
            system_disk="auto" if seed % 2 else "commit",
            clones_share_blocks=bool(seed // 2 % 2),
            gpu_runtime="cdi" if seed // 4 % 2 else "nvidia",
            keep_revisions=KEEP_REVISIONS,
            orphan_grace_s=ORPHAN_GRACE_S,
        )
        self.host.paths.forbidden.add(FORBIDDEN)
        self._peace_s = self._rng.choice(PEACES_S)
        self.weather = Weather()
        self.seen = Seen()
        self.meddlers = Meddlers(self.host, self.seen, self._rng)
        self.gpu_meddlers = GpuMeddlers(self.host, self.seen.met, self._rng)
        self.abroad = Abroad()
        self.auditor = Auditor(self.host.ledger, self.abroad)
        self.lives = 0
        self._life: Life | None = None
        self._living: asyncio.Task[None] | None = None

    @property
    def told(self) -> list[Told]:
        """What the clients were told."""
        return [told for client in self._clients for told in client.told]

    @property
    def key_id(self) -> str:
        """See `Town`."""
        return self.abroad.signer().key_id

    @property
    def state(self) -> State:
        """What the service of now has folded."""
        return State() if self._life is None else self._life.service.state

    async def run(self) -> CallingService:
        """Live through it; the service that is up in the end, at rest."""
        clients, commands = self._rng.choice(SIZES)
        names = NAMES[: self._rng.choice((1, 2, len(NAMES)))]
        self._clients = [
            Client(f"c{n}", self, self._rng, commands, names) for n in range(clients)
        ]
        trouble = asyncio.create_task(self._make_trouble())
        keeper = asyncio.create_task(self._keep_up())
        try:
            await asyncio.gather(*(client.run() for client in self._clients))
        finally:
            trouble.cancel()
            await asyncio.gather(trouble, return_exceptions=True)
        self.weather.calm()
        self.gpu_meddlers.leave()
        self.host.disks.free = ROOMY_BYTES
        self.meddlers.leave()
        self.abroad.moods.clear()
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        if self._life is not None and (self._life.line.is_cut or not self._life.up.is_set()):
            await self._crash()
        service = await self.restart() if self._is_dead() else await self._rest()
        if any(revision.gpu_access_lost_us for revision in service.state.revisions.values()):
            await self.meddlers.give_gpus_back()
            await asyncio.sleep(2 * ACCESS_EVERY_S)
            assert not any(r.gpu_access_lost_us for r in service.state.revisions.values())
            await self._rest()
        return service

    async def restart(self) -> CallingService:
        """Stop it in order, if it runs, and start it again; the new one, at rest."""
        await self.end()
        self._start()
        return await self._rest()

    async def end(self) -> None:
        """An orderly stop of the service: its line is not cut, it says goodbye itself."""
        if self._living is not None:
            self._living.cancel()
            await self._buried()

    async def long_after(self) -> None:
        """The days of webhooks after it has ended, if anybody waits for something."""
        if self.state.webhooks and self._rng.random() < LONG_AFTER:
            await LongAfter(self.host, self.abroad, self.auditor, self.seen, self._rng).run()

    # -- what clients see ---------------------------------------------------------------------

    async def submit(self, command: Request, ticket: str, key: str) -> Accepted | Rejected:
        """See `Town`."""
        tenant = TENANT if ticket.startswith("c0-") else ""
        caller = Caller(actor=ticket, tenant=tenant, idempotency_key=key)
        answer = await self._ask(
            lambda service: service.intake.submit(command, {"ticket": ticket}, caller)
        )
        if isinstance(answer, Rejected):
            self.seen.met[f"refused: {answer.reason}"] += 1
        return answer

    async def wait(self, operation_id: str) -> Operation | None:
        """See `Town`."""
        ended = await self._ask(lambda service: service.intake.wait(operation_id, PATIENCE_S))
        if ended is not None:
            self.abroad.told_seq = max(self.abroad.told_seq, ended.finished_seq or 0)
        return ended

    async def _ask(self, ask: Callable[[CallingService], Coroutine[Any, Any, T]]) -> T:
        life = self._life
        if life is None or not life.up.is_set() or life.line.is_cut:
            await asyncio.sleep(0.1)
            raise ConnectionLost
        return await life.serve(ask(life.service))

    # -- lives and deaths ---------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Start it again, a moment after each death."""
        while True:
            self._start()
            await self._buried()
            # What was in flight has mostly arrived before it, and now and then has not.
            await asyncio.sleep(self._rng.choice((0.0, DELAY_S_MAX, DELAY_S_MAX, 1.0)))

    def _start(self) -> None:
        self.lives += 1
        self._life = Life(
            self.lives, self.host, self._rng, self.weather, self.seen, self.abroad
        )
        self._living = asyncio.create_task(self._life.run())

    async def _crash(self) -> None:
        if self._life is not None and self._living is not None:
            # Once: one that is cancelled again while it ends would leave parts of itself behind.
            if not self._life.line.is_cut:
                self._life.line.is_cut = True
                self._living.cancel()
            await self._buried()

    async def _buried(self) -> None:
        """Wait for the end of this life, and note what it died of."""
        living = self._living
        assert living is not None
        await asyncio.wait((living,))
        error = None if living.cancelled() else living.exception()
        if error is not None and not isinstance(error, LedgerUnavailable):
            self.seen.breaches.append(f"the service died of {error!r}")

    def _is_dead(self) -> bool:
        return self._living is None or self._living.done()

    async def _make_trouble(self) -> None:
        containers, gpus = self.meddlers, self.gpu_meddlers
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self._crash, self._crash, self._crash, self._forget_rows, self._boot),
            *(self._engine_away, self._engine_restarted, self._engine_hangs),
            *(self._ledger_away, self._ledger_hangs, self._disk_full, self._driver_stuck),
            *(containers.end_one, containers.run_out_of_memory, containers.remove_one),
            *(containers.start_one, containers.take_port),
            *(containers.take_gpus_away, containers.give_gpus_back, containers.leave_something),
            *(gpus.change_one, gpus.change_one, gpus.fail_one, gpus.lose_one, gpus.find_all),
            *(self._receiver_changes, self._receiver_changes, self._ping),
        )
        while True:
            self.weather.fault_rate = self._rng.choice(FAULT_RATES)
            await asyncio.sleep(self._rng.uniform(0.0, self._peace_s))
            kind = self._rng.choice(kinds)
            self.seen.met[f"trouble: {kind.__name__.strip('_')}"] += 1
            await kind()

    async def _forget_rows(self) -> None:
        """The files in the data directory that may be lost."""
        await self._crash()
        self.host.store = InlineStore()
        if self._rng.random() < 0.3:
            self.abroad.lose_file()
        if self._rng.random() < 0.2:
            self.abroad.lose_key()

    async def _receiver_changes(self) -> None:
        self.abroad.copy_file()
        if mood := change_one(self._rng, self.abroad, self.state):
            self.seen.met[f"webhook: {mood}"] += 1

    async def _ping(self) -> None:
        with suppress(ConnectionLost, DeliveriesUnavailable):
            await self._ask(lambda one: ping_one(self._rng, one.webhooks, one.state))

    async def _engine_away(self) -> None:
        self.weather.engine_down = True
        await asyncio.sleep(self._rng.choice((0.1, 3.0)))
        self.weather.engine_down = False

    async def _engine_restarted(self) -> None:
        """Its stream ends before or after what runs on it has ended."""
        if self._rng.random() < 0.5:
            self.meddlers.end_all()
        self.weather.engine_down = True
        if self._life is not None:
            self._life.engine.down = True
        await asyncio.sleep(self._rng.choice((0.1, 3.0, 15.0)))
        self.meddlers.end_all()
        self.weather.engine_down = False

    async def _ledger_away(self) -> None:
        self.weather.ledger_down = True
        await asyncio.sleep(self._rng.choice((0.1, 3.0, 30.0)))
        self.weather.ledger_down = False

    async def _engine_hangs(self) -> None:
        """It takes everything and answers nothing; its stream is given up after some seconds."""
        hangs_s = self._rng.choice((1.0, 12.0, 70.0))
        self.weather.engine_hangs_until_s = self.host.clock.monotonic_s() + hangs_s
        await asyncio.sleep(min(hangs_s, SILENCE_S))
        if hangs_s > SILENCE_S and self._life is not None:
            self._life.engine.down = True

    async def _ledger_hangs(self) -> None:
        hangs_s = self._rng.choice((1.0, 6.0, 20.0))
        self.weather.ledger_hangs_until_s = self.host.clock.monotonic_s() + hangs_s

    async def _boot(self) -> None:
        """Nothing survives but what is on disk."""
        await self._crash()
        if self._rng.random() < 0.5 and self.abroad.put_back_file():
            self.seen.met["webhook: file put back"] += 1
        self.meddlers.end_all()
        self.gpu_meddlers.boot()
        self.weather.engine_hangs_until_s = self.weather.ledger_hangs_until_s = 0.0

    async def _driver_stuck(self) -> None:
        """It says so, or a look takes long, or one that takes too long is given up."""
        probe = self.host.probe
        probe.trouble = self._rng.choice(("the driver does not answer", ""))
        probe.slow_s = self._rng.choice((0.0, DRIVER_PATIENCE_S))
        await asyncio.sleep(self._rng.choice((0.1, 15.0)))
        probe.trouble, probe.slow_s = "", 0.0

    async def _disk_full(self) -> None:
        """So full that patches are refused, and that kept disks are given up at the next start."""
        self.host.disks.free = 0
        if self._rng.random() < 0.5:
            await self._crash()
        await asyncio.sleep(self._rng.choice((0.1, 15.0, 90.0)))
        self.host.disks.free = ROOMY_BYTES

    async def _rest(self) -> CallingService:
        """The service, once nothing is due and no operation goes on."""
        assert self._life is not None
        service = self._life.service
        await asyncio.wait_for(self._life.up.wait(), QUIET_WITHIN_S)
        until = self.host.clock.monotonic_s() + QUIET_WITHIN_S
        while busy := [o for o in service.state.operations.values() if o.state == "running"]:
            assert self.host.clock.monotonic_s() < until, f"no end to {busy}"
            await asyncio.sleep(0.1)
        # GPUs and containers were looked at as they are now, and what expired is given up.
        await asyncio.sleep(LOOKED_S + max(GPUS_EVERY_S, DISKS_EVERY_S, CONTAINERS_EVERY_S))
        until = self.host.clock.monotonic_s() + 2 * ORPHANS_EVERY_S + ORPHAN_GRACE_S
        while orphans := (await service.orphans.look()).orphans:
            assert self.host.clock.monotonic_s() < until, f"no end to {orphans}"
            for orphan in orphans:
                if orphan.thing.kind == BY_HAND:
                    await service.succeed(RemoveOrphan(orphan.thing.id))
            await asyncio.sleep(ORPHAN_GRACE_S)
        until = self.host.clock.monotonic_s() + QUIET_WITHIN_S
        while left := [*due(service.state), *waiting(service.state)]:
            assert self.host.clock.monotonic_s() < until, f"no end to {left}"
            await asyncio.sleep(0.1)
        await service.projector.wait_stored(await service.ledger.last_seq())
        await self.auditor.check_at_rest(service, QUIET_WITHIN_S)
        return service
