"""An engine that stays away: waited for, then given up honestly; leases end by observation only."""

import pytest

from events.outcomes import EffectFailed
from service.application.executor import AWAY_PAUSE_S_MAX, AWAY_S_MAX
from service.application.intake import Accepted
from service.domain.commands import ExecuteInReplicaSet, PauseReplicaSet
from tests.kit.builders import GIB, patch, run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.checks import check_at_rest, records_of


class Outage:
    """A fault plan: from now on nothing is answered, until it is over."""

    def __init__(self, fault: str = "before", but: str = "") -> None:
        self.over = False
        self._fault, self._but = fault, but

    def __call__(self, verb: str, _name: str) -> str | None:
        return None if self.over or verb in ("ping", "info", self._but) else self._fault


async def failures(host: SimulatedHost) -> list[str]:
    records = await records_of(host.ledger)
    events = [event for record in records for event in record.events]
    return [f"{e.effect} {e.reason}" for e in events if isinstance(e, EffectFailed)]


@pytest.mark.parametrize("fault", ["before", "after"])
@virtual
async def test_an_engine_that_is_away_for_a_minute_costs_a_minute(fault: str) -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        host.engine.faults = outage = Outage(fault)
        accepted = await service.submit(run("ann", 1, 1, data_disk_bytes=GIB))
        await host.clock.sleep(64)
        outage.over, back_s = True, host.clock.monotonic_s()
        assert (await service.ended(accepted)).state == "succeeded"
        assert host.clock.monotonic_s() - back_s < 2 * AWAY_PAUSE_S_MAX
        assert await failures(host) == []
        await check_at_rest(service)


@pytest.mark.parametrize("fault", ["before", "after"])
@virtual
async def test_one_that_stays_away_is_given_up_and_leases_stay_till_it_is_seen(fault: str) -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        host.engine.faults = outage = Outage(fault, but="inspect_image")
        accepted = await service.submit(run("ann", 1, 1))
        assert isinstance(accepted, Accepted)
        await host.clock.sleep(AWAY_S_MAX - 1)
        assert await failures(host) == []
        await host.clock.sleep(60)
        assert await failures(host) == ["CreateContainer engine_unavailable"]
        # It may be there, for all that is known: what it would hold is not lent.
        await host.clock.sleep(3600)
        assert [unit.holder for unit in service.state.gpus.values()] == ["ann", None]
        assert len(service.state.ports) == 1
        outage.over = True
        ended = await service.ended(accepted)
        assert (ended.state, ended.reason) == ("failed", "engine_unavailable")
        assert "10 minutes" in ended.message
        assert host.world.containers == {}
        assert [unit.holder for unit in service.state.gpus.values()] == [None, None]
        await check_at_rest(service)


@virtual
async def test_a_patch_that_is_given_up_comes_back_however_long_it_takes() -> None:
    host = SimulatedHost(gpus=2, system_disk="upper")
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1, cmd=("sleep", "600000")))
        write = ("sh", "-c", "echo once > /file")
        await service.succeed(ExecuteInReplicaSet("ann", write))
        host.engine.faults = outage = Outage(but="inspect_container")
        accepted = await service.submit(patch("ann", 2))
        await host.clock.sleep(5 * AWAY_S_MAX)
        assert await failures(host) == ["CreateContainer engine_unavailable"]
        outage.over = True
        assert (await service.ended(accepted)).state == "failed"
        assert list(host.world.containers) == ["ann-1"]
        assert host.world.containers["ann-1"].status == "running"
        assert host.world.containers["ann-1"].files["/file"] == b"once\n"
        await check_at_rest(service)


@virtual
async def test_a_stop_is_never_given_up() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1, cmd=("sleep", "600000")))
        host.engine.faults = outage = Outage()
        accepted = await service.submit(PauseReplicaSet("ann"))
        await host.clock.sleep(5 * AWAY_S_MAX)
        assert await failures(host) == []
        outage.over = True
        assert (await service.ended(accepted)).state == "succeeded"
        await check_at_rest(service)


@virtual
async def test_what_is_undone_waits_for_the_engine_for_ever() -> None:
    """The new one is refused its start; and then nobody answers when the old one is to start."""
    host = SimulatedHost(gpus=2, system_disk="upper")
    over, refused = False, False

    def faults(verb: str, _name: str) -> str | None:
        nonlocal refused
        if verb != "start_container" or over:
            return None
        first, refused = not refused, True
        return "refuse" if first else "before"

    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1, cmd=("sleep", "600000")))
        host.engine.faults = faults
        accepted = await service.submit(patch("ann", 2))
        await host.clock.sleep(5 * AWAY_S_MAX)
        assert len(await failures(host)) == 1
        over = True
        assert (await service.ended(accepted)).state == "failed"
        assert host.world.containers["ann-1"].status == "running"
        await check_at_rest(service)
