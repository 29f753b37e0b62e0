"""Orphans: the service tells what is in no record, and removes it when its grace is over."""

import pytest

from events.labels import LABEL_EFFECT, LABEL_KEPT_BY, LABEL_NAME, LABEL_OWNER, LABEL_REVISION
from projections.state import Operation
from service.application.orphans import LOOK_EVERY_S
from service.domain.commands import CreateVolume, DeleteReplicaSet, RollBackReplicaSet
from service.domain.orphan_commands import RemoveOrphan
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import GIB, IMAGE, OWNER, patch, run
from tests.kit.memory_disks import KeptDisk
from tests.kit.memory_volumes import MemoryDisk
from tests.kit.simulated_engine import no_faults
from tests.kit.simulated_service import ORPHAN_GRACE_S, SimulatedHost, SimulatedService
from tests.kit.simulated_world import SimulatedImage
from tests.kit.virtual_time import virtual
from tests.simulation.checks import check_at_rest

EVERY = ["old-1", "old-1", "gpuledger/snapshot:old-1-op", "old-1-op", "old"]
"""The names of what `strew` leaves, in the order of their removal."""


def labels(name: str, number: int, owner: str = OWNER) -> dict[str, str]:
    """As a container of this version has them."""
    revision = {LABEL_NAME: name, LABEL_REVISION: str(number)}
    return {LABEL_OWNER: owner, LABEL_EFFECT: "gone", **revision}


async def strew(host: SimulatedHost) -> None:
    """Leave one orphan of each kind, and the same of others, who are not to lose anything."""
    for owner, name in ((OWNER, "old-1"), ("owner-2", "old-2")):
        config = {"Image": IMAGE, "Labels": labels("old", 1, owner)}
        await host.engine.create_container(name, config)
        host.world.volumes[name] = labels("old", 1, owner)
        image = SimulatedImage(f"sha256:{name}", labels={LABEL_KEPT_BY: owner})
        host.world.images[f"gpuledger/snapshot:{name}-op"] = image
    await host.engine.create_container("old-3", {"Image": IMAGE, "Labels": {}})
    # A caller's image of a container that lay on a kept one.
    host.world.images["mine:1"] = SimulatedImage("sha256:mine", labels={LABEL_KEPT_BY: OWNER})
    host.disks.kept["old-1-op"] = KeptDisk("gone", "sha256:x", {"/f": b"abc"}, frozenset())
    host.volumes.disks["old"] = MemoryDisk(GIB)


def left(host: SimulatedHost) -> list[str]:
    """Everything that is there, whoever made it."""
    images = [name for name in sorted(host.world.images) if name != IMAGE]
    world, disks = host.world, [*host.disks.kept, *host.volumes.disks]
    return [*world.containers, *world.volumes, *images, *disks]


OTHERS = ["old-2", "old-3", "old-2", "gpuledger/snapshot:old-2-op", "mine:1"]


async def names(service: SimulatedService) -> list[str]:
    return [one.thing.name for one in (await service.orphans.look()).orphans]


@virtual
async def test_what_is_in_no_record_goes_after_the_grace_and_nothing_else_does() -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host) as service:
        await host.clock.sleep(1)
        assert await names(service) == EVERY
        await host.clock.sleep(ORPHAN_GRACE_S - LOOK_EVERY_S)
        assert await names(service) == EVERY
        await host.clock.sleep(2 * LOOK_EVERY_S)
        # The disk of a volume is somebody's data: it waits for a word.
        assert await names(service) == ["old"]
        assert left(host) == [*OTHERS, "old"]
        assert (await remove(service, "volume_disk-old")).state == "succeeded"
        assert left(host) == OTHERS
        await check_at_rest(service)


@virtual
async def test_a_start_begins_the_grace_anew() -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host):
        await host.clock.sleep(ORPHAN_GRACE_S - 60)
    async with SimulatedService(host) as service:
        await host.clock.sleep(ORPHAN_GRACE_S - 60)
        assert await names(service) == EVERY


@virtual
async def test_one_that_was_none_meanwhile_begins_anew() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        host.world.volumes["old-1"] = labels("old", 1)
        await host.clock.sleep(ORPHAN_GRACE_S - LOOK_EVERY_S)
        del host.world.volumes["old-1"]
        await host.clock.sleep(LOOK_EVERY_S)
        host.world.volumes["old-1"] = labels("old", 1)
        await host.clock.sleep(ORPHAN_GRACE_S - LOOK_EVERY_S)
        assert await names(service) == ["old-1"]


@virtual
async def test_the_grace_goes_on_while_nobody_can_look() -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host) as service:
        await host.clock.sleep(1)
        host.engine.down = True
        await host.clock.sleep(ORPHAN_GRACE_S)
        found = await service.orphans.look()
        assert [one.thing.name for one in found.orphans] == ["old"]
        assert set(found.unseen) == {"container", "volume", "image"}
        host.engine.down = False
        await host.clock.sleep(LOOK_EVERY_S + 1)
        assert left(host) == [*OTHERS, "old"]


