"""The watcher: a GPU that appears or is gone is an event, and nothing else is."""

import asyncio

import pytest

from events.gpu_health import GpuError
from events.resources import GpuAppeared, GpuDisappeared
from service.application.health import Component
from service.application.intake import Accepted
from service.application.watcher import FRESH_S, LOOK_EVERY_S, RECORD_AGAIN_S, REFRESH_S_MAX
from service.domain.commands import QuarantineGpu, RestartReplicaSet, RestoreGpu
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import gpu, run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.checks import records_of


async def observed(host: SimulatedHost) -> list[tuple[str, str]]:
    """What was recorded of GPUs: "+" or "-", and which."""
    events = [event for record in await records_of(host.ledger) for event in record.events]
    signs = {GpuAppeared: "+", GpuDisappeared: "-"}
    return [
        (signs[type(event)], event.uuid)
        for event in events
        if isinstance(event, GpuAppeared | GpuDisappeared)
    ]


@virtual
async def test_gpus_that_appear_and_disappear_are_events_and_others_are_not() -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        await service.watcher.look()
        assert await observed(host) == [("+", "gpu-0"), ("+", "gpu-1")]
        gone = host.probe.shown.pop(0)
        await service.watcher.look()
        await service.watcher.look()
        host.probe.shown.append(gone)
        await service.watcher.look()
        assert (await observed(host))[2:] == [("-", "gpu-0"), ("+", "gpu-0")]
        assert [unit.present for unit in service.state.gpus.values()] == [True, True]


@virtual
async def test_a_gpu_that_changed_is_an_event() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        host.probe.shown = [gpu(0, memory_bytes=1)]
        await service.watcher.look()
        assert service.state.gpus["gpu-0"].memory_bytes == 1


@virtual
async def test_it_looks_by_itself_and_the_rows_show_what_it_saw() -> None:
    host = SimulatedHost(gpus=0)
    async with SimulatedService(host):
        host.probe.shown = [gpu(0)]
        await host.clock.sleep(LOOK_EVERY_S + 1)
        assert [unit.uuid for unit in await host.store.gpus()] == ["gpu-0"]


@virtual
async def test_a_look_that_fails_changes_nothing_and_says_why() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        seq = await host.ledger.last_seq()
        host.probe.trouble = "the driver does not answer"
        await service.watcher.look()
        red = Component(False, "the driver does not answer")
        assert (await service.health.report())["gpus"] == red
        assert await host.ledger.last_seq() == seq
        host.probe.trouble = ""
        await service.watcher.look()
        assert (await service.health.report())["gpus"].ok


@pytest.mark.parametrize("fault", ["refused", "lost_reply"])
@virtual
async def test_what_could_not_be_recorded_is_recorded_by_the_next_look(fault: str) -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        host.probe.shown.pop()
        host.ledger.fail_next("refused" if fault == "refused" else "lost_reply")
        await service.watcher.look()
        await service.watcher.look()
        assert (await observed(host))[2:] == [("-", "gpu-1")]


@virtual
async def test_a_lease_on_a_gpu_that_is_gone_stays_and_the_gpu_is_not_lent() -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1))
        host.probe.shown.pop(0)
        await service.watcher.look()
        assert service.state.gpus["gpu-0"].holder == "ann"
        refused = await service.submit(run("bob", 2))
        assert isinstance(refused, Rejected)
        assert refused.reason == Reason.GPUS_EXHAUSTED
        await service.succeed(RestartReplicaSet("ann"))
        assert {u.uuid: u.holder for u in service.state.gpus.values()} == {
            "gpu-0": None,
            "gpu-1": "ann",
        }


@virtual
async def test_a_gpu_that_falls_ill_is_not_lent_and_let_go_of_until_it_is_well() -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1))
        host.probe.report("gpu-0", remap_pending=True)
        await service.watcher.look()
        assert service.state.gpus["gpu-0"].holder == "ann"
        refused = await service.submit(run("bob", 2))
        assert isinstance(refused, Rejected)
        await service.succeed(RestartReplicaSet("ann"))
        assert service.state.gpus["gpu-1"].holder == "ann"
        await service.watcher.look()
        assert host.probe.let_go == {"gpu-0"}
        host.probe.report("gpu-0")
        await service.watcher.look()
        await service.watcher.look()
        assert host.probe.let_go == set()
        await service.succeed(run("bob", 1))


@virtual
async def test_an_error_is_recorded_when_it_comes_and_not_at_the_next_look() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        await service.watcher.look()
        host.probe.fail(GpuError("gpu-0", 79))
        await host.clock.sleep(0.1)
        assert service.state.gpus["gpu-0"].ailments[0].boot == "boot-1"
        assert isinstance(await service.submit(run("ann", 1)), Rejected)


@virtual
async def test_an_error_that_could_not_be_recorded_is_recorded_later() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        host.ledger.fail_next("refused")
        host.probe.fail(GpuError("gpu-0", 79))
        await host.clock.sleep(RECORD_AGAIN_S + 1)
        assert service.state.gpus["gpu-0"].quarantine is not None


@virtual
async def test_a_command_that_gpus_are_chosen_for_is_decided_on_a_fresh_look() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        await host.clock.sleep(FRESH_S + 1)
        host.probe.report("gpu-0", pids=(4711,))
        refused = await service.submit(run("ann", 1))
        assert isinstance(refused, Rejected)
        assert "process 4711 of the host is on it" in refused.message
        looks = host.probe.looks
        await service.submit(run("ann", 1))
        await service.succeed(run("bare"))
        assert host.probe.looks == looks, "that was a moment ago, or for nothing"
        await host.clock.sleep(FRESH_S + 1)
        host.probe.report("gpu-0")
        await service.succeed(run("ann", 1))


@virtual
async def test_a_driver_that_hangs_holds_a_command_up_for_a_moment_only() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        await host.clock.sleep(FRESH_S + 1)
        host.probe.hangs = True
        begun_s = host.clock.monotonic_s()
        told = await asyncio.gather(service.submit(run("ann", 1)), service.submit(run("bob", 1)))
        assert host.clock.monotonic_s() - begun_s < REFRESH_S_MAX + 0.5
        assert [type(one) for one in told] == [Accepted, Rejected]
        assert host.probe.looks == 2, "both wait for the same look"
        host.probe.hangs = False
        await service.ended(told[0])


@virtual
async def test_a_gpu_is_quarantined_by_hand_also_when_the_engine_is_away() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        await host.clock.sleep(5)
        host.engine.down = True
        await service.succeed(QuarantineGpu("gpu-0", "fan noise"))
        assert service.state.gpus["gpu-0"].obstacle == "fan noise"
        await service.succeed(RestoreGpu("gpu-0"))
        assert service.state.gpus["gpu-0"].is_free
