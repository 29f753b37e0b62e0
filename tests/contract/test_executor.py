"""The executor: effects are done once, to their end, across lost replies, refusals and restarts."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from events.operations import OperationProgressed
from projections.projector import ProjectorStopped
from projections.store import ReadStoreError
from projections.tables import Batch
from service.application.check import compare_engine
from service.application.executor import AT_ONCE_MAX
from service.application.intake import Accepted
from service.domain.commands import (
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    Request,
    RestartReplicaSet,
    RollBackReplicaSet,
    StopReplicaSet,
)
from service.ports import ExecOutcome, ImageInfo, Progress
from tests.kit.builders import GIB, OWNER, patch, resize, run
from tests.kit.fault_plans import FirstCalls, HaltingLedger
from tests.kit.inline_store import InlineStore
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_programs import NO_SUCH_COMMAND
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.checks import check_at_rest, records_of

WRITE = ("sh", "-c", "echo once > /file")

LIFE: tuple[Request, ...] = (
    run("ann", 1, 1, data_disk_bytes=GIB, cmd=("sleep", "600")),
    ExecuteInReplicaSet("ann", WRITE),
    patch("ann", 2),
    patch("ann", memory_bytes=GIB),
    PauseReplicaSet("ann"),
    ContinueReplicaSet("ann"),
    resize("ann", 2),
    CommitReplicaSet("ann", "saved:1"),
    RollBackReplicaSet("ann", 1),
    StopReplicaSet("ann"),
    RestartReplicaSet("ann"),
    DeleteReplicaSet("ann"),
    DeleteVolume("ann"),
)
"""Every kind of effect is in it."""

ENGINE_VERBS = (
    *("inspect_image", "create_container", "start_container", "stop_container"),
    *("remove_container", "commit_container", "remove_image", "create_volume", "remove_volume"),
    *("rename_container", "update_container"),
)


class BusyEngine(SimulatedEngine):
    """An engine whose commands run until `release`, counted; and whose pulls take minutes."""

    def __init__(self, host: SimulatedHost) -> None:
        super().__init__(host.world, owner=OWNER)
        self.running = 0
        self.begun = Counter[str]()
        self.some_run = asyncio.Event()
        self.release = asyncio.Event()

    async def execute(
        self, name: str, cmd: Sequence[str], work_dir: str, output_bytes_max: int
    ) -> ExecOutcome:
        self.begun[cmd[-1]] += 1
        self.running += 1
        self.some_run.set()
        await self.release.wait()
        return await super().execute(name, cmd, work_dir, output_bytes_max)

    async def pull_image(
        self, image: str, on_progress: Callable[[Progress], None]
    ) -> ImageInfo:
        for second in range(60):
            on_progress(Progress(second, 60))
            await asyncio.sleep(1)
        return await super().pull_image(image, on_progress)


class BreakingStore(InlineStore):
    """A read store that cannot be written to any more once `broken`."""

    broken = False

    async def apply(self, batch: Batch) -> None:
        if self.broken:
            raise ReadStoreError("the disk is full")
        await super().apply(batch)


def shown(host: SimulatedHost) -> list[str]:
    return sorted(host.world.containers)


def holders(service: SimulatedService) -> list[str | None]:
    return [gpu.holder for gpu in service.state.gpus.values()]


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("verb", ENGINE_VERBS)
@virtual
async def test_an_effect_whose_reply_was_lost_is_done_once(verb: str, fault: str) -> None:
    host = SimulatedHost(gpus=2, gpu_runtime="cdi", keep_revisions=2)
    async with SimulatedService(host) as service:
        host.engine.faults = FirstCalls(verb, fault, 3)
        await service.succeed(*LIFE)
        assert host.clock.monotonic_s() > 0, "the fault did not come"
        assert shown(host) == []
        assert (host.world.volumes, host.volumes.disks) == ({}, {})
        await check_at_rest(service)


@virtual
async def test_limits_that_docker_refuses_leave_the_container_under_its_name() -> None:
    host = SimulatedHost(gpus=1, gpu_runtime="cdi")
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1, cmd=("sleep", "600"), memory_bytes=GIB))
        before = host.world.containers["ann-1"]
        failed = await service.do(patch("ann", memory_bytes=1 << 20))
        assert (failed.state, failed.reason) == ("failed", "bad_request")
        assert host.world.containers == {"ann-1": before}
        assert before.status == "running"
        await service.succeed(patch("ann", memory_bytes=2 * GIB))
        assert host.world.containers == {"ann-2": before}
        assert before.host["Memory"] == 2 * GIB
        await check_at_rest(service)


@pytest.mark.parametrize("verb", ["stop_container", "remove_container"])
@virtual
async def test_what_takes_away_is_tried_until_it_is_done_and_leases_stay(verb: str) -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1, 1))
        host.engine.faults = FirstCalls(verb, "refuse", 8)
        deleting = await service.submit(DeleteReplicaSet("ann"))
        assert isinstance(deleting, Accepted)
        assert await service.intake.wait(deleting.operation_id, 20) is None
        assert holders(service) == ["ann"]
        assert len(service.state.ports) == 1
        assert (await service.ended(deleting)).state == "succeeded"
        assert holders(service) == [None]
        assert len(service.state.ports) == 0


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (run("ann", 2, 2, cmd=(NO_SUCH_COMMAND,)), "bad_command"),
        (run("ann", 2, 2, image="missing:1"), "image_not_found"),
    ],
)
@virtual
async def test_a_run_that_fails_gives_everything_back(command: Request, reason: str) -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        failed = await service.do(command)
        assert (failed.state, failed.reason) == ("failed", reason)
        assert holders(service) == [None, None]
        assert not service.state.ports
        assert shown(host) == []


@virtual
async def test_a_patch_that_fails_leaves_the_old_version_running_with_its_disk() -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", 1, cmd=("sleep", "600")))
        await service.succeed(ExecuteInReplicaSet("ann", WRITE))
        host.engine.faults = FirstCalls("create_container", "refuse")
        assert (await service.do(patch("ann", 2))).state == "failed"
        assert host.world.containers["ann-1"].status == "running"
        assert host.world.containers["ann-1"].files["/file"] == b"once\n"
        await check_at_rest(service)


@virtual
async def test_a_command_is_not_executed_again_after_a_restart() -> None:
    host = SimulatedHost()
    engine = BusyEngine(host)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run("ann", cmd=("sleep", "600")))
        accepted = await service.submit(ExecuteInReplicaSet("ann", WRITE))
        await engine.some_run.wait()
    engine.release.set()
    async with SimulatedService(host, engine=engine) as service:
        ended = await service.ended(accepted)
        assert (ended.state, ended.reason) == ("failed", "interrupted")
        assert sum(engine.begun.values()) == 1


@pytest.mark.parametrize("fault", ["before", "after"])
@virtual
async def test_a_command_without_an_answer_is_not_executed_again(fault: str) -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(run("ann", cmd=("sleep", "600")))
        host.engine.faults = FirstCalls("execute", fault)
        ended = await service.do(ExecuteInReplicaSet("ann", WRITE))
        assert (ended.state, ended.reason) == ("failed", "unknown")
        assert ("/file" in host.world.containers["ann-1"].files) == (fault == "after")


@virtual
async def test_a_command_is_not_executed_again_when_the_fold_stands_still() -> None:
    host = SimulatedHost()
    host.store = store = BreakingStore()
    engine = BusyEngine(host)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run("ann", cmd=("sleep", "600")))
        accepted = await service.submit(ExecuteInReplicaSet("ann", WRITE))
        await engine.some_run.wait()
        store.broken = True
        await service.submit(CreateVolume("vol", GIB))  # its record cannot be written
        engine.release.set()
        with pytest.raises(ProjectorStopped):
            await service.projector.wait_folded(1_000)
        await host.clock.sleep(60)
        assert sum(engine.begun.values()) == 1
        assert "projector" in service.supervisor.failures
    store.broken = False
    async with SimulatedService(host, engine=engine) as service:
        await service.ended(accepted)
        assert sum(engine.begun.values()) == 1


@virtual
async def test_commands_that_run_for_long_do_not_hold_up_a_stop() -> None:
    host = SimulatedHost()
    engine = BusyEngine(host)
    async with SimulatedService(host, engine=engine) as service:
        await service.succeed(run("ann", cmd=("sleep", "600")))
        for number in range(AT_ONCE_MAX + 8):
            await service.submit(ExecuteInReplicaSet("ann", ("echo", str(number))))
        stop = await service.submit(StopReplicaSet("ann"))
        assert isinstance(stop, Accepted)
        ended = await service.intake.wait(stop.operation_id, 60)
        assert ended is not None
        assert engine.running == AT_ONCE_MAX + 8


@virtual
async def test_a_fault_of_ours_is_tried_again_with_a_pause_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = SimulatedHost()
    broken = FirstCalls("create_container", "bug", 3)

    def faults(verb: str, name: str) -> str | None:
        if broken(verb, name):
            raise ZeroDivisionError
        return None

    host.engine.faults = faults
    async with SimulatedService(host) as service:
        with caplog.at_level(logging.ERROR):
            await service.succeed(run("ann"))
        assert [record.message for record in caplog.records] == [
            "id-000003/create-ann-1 broke off, trying again"
        ] * 3
        assert host.clock.monotonic_s() >= 0.25 + 0.5 + 1.0


@virtual
async def test_progress_is_recorded_now_and_then_and_never_twice() -> None:
    host = SimulatedHost(pullable=["big:1"])
    engine = BusyEngine(host)
    async with SimulatedService(host, engine=engine) as service:
        pulling = asyncio.create_task(service.do(run("ann", image="big:1")))
        await host.clock.sleep(10.5)
        host.ledger.fail_next("refused")
        await host.clock.sleep(2.0)
        host.ledger.fail_next("lost_reply")
        assert (await pulling).state == "succeeded"
    events = [event for record in await records_of(host.ledger) for event in record.events]
    done = [event.done_bytes for event in events if isinstance(event, OperationProgressed)]
    assert done == [second for second in range(2, 60, 2) if second != 12]


@virtual
async def test_a_restart_after_any_record_goes_on() -> None:
    last = 2  # the node and its GPUs
    while await _halts_after(last):
        last += 1
    assert last > 40


async def _halts_after(last: int) -> bool:
    """The service stops dead while record `last + 1` is on its way, and starts again.

    False when there is no such record.
    """
    host = SimulatedHost(gpus=2, gpu_runtime="cdi", keep_revisions=2)
    host.ledger = ledger = HaltingLedger(last)
    async with SimulatedService(host) as service:
        living = asyncio.create_task(service.succeed(*LIFE))
        halted = asyncio.create_task(ledger.reached.wait())
        await asyncio.wait((living, halted), return_when=asyncio.FIRST_COMPLETED)
        halts = halted.done()
        for task in (living, halted):
            task.cancel()
        await asyncio.wait((living, halted))
    ledger.last = 1_000_000
    async with SimulatedService(host) as service:
        for operation in tuple(service.state.operations.values()):
            ended = await service.ended(Accepted(operation.id, operation.seq))
            assert ended.state == "succeeded" or ended.reason == "interrupted"
        await host.clock.sleep(5)  # what expired goes beside all operations
        assert compare_engine(service.state, await host.engine.list_containers({})) == []
        await check_at_rest(service)
    return halts


@virtual
async def test_a_command_that_never_ran_is_not_taken_for_one_that_did() -> None:
    """The reply to its start is lost, and by the next look it has ended, as what was no command."""
    host = SimulatedHost(gpus=1)
    host.engine.faults = FirstCalls("start_container", "after")
    async with SimulatedService(host) as service:
        accepted = await service.submit(run("ann", 1, cmd=("sh", "-c", "exit 127")))
        ended = await service.ended(accepted)
        assert (ended.state, ended.reason) == ("failed", "bad_command")
        assert host.world.containers == {}
        assert [unit.holder for unit in service.state.gpus.values()] == [None]