@virtual
async def test_a_clock_that_is_set_ends_no_grace() -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host) as service:
        await host.clock.sleep(1)
        right = host.clock.now_us

        def ahead() -> int:
            return right() + 2 * ORPHAN_GRACE_S * 1_000_000

        host.clock.now_us = ahead  # type: ignore[method-assign]
        await host.clock.sleep(2 * LOOK_EVERY_S)
        assert await names(service) == EVERY
        await host.clock.sleep(ORPHAN_GRACE_S)
        assert await names(service) == ["old"]


@virtual
async def test_what_is_seen_at_the_second_glance_only_keeps_its_grace() -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host) as service:
        await host.clock.sleep(1)
        since = {one.thing.id: one.since_us for one in (await service.orphans.look()).orphans}
        glances: list[str] = []

        def first_is_lost(verb: str, _: str) -> str | None:
            glances.extend([verb] if verb == "list_volumes" else [])
            return "before" if verb == "list_volumes" and len(glances) == 1 else None

        host.engine.faults = first_is_lost
        await host.clock.sleep(LOOK_EVERY_S)
        assert len(glances) == 2
        again = {one.thing.id: one.since_us for one in (await service.orphans.look()).orphans}
        assert again == since


@virtual
async def test_nothing_goes_while_a_record_is_not_folded() -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host) as service:
        await host.clock.sleep(1)
        ahead = host.ledger.last_seq

        async def one_more() -> int:
            return await ahead() + 1

        host.ledger.last_seq = one_more  # type: ignore[method-assign]
        await host.clock.sleep(ORPHAN_GRACE_S + 2 * LOOK_EVERY_S)
        assert await names(service) == EVERY


@virtual
async def test_what_the_service_makes_is_never_an_orphan() -> None:
    """Also while it looks all the time, and while everything is patched and undone."""
    host = SimulatedHost(system_disk="auto", clones_share_blocks=False)
    seen: list[str] = []
    async with SimulatedService(host) as service:

        async def look_on() -> None:
            while True:
                seen.extend(await names(service))

        service.supervisor.start("looking", look_on())
        await service.succeed(CreateVolume("vol", GIB), run("ann", 1, 1, ("vol-1",)))
        await service.succeed(patch("ann", env=("A=1",)), patch("ann", memory_bytes=GIB))
        host.engine.faults = lambda verb, name: (
            "refuse" if (verb, name) == ("start_container", "ann-4") else None
        )
        undone = await service.do(patch("ann", env=("B=1",)))
        assert undone.state == "failed"
        host.engine.faults = no_faults
        await service.succeed(RollBackReplicaSet("ann", 1), DeleteReplicaSet("ann"))
    assert seen == []


# -- asked for --------------------------------------------------------------------------------


async def remove(service: SimulatedService, orphan_id: str) -> Operation:
    return await service.do(RemoveOrphan(orphan_id))


@virtual
async def test_a_caller_is_rid_of_them_at_once() -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host) as service:
        for orphan in (await service.orphans.look()).orphans:
            done = await remove(service, orphan.thing.id)
            assert (done.state, done.result["name"]) == ("succeeded", orphan.thing.name)
        assert left(host) == OTHERS
        refused = await service.submit(RemoveOrphan("volume_disk-old"))
        assert isinstance(refused, Rejected)
        assert refused.reason == Reason.ORPHAN_NOT_FOUND
        await check_at_rest(service)


@virtual
async def test_what_is_in_use_is_spared_and_goes_later() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        host.volumes.disks["old"] = MemoryDisk(GIB, mounted=True)
        failed = await remove(service, "volume_disk-old")
        assert failed.state == "failed"
        assert "still mounted" in failed.message
        host.volumes.disks["old"].mounted = False
        assert (await remove(service, "volume_disk-old")).state == "succeeded"
        assert host.volumes.disks == {}


@virtual
async def test_another_thing_of_its_name_is_not_taken_for_it() -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host) as service:
        container = (await service.orphans.look()).orphans[0].thing
        host.engine.faults = lambda verb, _: "before" if verb == "inspect_container" else None
        accepted = await service.submit(RemoveOrphan(container.id))
        await host.clock.sleep(1)
        host.world.remove("old-1")
        await host.engine.create_container("old-1", {"Image": IMAGE, "Labels": labels("old", 1)})
        host.engine.faults = no_faults
        assert (await service.ended(accepted)).state == "succeeded"
        assert "old-1" in host.world.containers


@pytest.mark.parametrize("when", ["before", "after"])
@virtual
async def test_a_removal_goes_on_after_a_crash(when: str) -> None:
    host = SimulatedHost()
    await strew(host)
    async with SimulatedService(host) as service:
        volume = (await service.orphans.look()).orphans[1].thing
        host.engine.faults = lambda verb, _: when if verb == "remove_volume" else None
        accepted = await service.submit(RemoveOrphan(volume.id))
        await host.clock.sleep(5)
    host.engine.faults = no_faults
    async with SimulatedService(host) as service:
        assert (await service.ended(accepted)).state == "succeeded"
        assert "old-1" not in host.world.volumes
