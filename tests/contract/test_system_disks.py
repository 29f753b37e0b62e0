"""What the port `SystemDisks` promises, on overlay2's upper directories and in memory."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.disk_ports import DiskRef, FileChange, FileChanges
from service.errors import EngineUnavailable, SystemDiskError
from service.ports import Progress
from tests.kit.disk_rigs import (
    OTHER_IMAGE,
    DiskRig,
    clear_disks,
    memory_disk_rig,
    no_progress,
    upper_disk_rig,
)
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import FILE_OF_IMAGE
from tests.kit.memory_disks import MemoryDisks

CHANGES = ("echo mine > /root/f", f"rm {FILE_OF_IMAGE}")


@pytest.fixture(params=["upper", "memory"])
def any_dockerd(request: pytest.FixtureRequest) -> PrivateDockerd | None:
    """None is the one in memory. Starting the real one takes too long for a loop."""
    return request.getfixturevalue("dockerd") if request.param == "upper" else None


@pytest.fixture
async def rig(any_dockerd: PrivateDockerd | None) -> AsyncIterator[DiskRig]:
    if any_dockerd is None:
        yield memory_disk_rig()
        return
    made = upper_disk_rig(any_dockerd)
    try:
        yield made
    finally:
        await made.close()
        await asyncio.to_thread(clear_disks, any_dockerd)


async def test_the_probe_says_how(rig: DiskRig) -> None:
    probe = await rig.disks.probe()
    assert probe.works, probe.detail
    assert probe.detail
    assert await rig.disks.probe() == probe


async def test_a_disk_is_carried_with_what_was_deleted(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    assert await rig.disks.keep("c-1", "c-1-kept") > 0
    await rig.make("c-2")
    seen: list[Progress] = []
    await rig.disks.fill("c-2", "c-1-kept", seen.append)
    await rig.engine.remove_container("c-1")
    await rig.engine.start_container("c-2")
    assert await rig.read("c-2", "/root/f") == b"mine\n"
    assert await rig.read("c-2", FILE_OF_IMAGE) is None
    assert seen[-1].done_bytes == seen[-1].total_bytes > 0


async def test_a_kept_disk_stays_as_it_was(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    for name in ("c-2", "c-3"):
        await rig.make(name)
        await rig.disks.fill(name, "kept", no_progress)
        await rig.engine.start_container(name)
        assert await rig.read(name, "/root/f") == b"mine\n"
        assert (await rig.shell(name, "echo other > /root/f")).exit_code == 0


async def test_keeping_again_changes_nothing(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    size = await rig.disks.keep("c-1", "kept")
    assert await rig.disks.keep("c-1", "kept") == size
    await rig.engine.remove_container("c-1")
    assert await rig.disks.keep("c-1", "kept") == size


async def test_filling_again_starts_afresh(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    await rig.run_and_stop("d-1", "echo second > /root/g")
    await rig.disks.keep("d-1", "second")
    await rig.make("c-2")
    for kept in ("second", "kept", "kept"):
        await rig.disks.fill("c-2", kept, no_progress)
    await rig.engine.start_container("c-2")
    assert await rig.read("c-2", "/root/f") == b"mine\n"
    assert await rig.read("c-2", "/root/g") is None


async def test_put_back_is_as_if_nothing_had_been_kept(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    await rig.disks.put_back("kept", "c-1")
    await rig.disks.put_back("kept", "c-1")
    await rig.make("c-2")
    with pytest.raises(SystemDiskError, match="no kept system disk kept"):
        await rig.disks.fill("c-2", "kept", no_progress)
    await rig.engine.start_container("c-1")
    assert await rig.read("c-1", "/root/f") == b"mine\n"
    assert await rig.read("c-1", FILE_OF_IMAGE) is None

    await rig.engine.stop_container("c-1", 5)
    await rig.disks.keep("c-1", "kept")
    await rig.disks.fill("c-2", "kept", no_progress)
    await rig.engine.start_container("c-2")
    assert await rig.read("c-2", "/root/f") == b"mine\n"


async def test_put_back_replaces_what_an_empty_layer_was_used_for(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    await rig.engine.start_container("c-1")
    assert await rig.read("c-1", "/root/f") is None
    assert await rig.read("c-1", FILE_OF_IMAGE) is not None
    await rig.shell("c-1", "echo stray > /root/g")
    with pytest.raises(SystemDiskError, match="running"):
        await rig.disks.put_back("kept", "c-1")
    await rig.engine.stop_container("c-1", 5)
    await rig.disks.put_back("kept", "c-1")
    await rig.engine.start_container("c-1")
    assert await rig.read("c-1", "/root/f") == b"mine\n"
    assert await rig.read("c-1", "/root/g") is None


async def test_remove_what_is_there_and_what_is_not(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    assert await rig.disks.is_kept("kept")
    await rig.disks.remove("kept")
    assert not await rig.disks.is_kept("kept")
    await rig.disks.remove("kept")
    with pytest.raises(SystemDiskError, match="no kept system disk kept"):
        await rig.disks.put_back("kept", "c-1")
    await rig.engine.remove_container("c-1")
    with pytest.raises(SystemDiskError, match="no container c-1"):
        await rig.disks.keep("c-1", "kept")


async def test_only_a_stopped_container_is_emptied(rig: DiskRig) -> None:
    await rig.run("c-1", *CHANGES)
    with pytest.raises(SystemDiskError, match="running"):
        await rig.disks.keep("c-1", "kept")
    assert await rig.read("c-1", "/root/f") == b"mine\n"


async def test_only_a_container_that_never_ran_is_filled(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    await rig.run("c-2")
    for _ in ("running", "exited"):
        with pytest.raises(SystemDiskError, match="never started"):
            await rig.disks.fill("c-2", "kept", no_progress)
        await rig.engine.stop_container("c-2", 5)
    for container, kept, words in (("c-9", "kept", "no container"), ("c-3", "x", "no kept")):
        await rig.make("c-3")
        with pytest.raises(SystemDiskError, match=words):
            await rig.disks.fill(container, kept, no_progress)


async def test_a_disk_is_not_mixed_up_with_another(rig: DiskRig) -> None:
    for name in ("c-1", "d-1"):
        await rig.run_and_stop(name, *CHANGES)
    await rig.disks.keep("c-1", "kept")
    with pytest.raises(SystemDiskError, match="from"):
        await rig.disks.keep("d-1", "kept")
    with pytest.raises(SystemDiskError, match="from"):
        await rig.disks.put_back("kept", "d-1")
    await rig.engine.start_container("d-1")
    assert await rig.read("d-1", "/root/f") == b"mine\n"


async def test_a_disk_stays_on_its_image(rig: DiskRig) -> None:
    await asyncio.to_thread(rig.add_image)
    await rig.run_and_stop("c-1", *CHANGES)
    await rig.disks.keep("c-1", "kept")
    await rig.make("c-2", OTHER_IMAGE)
    with pytest.raises(SystemDiskError, match="belongs on image"):
        await rig.disks.fill("c-2", "kept", no_progress)


async def test_what_somebody_else_made_is_left_alone(rig: DiskRig) -> None:
    await rig.run_and_stop("c-1", *CHANGES)
    for refused in (
        rig.other.keep("c-1", "kept"),
        rig.other.put_back("kept", "c-1"),
        rig.other.fill("c-1", "kept", no_progress),
    ):
        with pytest.raises(SystemDiskError, match="does not belong to this installation"):
            await refused
    await rig.disks.keep("c-1", "kept")
    await rig.other.remove("kept")
    await rig.disks.put_back("kept", "c-1")


async def test_how_large_a_layer_is(rig: DiskRig) -> None:
    await rig.run("c-1", "echo mine > /root/f")
    small = await rig.disks.size("c-1")
    assert small
    await rig.shell("c-1", "echo another > /root/g")
    large = await rig.disks.size("c-1")
    assert large is not None
    assert large > small
    with pytest.raises(SystemDiskError, match="no container c-9"):
        await rig.disks.size("c-9")
    with pytest.raises(SystemDiskError, match="does not belong"):
        await rig.other.size("c-1")
    assert await rig.disks.free_bytes()


async def test_what_differs_between_two_disks(rig: DiskRig) -> None:
    """One of them kept, or none; what only the image has is not listed."""
    await rig.run_and_stop("c-1", *CHANGES, "echo old > /root/o")
    await rig.run_and_stop("c-2", "echo yours > /root/f", "echo new > /root/n")
    of_image, *own = (
        FileChange(FILE_OF_IMAGE, "added"),
        FileChange("/root/f", "changed", 6),
        FileChange("/root/n", "added", 4),
        FileChange("/root/o", "deleted"),
    )
    before, after = DiskRef("container", "c-1"), DiskRef("container", "c-2")
    for _ in ("none kept", "one kept"):
        found = await rig.disks.changes(before, after, 10)
        assert (found.added, found.changed, found.deleted) == (2, 1, 1)
        assert (found.files[0].path, found.files[0].kind) == (of_image.path, of_image.kind)
        assert list(found.files[1:]) == own
        few = await rig.disks.changes(before, after, 2)
        assert few == FileChanges(found.files[:2], added=2, changed=1, deleted=1)
        back = await rig.disks.changes(after, before, 10)
        assert (back.added, back.changed, back.deleted) == (1, 1, 2)
        await rig.disks.keep("c-1", "kept")
        before = DiskRef("directory", "kept")
    assert await rig.disks.changes(before, before, 10) == FileChanges((), 0, 0, 0)


async def test_disks_that_cannot_be_compared(rig: DiskRig) -> None:
    await asyncio.to_thread(rig.add_image)
    await rig.make("c-1")
    await rig.make("c-2", OTHER_IMAGE)
    one = DiskRef("container", "c-1")
    for other, words in (
        (DiskRef("container", "c-2"), "other images"),
        (DiskRef("image", "kept:1"), "cannot be compared as a directory"),
        (DiskRef("directory", "absent"), "no kept system disk absent"),
        (DiskRef("container", "c-9"), "no container c-9"),
    ):
        for pair in ((one, other), (other, one)):
            with pytest.raises(SystemDiskError, match=words):
                await rig.disks.changes(*pair, 10)


@pytest.mark.parametrize(
    ("fault", "error", "done"),
    [
        ("before", EngineUnavailable, False),
        ("refuse", SystemDiskError, False),
        ("after", EngineUnavailable, True),
    ],
)
async def test_faults_of_the_twin(fault: str, error: type[Exception], done: bool) -> None:
    rig = memory_disk_rig()
    await rig.run_and_stop("c-1", *CHANGES)
    assert isinstance(rig.disks, MemoryDisks)
    rig.disks.faults = lambda verb, _: fault if verb == "keep_layer" else None
    with pytest.raises(error):
        await rig.disks.keep("c-1", "kept")
    assert ("kept" in rig.disks.kept) == done


async def test_what_is_kept_is_listed(rig: DiskRig) -> None:
    assert await rig.disks.list_kept() == ()
    await rig.run_and_stop("c-1", *CHANGES)
    size = await rig.disks.keep("c-1", "c-1-kept")
    assert [(one.name, one.size_bytes) for one in await rig.disks.list_kept()] == [
        ("c-1-kept", size)
    ]
    await rig.disks.remove("c-1-kept")
    assert await rig.disks.list_kept() == ()
