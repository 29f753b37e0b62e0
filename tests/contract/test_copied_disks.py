"""What the port promises where clones share no blocks: copied ahead, compacted, short of room.

On an ext4 of the test's own, and in memory as if.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from service.disk_ports import DiskRef
from service.errors import SystemDiskError, SystemDiskFull
from service.ports import Progress
from tests.kit.disk_rigs import (
    OTHER_IMAGE,
    DiskRig,
    carry,
    clear_disks,
    memory_disk_rig,
    no_progress,
    two_kept,
    upper_disk_rig,
)
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import FILE_OF_IMAGE

CHANGES = ("echo mine > /root/f", f"rm {FILE_OF_IMAGE}")
TOO_MUCH = 1 << 50
PLENTY = 2 << 30


@pytest.fixture(scope="module")
def ext4(root: None) -> Iterator[PrivateDockerd]:
    with PrivateDockerd(data_file_system="ext4") as engine:
        engine.import_busybox_image()
        yield engine


@pytest.fixture
async def real(ext4: PrivateDockerd) -> AsyncIterator[DiskRig]:
    made = upper_disk_rig(ext4)
    try:
        yield made
    finally:
        await made.close()
        await asyncio.to_thread(clear_disks, ext4)


@pytest.fixture(params=["upper", "memory"])
def rig(request: pytest.FixtureRequest) -> DiskRig:
    if request.param == "memory":
        return memory_disk_rig(reflink=False)
    made: DiskRig = request.getfixturevalue("real")
    return made


async def test_what_changes_after_a_precopy_is_carried_too(rig: DiskRig) -> None:
    await rig.run("c-1", *CHANGES, "echo gone > /root/g")
    await rig.make("c-2")
    seen: list[Progress] = []
    size = await rig.disks.precopy("c-1", "c-2", 1, seen.append)
    assert seen[-1] == Progress(size, size)
    assert size > 0
    for change in ("echo later > /root/f", "rm /root/g", "echo new > /root/n"):
        assert (await rig.shell("c-1", change)).exit_code == 0
    await carry(rig, "c-1", "c-2")
    await rig.engine.start_container("c-2")
    found = [await rig.read("c-2", path) for path in ("/root/f", "/root/g", "/root/n")]
    assert found == [b"later\n", None, b"new\n"]
    assert await rig.read("c-2", FILE_OF_IMAGE) is None


async def test_a_small_layer_is_not_copied_ahead(rig: DiskRig) -> None:
    await rig.run("c-1", *CHANGES)
    await rig.make("c-2")
    assert await rig.disks.precopy("c-1", "c-2", TOO_MUCH, no_progress) == 0
    await carry(rig, "c-1", "c-2")
    await rig.engine.start_container("c-2")
    assert await rig.read("c-2", "/root/f") == b"mine\n"


async def test_a_container_that_was_copied_ahead_for_gets_what_it_is_filled_with(
    rig: DiskRig,
) -> None:
    await rig.run("c-1", *CHANGES)
    await rig.run_and_stop("d-1", "echo second > /root/g")
    await rig.disks.keep("d-1", "second")
    await rig.make("c-2")
    for _ in range(2):
        assert await rig.disks.precopy("c-1", "c-2", 1, no_progress) > 0
    await rig.disks.fill("c-2", "second", no_progress)
    await carry(rig, "c-1", "c-2")
    await rig.disks.fill("c-2", "second", no_progress)
    await rig.engine.start_container("c-2")
    assert await rig.read("c-2", "/root/f") is None
    assert await rig.read("c-2", "/root/g") == b"second\n"


async def test_a_container_that_is_made_again_is_not_mixed_up(rig: DiskRig) -> None:
    await rig.run("c-1", *CHANGES)
    await rig.make("c-2")
    assert await rig.disks.precopy("c-1", "c-2", 1, no_progress) > 0
    await rig.engine.remove_container("c-2")
    await rig.make("c-2")
    await carry(rig, "c-1", "c-2")
    await rig.engine.start_container("c-2")
    assert await rig.read("c-2", "/root/f") == b"mine\n"


async def test_what_cannot_be_copied_ahead(rig: DiskRig) -> None:
    await asyncio.to_thread(rig.add_image)
    await rig.run("c-1", *CHANGES)
    await rig.make("c-2")
    await rig.make("d-1", OTHER_IMAGE)
    await rig.run("e-1")
    for disks, source, container, words in (
        (rig.disks, "c-9", "c-2", "no container c-9"),
        (rig.disks, "c-1", "c-9", "no container c-9"),
        (rig.disks, "c-1", "d-1", "other images"),
        (rig.disks, "c-1", "e-1", "never started"),
        (rig.other, "c-1", "c-2", "does not belong"),
    ):
        with pytest.raises(SystemDiskError, match=words):
            await disks.precopy(source, container, 0, no_progress)


async def test_compacted_disks_are_what_they_were(rig: DiskRig) -> None:
    await two_kept(rig)
    assert await rig.disks.compact("two", "one") > 0
    assert await rig.disks.compact("two", "one") == 0
    assert await rig.disks.compact("two", "two") == 0
    for kept, name in (("two", "c-3"), ("one", "c-4")):
        await rig.make(name)
        await rig.disks.fill(name, kept, no_progress)
        await rig.engine.start_container(name)
        assert await rig.read(name, "/root/f") == b"mine\n"
        assert (await rig.shell(name, "echo other > /root/f")).exit_code == 0
    await rig.disks.remove("one")
    await rig.make("c-5")
    await rig.disks.fill("c-5", "two", no_progress)
    await rig.engine.start_container("c-5")
    assert await rig.read("c-5", "/root/f") == b"mine\n"
    assert await rig.read("c-5", "/root/n") == b"new\n"


async def test_only_kept_disks_are_compacted(rig: DiskRig) -> None:
    await two_kept(rig)
    for pair in (("one", "absent"), ("absent", "one"), ("c-2", "one")):
        with pytest.raises(SystemDiskError, match="no kept system disk"):
            await rig.disks.compact(*pair)


async def test_a_clone_that_would_fill_the_disk_is_not_begun(rig: DiskRig) -> None:
    await rig.run("c-1", *CHANGES)
    await rig.make("c-2")
    await asyncio.to_thread(rig.leave_free, 0)
    with pytest.raises(SystemDiskFull):
        await rig.disks.precopy("c-1", "c-2", 1, no_progress)
    await rig.engine.stop_container("c-1", 5)
    await rig.disks.keep("c-1", "kept")
    with pytest.raises(SystemDiskFull):
        await rig.disks.fill("c-2", "kept", no_progress)
    nothing = await rig.disks.changes(DiskRef("container", "c-2"), DiskRef("container", "c-1"), 9)
    assert nothing.files == ()
    await asyncio.to_thread(rig.leave_free, PLENTY)
    await rig.disks.fill("c-2", "kept", no_progress)
    await rig.engine.start_container("c-2")
    assert await rig.read("c-2", "/root/f") == b"mine\n"
