"""A scenario, with the service dying at given points; then everything is looked at."""

import asyncio
from typing import Any

from msgspec import Struct

from events.record import Record
from projections.state import State
from service.application.intake import Accepted, Caller
from service.domain.commands import Request
from service.domain.reconcile import SNAPSHOT_REPOSITORY
from service.domain.rejections import Rejected
from tests.crashes.life import Cut, Life
from tests.crashes.scenarios import Deed, Scenario
from tests.kit.crash_points import Point
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.simulation.checks import (
    check_at_rest,
    check_disks,
    check_done_once,
    check_every_record,
    check_retention,
    check_world,
    due,
    records_of,
    waiting,
)
from tests.simulation.line import Seen

CONVERGED_S_MAX = 5.0
"""So long after a start, on virtual time, may the last record come of what was cut off."""

QUIET_S = 1.0
QUIET_WITHIN_S = 300.0
KEY = "deed"


class Played(Struct):
    """What came of it."""

    lives: list[list[tuple[str, int]]]
    """The calls of each life, from the deed on."""
    end: dict[str, Any]
    """All that is there in the end, without what two runs may differ in."""
    converged_s: float
    """From the last start to the last record."""
    effects: set[str]
    """The types of the effects that were carried out."""
    verbs: set[str]
    """What the records from the deed on are of."""


class Play:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.host = SimulatedHost(**scenario.host)
        self.seen = Seen()
        self._later: tuple[Deed, ...] = ()
        """What is left of the set-up when the service is there."""
        self._happened = False
        self._effects: set[str] = set()
        self._answer: dict[str, Any] = {}

    async def run(self, *points: Point) -> Played:
        """Die at each of the points in turn, each in a life of its own, and come to rest."""
        host = self.host
        self._begin()
        first = Cut()
        life = Life(host, self.seen, first)
        if self._later:
            await life.live(self._set_up)
        before = len(await records_of(host.ledger))
        first.at, first.armed = (points[0] if points else None), True
        lives: list[list[tuple[str, int]]] = []
        begun_us = 0
        for at in (*points[1:], None, None):
            begun_us = host.clock.now_us()
            service = await life.live(self._deed)
            lives.append(life.cut.calls)
            self._note_effects(life.service)
            if service is not None:
                break
            await life.end()
            life = Life(host, self.seen, Cut(at, armed=True))
        assert len(lives) == len(points) + 1, f"it never came to {points[len(lives) - 1]}"
        records = await records_of(host.ledger)
        last_us = max([begun_us, *(record.at_us for record in records[before:])])
        end = await self._check(life, records)
        return Played(
            lives,
            end,
            (last_us - begun_us) / 1e6,
            self._effects,
            {record.verb for record in records[before:]},
        )

    def _begin(self) -> None:
        """What happens before the service is there."""
        for number, deed in enumerate(self._scenario.before):
            if not callable(deed):
                self._later = self._scenario.before[number:]
                return
            deed(self.host)

    async def _set_up(self, service: SimulatedService) -> None:
        for number, deed in enumerate(self._later):
            if callable(deed):
                deed(self.host)
            else:
                await service.ended(await self._submit(service, deed, f"before-{number}"))
        await self._rest(service)

    async def _deed(self, service: SimulatedService) -> SimulatedService:
        """Done by a caller who asks again after a crash, with the same key; or it happens once."""
        deed = self._scenario.deed
        if callable(deed):
            if not self._happened:
                self._happened = True
                deed(self.host)
        elif deed is not None:
            answer = await self._submit(service, deed, KEY)
            if isinstance(answer, Rejected):
                self._answer = {"rejected": answer.reason}
            else:
                ended = await service.ended(answer)
                self._answer = {"state": ended.state, "reason": ended.reason}
        await self._rest(service)
        return service

    @staticmethod
    async def _submit(
        service: SimulatedService, deed: Request, ticket: str
    ) -> Accepted | Rejected:
        caller = Caller(actor=ticket, idempotency_key=ticket)
        return await service.intake.submit(deed, {"ticket": ticket}, caller)

    async def _rest(self, service: SimulatedService) -> None:
        """Return when nothing is due, and nothing happened that is still to be noticed."""
        await asyncio.sleep(self._scenario.look_s)
        until = self.host.clock.monotonic_s() + QUIET_WITHIN_S
        while left := [*_running(service.state), *due(service.state), *waiting(service.state)]:
            assert self.host.clock.monotonic_s() < until, f"no end to {left}"
            await asyncio.sleep(0.1)
        await asyncio.sleep(QUIET_S)
        await service.projector.wait_stored(await service.ledger.last_seq())

    def _note_effects(self, service: SimulatedService) -> None:
        for metric in service.metrics.effects.collect():
            self._effects |= {sample.labels["effect"] for sample in metric.samples}

    async def _check(self, life: Life, records: list[Record]) -> dict[str, Any]:
        """Of the service at rest; it is stopped, and started once more."""
        service, host = life.service, self.host
        await check_at_rest(service)
        if host.disks.free:
            check_retention(service)
        await check_world(service.state, host)
        check_done_once(records, self.seen)
        check_every_record(host.ledger.entries)
        check_disks(records, host)
        end = {**self._answer, **_end(service.state, host)}
        await life.end()
        again = Life(host, self.seen, Cut(armed=True))
        await again.live(self._rest)
        assert again.cut.calls == [("VolumeStore.attach_all", 1)], "a start with nothing to do"
        await again.end()
        return end


def _running(state: State) -> list[object]:
    return [one for one in state.operations.values() if one.state == "running"]


def _end(state: State, host: SimulatedHost) -> dict[str, Any]:
    containers = host.world.containers.values()
    named = {name for name, image in host.world.images.items() if name != image.id}
    snapshots = {image for image in named if image.startswith(SNAPSHOT_REPOSITORY)}
    return {
        "containers": {c.name: (c.status, c.gpus(), c.host_ports(), c.files) for c in containers},
        "limits": {c.name: c.host.get("Memory") for c in containers},
        "phases": {one.name: (one.phase, one.current) for one in state.replica_sets.values()},
        "gpus": {gpu.uuid: (gpu.holder, gpu.quarantine) for gpu in state.gpus.values()},
        "ports": {port.host_port: port.holder for port in state.ports.values()},
        "kept": [len(host.disks.kept), len(snapshots)],
        "images": named - snapshots,
        "unnamed": len(host.world.images) - len(named),
        "volumes": {name: disk.size_bytes for name, disk in host.volumes.disks.items()},
        "docker_volumes": set(host.world.volumes),
    }
