"""Retention: kept system disks are counted, aged and given up for space, and removed for good."""

import asyncio
import logging

import pytest
from msgspec.structs import replace

from service.application.retention import LOOK_AGAIN_S, LOOK_EVERY_S, REMOVAL_S_MAX
from service.domain.commands import (
    CreateVolume,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    PauseReplicaSet,
    PinRevision,
    Request,
    RestartReplicaSet,
    RollBackReplicaSet,
    UnpinRevision,
)
from service.domain.rejections import Reason, Rejected
from service.errors import EngineUnavailable
from tests.kit.builders import GIB, OWNER, patch, resize, run
from tests.kit.fault_plans import FirstCalls
from tests.kit.memory_disks import MemoryDisks
from tests.kit.simulated_engine import no_faults
from tests.kit.simulated_service import FREE_BYTES_MIN, SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual
from tests.simulation.checks import check_at_rest

PATCHED = tuple(patch("ann") for _ in range(4))
HOUR_US = 3_600_000_000

LIFE: tuple[Request, ...] = (
    CreateVolume("vol", GIB),
    run("ann", 1, 1, ("vol-1",), cmd=("sleep", "600")),
    ExecuteInReplicaSet("ann", ("sh", "-c", "echo once > /file")),
    patch("ann", env=("A=1",)),
    RestartReplicaSet("ann"),
    PauseReplicaSet("ann"),
    resize("vol", 2),
    patch("ann", memory_bytes=GIB),
    RollBackReplicaSet("ann", 2),
    DeleteReplicaSet("ann"),
    DeleteVolume("vol"),
)
"""Every kind of work on a directory is in it, but for putting one back."""

DISK_VERBS = ("precopy_layer", "keep_layer", "fill_layer", "compact_layer", "remove_layer")


def host_with(keep_revisions: int = 10, keep_us: int = 0) -> SimulatedHost:
    """A host that carries directories, and copies them."""
    host = SimulatedHost(system_disk="auto", clones_share_blocks=False)
    host.facts = replace(host.facts, keep_revisions=keep_revisions, keep_us=keep_us)
    return host


def kept(service: SimulatedService, name: str = "ann") -> tuple[int, ...]:
    return service.state.replica_sets[name].snapshots


def expiring(service: SimulatedService) -> tuple[int, ...]:
    return service.state.replica_sets["ann"].expiring


async def seconds(host: SimulatedHost, count: float) -> None:
    await host.clock.sleep(count)


@virtual
async def test_the_oldest_go_when_there_are_newer_ones_enough() -> None:
    host = host_with(keep_revisions=2)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), *PATCHED)
        await seconds(host, 1)
        assert kept(service) == (3, 4)
        assert {name.split("-id")[0] for name in host.disks.kept} == {"ann-3", "ann-4"}
        refused = await service.submit(RollBackReplicaSet("ann", 1))
        assert isinstance(refused, Rejected)
        assert refused.reason == Reason.SYSTEM_DISK_GONE
        assert "2 newer ones are kept" in refused.message
        await service.succeed(RollBackReplicaSet("ann", 3))
        await seconds(host, 1)
        await check_at_rest(service)


@virtual
async def test_an_image_goes_like_a_directory_but_not_the_one_underneath() -> None:
    host = SimulatedHost(keep_revisions=0)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), *PATCHED)
        await seconds(host, 1)
        assert kept(service) == (4,)
        ours = [image for image in host.world.images if "snapshot" in image]
        assert ours == [service.state.revisions["ann", 5].base_image]


@virtual
async def test_what_is_pinned_stays_and_goes_when_it_is_unpinned() -> None:
    host = host_with(keep_revisions=1)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), PinRevision("ann", 1), *PATCHED)
        await seconds(host, 1)
        assert kept(service) == (1, 4)
        await service.succeed(UnpinRevision("ann", 1))
        await seconds(host, 1)
        assert kept(service) == (4,)
        assert len(host.disks.kept) == 1


@virtual
async def test_what_is_too_old_goes_within_a_minute() -> None:
    host = host_with(keep_us=HOUR_US)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), patch("ann"))
        await seconds(host, 1800)
        await service.succeed(patch("ann"))
        await seconds(host, 1790)
        assert kept(service) == (1, 2)
        await seconds(host, 10 + LOOK_EVERY_S + 1)
        assert kept(service) == (2,)
        await seconds(host, 3600)
        assert (kept(service), host.disks.kept) == ((), {})


class SlowDisks(MemoryDisks):
    """To remove a kept directory takes some time: it may have millions of files."""

    removal_s = 20.0

    async def remove(self, kept: str) -> None:
        await asyncio.sleep(self.removal_s)
        await super().remove(kept)


@virtual
async def test_the_next_one_goes_for_the_space_once_the_one_before_is_gone() -> None:
    host = host_with()
    disks = SlowDisks(host.world, owner=OWNER)
    async with SimulatedService(host, disks=disks) as service:
        await service.succeed(run("ann"), *PATCHED)
        disks.free = FREE_BYTES_MIN - 1
        await seconds(host, LOOK_EVERY_S + SlowDisks.removal_s - 2)
        assert expiring(service) == (1,)
        disks.removal_s = 2 * REMOVAL_S_MAX
        await seconds(host, 2 * LOOK_AGAIN_S)
        assert (kept(service), expiring(service)) == ((2, 3, 4), (2,))
        # One that does not go does not keep the others here for ever.
        await seconds(host, REMOVAL_S_MAX - 2 * LOOK_AGAIN_S)
        assert expiring(service) == (2,)
        await seconds(host, 2 * LOOK_AGAIN_S)
        assert expiring(service) == (2, 3)


