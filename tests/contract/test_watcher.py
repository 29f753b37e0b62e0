"""The watcher: a GPU that appears or is gone is an event, and nothing else is."""

import pytest

from events.resources import GpuAppeared, GpuDisappeared
from service.application.health import Component
from service.application.watcher import LOOK_EVERY_S
from service.domain.commands import RestartReplicaSet
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
