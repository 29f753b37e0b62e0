"""A recovery that is killed, at every step of it, goes on when it is run again."""

import asyncio
from typing import Any, cast

import pytest

from service.disk_ports import SystemDisks, VolumeStore
from service.ports import ContainerEngine, Ledger
from tests.crashes.life import Cut
from tests.kit.builders import gpu
from tests.kit.crash_points import Point, points, watched
from tests.kit.simulated_service import SimulatedHost
from tests.kit.virtual_time import run_virtually
from tests.simulation.lost_hosts import (
    RecoveringService,
    check_recovered,
    furnished,
    lose,
    shown,
)


async def life(host: SimulatedHost, cut: Cut) -> bool:
    """One run of the recovery; False when it was killed at the point of `cut`."""

    async def live() -> None:
        service = RecoveringService(
            host,
            ledger=watched(Ledger, cast(Ledger, host.ledger), cut),
            engine=watched(ContainerEngine, cast(ContainerEngine, host.engine), cut),
            volumes=watched(VolumeStore, cast(VolumeStore, host.volumes), cut),
            disks=watched(SystemDisks, cast(SystemDisks, host.disks), cut),
        )
        async with service:
            await service.recover()

    doing, over = asyncio.create_task(live()), asyncio.create_task(cut.over.wait())
    await asyncio.wait((doing, over), return_when=asyncio.FIRST_COMPLETED)
    if doing.done():
        over.cancel()
        await doing
        return True
    doing.cancel()
    await asyncio.gather(doing, return_exceptions=True)
    return False


async def lost(system_disk: Any) -> SimulatedHost:
    """A host that has its disks, and one other GPU."""
    host = SimulatedHost(gpus=2, system_disk=system_disk)
    await furnished(host)
    lose(host, disks=False, kept=False)
    host.probe.shown = [gpu(0), gpu(7)]
    return host


@pytest.mark.parametrize("system_disk", ["auto", "commit"])
def test_killed_at_every_step_it_goes_on(system_disk: str) -> None:
    async def free(cut: Cut) -> dict[str, Any]:
        host = await lost(system_disk)
        assert await life(host, cut)
        return shown(host)

    async def killed(at: Point, end: dict[str, Any]) -> None:
        host = await lost(system_disk)
        assert not await life(host, Cut(at, armed=True)), at
        assert await life(host, Cut(armed=True))
        assert shown(host) == end, at
        await check_recovered(host)

    cut = Cut(armed=True)
    end = run_virtually(free(cut))
    steps = points(cut.calls)
    assert len(steps) > 30
    for at in steps:
        run_virtually(killed(at, end))