@virtual
async def test_when_the_disk_is_nearly_full_the_oldest_of_all_go_one_at_a_time() -> None:
    host = host_with()
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), run("bob"), patch("bob"))
        await seconds(host, 1)
        await service.succeed(patch("ann"), patch("ann"), patch("bob"), patch("bob"))
        host.disks.free = FREE_BYTES_MIN - 1
        await seconds(host, LOOK_EVERY_S)
        assert (kept(service), kept(service, "bob")) == ((1, 2), (2, 3))
        await seconds(host, LOOK_AGAIN_S)
        assert (kept(service), kept(service, "bob")) == ((2,), (2, 3))
        host.disks.free = FREE_BYTES_MIN
        await seconds(host, 2 * LOOK_EVERY_S)
        assert (kept(service), kept(service, "bob")) == ((2,), (2, 3))
        message = service.state.revisions["bob", 1].gone
        assert "1GB must be" in message


@virtual
async def test_one_step_back_can_be_had_however_full_the_disk_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = host_with()
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), *PATCHED, run("bob"), patch("bob"))
        host.disks.free = 0
        with caplog.at_level(logging.WARNING):
            await seconds(host, 10 * LOOK_EVERY_S)
        assert (kept(service), kept(service, "bob")) == ((4,), (1,))
        assert "nothing to give up" in caplog.messages[-1]


@virtual
async def test_of_a_disk_that_is_not_this_hosts_nothing_goes_for_space() -> None:
    host = host_with()
    host.disks.free = None
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), *PATCHED)
        await seconds(host, 10 * LOOK_EVERY_S)
        assert kept(service) == (1, 2, 3, 4)
        assert service.supervisor.failures == {}


class SilentDisks(MemoryDisks):
    """Nobody answers who asks for the space."""

    async def free_bytes(self) -> int | None:
        """Raises EngineUnavailable."""
        raise EngineUnavailable("no answer")


@virtual
async def test_when_the_space_is_not_known_the_others_go_all_the_same() -> None:
    host = host_with(keep_us=HOUR_US)
    async with SimulatedService(host, disks=SilentDisks(host.world)) as service:
        await service.succeed(run("ann"), patch("ann"))
        await seconds(host, 2 * 3600)
        assert kept(service) == ()


@pytest.mark.parametrize("fault", ["refused", "lost_reply"])
@virtual
async def test_what_the_ledger_did_not_take_goes_at_the_next_look(fault: str) -> None:
    host = host_with(keep_revisions=1)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), *PATCHED[:1])
        patching = await service.submit(patch("ann"))
        await service.ended(patching)
        host.ledger.fail_next(fault)  # type: ignore[arg-type]
        await seconds(host, 1)
        await seconds(host, LOOK_EVERY_S)
        assert kept(service) == (2,)
        await check_at_rest(service)


@virtual
async def test_nothing_is_given_up_of_what_is_busy() -> None:
    host = host_with(keep_us=HOUR_US)
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), patch("ann"))
        await seconds(host, 3600 - 2)
        host.engine.faults = FirstCalls("create_container", "before", 60)
        patching = await service.submit(patch("ann"))
        await seconds(host, 3 * LOOK_EVERY_S)
        assert service.state.replica_sets["ann"].operation is not None
        assert kept(service) == (1,)
        await service.ended(patching)
        await seconds(host, LOOK_EVERY_S)
        assert kept(service) == (2,)


@virtual
async def test_what_belongs_to_no_operation_is_done_after_a_restart() -> None:
    """Disks that are given up or share files: no operation would have them looked at."""
    host = host_with(keep_revisions=1)
    waiting = ("remove_layer", "compact_layer")
    host.disks.faults = lambda verb, _: "before" if verb in waiting else None
    async with SimulatedService(host) as service:
        await service.succeed(run("ann"), *PATCHED[:3])
        await seconds(host, 10)
        ann = service.state.replica_sets["ann"]
        assert (ann.expiring, ann.to_compact) == ((1, 2), (2, 3))
        assert len(host.disks.kept) == 3
    host.disks.faults = no_faults
    async with SimulatedService(host) as service:
        await seconds(host, 10)
        ann = service.state.replica_sets["ann"]
        assert (ann.snapshots, ann.expiring) == ((3,), ())
        assert len(host.disks.kept) == 1
        await check_at_rest(service)


@pytest.mark.parametrize("fault", ["before", "after"])
@pytest.mark.parametrize("verb", DISK_VERBS)
@virtual
async def test_work_on_a_disk_whose_reply_was_lost_is_done_once(verb: str, fault: str) -> None:
    host = host_with(keep_revisions=2)
    async with SimulatedService(host) as service:
        host.disks.faults = plan = FirstCalls(verb, fault, 3)
        await service.succeed(*LIFE)
        assert plan.left == 0, "the fault did not come"
        assert (host.disks.kept, host.world.containers) == ({}, {})
        await check_at_rest(service)


@virtual
async def test_files_that_are_the_same_are_kept_once() -> None:
    host = host_with()
    async with SimulatedService(host) as service:
        await service.succeed(*LIFE[:4], patch("ann"), patch("ann"))
        await seconds(host, 1)
        first, second, third = (
            service.state.revisions["ann", number] for number in (1, 2, 3)
        )
        assert (first.snapshot_bytes, second.snapshot_bytes, third.snapshot_bytes) == (5, 0, 0)
        assert second.snapshot is not None
        assert host.disks.kept[second.snapshot].shared == {"/file"}
        await service.succeed(RollBackReplicaSet("ann", 2))
        assert host.world.containers["ann-5"].files["/file"] == b"once\n"
