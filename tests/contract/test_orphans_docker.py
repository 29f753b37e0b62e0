"""What is ours and what is not, on a real Docker and on the simulated one."""

from collections.abc import AsyncIterator

import pytest

from events.labels import LABEL_EFFECT, LABEL_KEPT_BY, LABEL_NAME, LABEL_OWNER, LABEL_REVISION
from events.values import OrphanKind
from service.application.orphan_work import OrphanWork
from service.domain.effects import DropOrphan
from service.domain.orphan_commands import Thing
from service.errors import EngineRefused
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import OTHER_OWNER, OWNER, EngineRig, body, engine_rig
from tests.kit.memory_disks import MemoryDisks
from tests.kit.memory_volumes import MemoryVolumes
from tests.kit.simulated_world import World


@pytest.fixture
async def rig(any_dockerd: PrivateDockerd | None) -> AsyncIterator[EngineRig]:
    async with engine_rig(any_dockerd) as made:
        yield made


def work_of(rig: EngineRig) -> OrphanWork:
    """With disks of its own, that have nothing in them."""
    return OrphanWork(rig.engine, MemoryVolumes(), MemoryDisks(World()), OWNER)


def drop(thing: Thing) -> DropOrphan:
    """The removal of what was seen."""
    return DropOrphan(
        "e", "o", thing.id, 0, kind=thing.kind, thing=thing.name, object_id=thing.object_id
    )


async def seen(work: OrphanWork) -> dict[tuple[OrphanKind, str], Thing]:
    sight = await work.look()
    assert sight.unseen == {}
    return {(thing.kind, thing.name): thing for thing in sight.things}


async def test_containers_of_others_are_not_seen_and_not_touched_whatever_their_names(
    rig: EngineRig,
) -> None:
    """Neither another installation's, nor one that nobody's label is on."""
    of = {LABEL_NAME: "foo", LABEL_REVISION: "7"}
    await rig.engine.create_container("foo-7", body(labels=of))
    await rig.other.create_container("foo-8", body(owner=OTHER_OWNER, labels=of))
    without = body()
    without["Labels"] = of
    await rig.engine.create_container("foo-9", without)
    await rig.engine.create_container("stray", body(effect="e2"))
    work = work_of(rig)
    found = await seen(work)
    assert set(found) == {("container", "foo-7"), ("container", "stray")}
    mine = found["container", "foo-7"]
    assert (mine.owner, mine.of, mine.number) == (OWNER, "foo", 7)
    assert found["container", "stray"].of == ""
    for name in ("foo-8", "foo-9"):
        there = await rig.engine.inspect_container(name)
        assert there is not None
        with pytest.raises(EngineRefused) as refused:
            await work.drop(DropOrphan("e", "", "x", 0, "container", name, there.id))
        assert refused.value.reason == "not_ours"
    # It has the name, but is not what was seen.
    await work.drop(DropOrphan("e", "", "x", 0, "container", "stray", mine.object_id))
    for _ in range(2):
        await work.drop(drop(mine))
    assert set(await seen(work)) == {("container", "stray")}
    for name in ("foo-8", "foo-9"):
        assert await rig.engine.inspect_container(name) is not None


async def test_volumes_of_others_are_not_seen_and_not_touched(rig: EngineRig) -> None:
    for engine, owner, name in ((rig.engine, OWNER, "v-1"), (rig.other, OTHER_OWNER, "v-2")):
        labels = {LABEL_OWNER: owner, LABEL_EFFECT: "e"}
        await engine.create_volume(name, {"type": "tmpfs", "device": "tmpfs"}, labels)
    work = work_of(rig)
    found = await seen(work)
    assert set(found) == {("volume", "v-1")}
    with pytest.raises(EngineRefused):
        await work.drop(DropOrphan("e", "", "x", 0, "volume", "v-2", ""))
    for _ in range(2):
        await work.drop(drop(found["volume", "v-1"]))
    assert await seen(work) == {}


async def test_images_are_ours_by_who_keeps_them_and_by_their_name(rig: EngineRig) -> None:
    await rig.engine.create_container("foo-1", body())
    names = ["gpuledger/snapshot:foo-1-op", "gpuledger/snapshot:foo-2-op", "mine:1"]
    for name, owner in zip(names, (OWNER, OTHER_OWNER, OWNER), strict=True):
        labels = {LABEL_OWNER: "", LABEL_KEPT_BY: owner}
        await rig.engine.commit_container("foo-1", name, labels, pause=False)
    listed = await rig.engine.list_images({LABEL_KEPT_BY: OWNER})
    assert sorted(tag for image in listed for tag in image.tags) == [names[0], names[2]]
    assert all(image.size_bytes for image in listed)
    # A container of one has its label, and is not ours for that.
    config = body(image=names[0])
    config["Labels"] = {}
    await rig.engine.create_container("theirs", config)
    await rig.engine.remove_container("foo-1")
    work = work_of(rig)
    found = await seen(work)
    assert set(found) == {("image", names[0])}
    image = found["image", names[0]]
    assert (image.id, image.of, image.number) == ("image-foo-1-op", "foo", 1)
    with pytest.raises(EngineRefused) as refused:
        await work.drop(drop(image))
    assert refused.value.reason == "image_in_use"
    other = DropOrphan("e", "", "x", 0, "image", names[1], image.object_id)
    await work.drop(other)
    assert await rig.engine.inspect_image(names[1]) is not None
