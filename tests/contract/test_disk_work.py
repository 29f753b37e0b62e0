"""The performer's work on system disks: kept once, squashed in time, refused when too large."""

from typing import Any

import pytest
from msgspec.structs import replace

from events.labels import (
    LABEL_EFFECT,
    LABEL_KEPT_BY,
    LABEL_NAME,
    LABEL_NODE,
    LABEL_OWNER,
    LABEL_REVISION,
)
from service.application.disk_work import FREE_BYTES_LEFT, LAYERS_MAX, DiskWork
from service.domain.commands import Succeeded
from service.domain.effects import (
    CommitImage,
    CompactSnapshot,
    FillDisk,
    PreCopyDisk,
    PutBackDisk,
    RemoveSnapshot,
    TakeSnapshot,
)
from service.errors import EngineRefused, EngineUnavailable, SystemDiskError, SystemDiskFull
from service.ports import ImageInfo, Progress
from tests.kit.builders import IMAGE, OWNER
from tests.kit.fault_plans import FirstCalls
from tests.kit.memory_disks import KeptDisk, MemoryDisks
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_world import World
from tests.kit.virtual_time import VirtualClock, virtual

LABELS = {
    LABEL_OWNER: OWNER,
    LABEL_NODE: "n1",
    LABEL_NAME: "foo",
    LABEL_REVISION: "1",
    LABEL_EFFECT: "e",
}
NO_CLAIM = dict.fromkeys(LABELS, "")
IDS = ("op/step", "op", "foo", 1)


class SlowEngine(SimulatedEngine):
    """Its commits take three seconds, while the disk is filled a little in each."""

    def __init__(self, world: World, disks: MemoryDisks) -> None:
        super().__init__(world, owner=OWNER)
        self.commits = 0
        self.squashes = 0
        self._disks = disks
        self._clock = VirtualClock()

    async def commit_container(self, *arguments: Any, **options: Any) -> ImageInfo:
        """As the port says."""
        self.commits += 1
        for _ in range(3):
            await self._clock.sleep(1)
            if self._disks.free is not None:
                self._disks.free -= 30
        return await super().commit_container(*arguments, **options)


    async def squash_image(self, image: str, base: str) -> ImageInfo:
        """As the port says."""
        self.squashes += 1
        return await super().squash_image(image, base)


class Host:
    """foo-1 has run and changed a hundred bytes; foo-2 was created on the same image."""

    def __init__(self) -> None:
        self.world = World(images=[IMAGE])
        self.disks = MemoryDisks(self.world, owner=OWNER)
        self.disks.reflink = False
        self.engine = SlowEngine(self.world, self.disks)
        self.work = DiskWork(self.engine, self.disks, VirtualClock(), OWNER)
        self.seen: list[Progress] = []

    async def make(self) -> "Host":
        """With both containers."""
        for name in ("foo-1", "foo-2"):
            body = {"Image": IMAGE, "Labels": LABELS | {LABEL_EFFECT: name}, "Cmd": ["sleep"]}
            await self.engine.create_container(name, body)
        await self.engine.start_container("foo-1")
        self.world.containers["foo-1"].files["/data"] = bytes(100)
        return self

    async def stop(self) -> "Host":
        """foo-1 stands still."""
        await self.engine.stop_container("foo-1", 1)
        return self

    async def do(self, effect: Any) -> dict[str, Any]:
        """What the event wants to know."""
        done = await self.work.perform(effect, self.seen.append)
        assert isinstance(done, Succeeded)
        return done.facts


def take(carry: Any = "commit", onto: str = IMAGE) -> TakeSnapshot:
    image = "kept" if carry == "upper" else "kept:1"
    return TakeSnapshot(*IDS, container="foo-1", image=image, carry=carry, squash_onto=onto)


SAVE = CommitImage(*IDS, container="foo-1", image="saved:1", pause=True)
PRECOPY = PreCopyDisk(*IDS, container="foo-2", source="foo-1", least_bytes=1)


@virtual
async def test_a_disk_goes_its_way_as_a_directory() -> None:
    host = await (await Host().make()).stop()
    assert await host.do(take("upper")) == {"size_bytes": 100, "squashed": False}
    await host.do(FillDisk(*IDS, container="foo-2", image="kept"))
    assert host.world.containers["foo-2"].files["/data"] == bytes(100)
    assert host.seen == [Progress(100, 100)]
    await host.do(PutBackDisk(*IDS, container="foo-1", image="kept"))
    assert host.world.containers["foo-1"].files["/data"] == bytes(100)
    await host.do(take("upper"))
    await host.do(RemoveSnapshot(*IDS, image="kept", carry="upper"))
    assert host.disks.kept == {}
    assert host.engine.commits == 0


@virtual
async def test_one_that_somebody_started_again_is_stopped_and_its_disk_moved_both_ways() -> None:
    host = await (await Host().make()).stop()
    container = host.world.containers["foo-1"]
    await host.do(take("upper"))
    host.world.begin(container)
    # As after a crash: it was moved, and nobody knows.
    assert await host.do(take("upper")) == {"size_bytes": 100, "squashed": False}
    assert container.status == "exited"
    host.world.begin(container)
    put_back = PutBackDisk(*IDS, container="foo-1", image="kept")
    since = container.started_at
    assert await host.do(put_back) == {"gone": False, "lost": False, "started_at": since}
    assert (container.status, container.files["/data"]) == ("exited", bytes(100))


@virtual
async def test_a_disk_stays_kept_when_its_container_is_gone() -> None:
    host = await (await Host().make()).stop()
    await host.do(take("upper"))
    put_back = PutBackDisk(*IDS, container="foo-1", image="kept")
    host.world.containers["foo-1"].labels[LABEL_OWNER] = "somebody else"
    assert await host.do(put_back) == {"gone": True, "lost": False}
    host.world.remove("foo-1")
    assert await host.do(put_back) == {"gone": True, "lost": False}
    assert list(host.disks.kept) == ["kept"]


@virtual
async def test_a_disk_that_was_put_back_is_lost_with_its_container() -> None:
    host = await (await Host().make()).stop()
    await host.do(take("upper"))
    put_back = PutBackDisk(*IDS, container="foo-1", image="kept")
    await host.do(put_back)
    host.world.remove("foo-1")
    assert await host.do(put_back) == {"gone": True, "lost": True}


@virtual
async def test_a_disk_is_committed_once_and_its_image_claims_nothing() -> None:
    host = await (await Host().make()).stop()
    for _ in range(2):  # the second time is after a crash
        assert await host.do(take()) == {"size_bytes": 1 << 20, "squashed": False}
    assert host.engine.commits == 1
    image = host.world.images["kept:1"]
    assert image.labels == {**NO_CLAIM, LABEL_KEPT_BY: OWNER}
    assert image.files["/data"] == bytes(100)
    await host.do(RemoveSnapshot(*IDS, image="kept:1", carry="commit"))
    assert "kept:1" not in host.world.images


@virtual
async def test_a_disk_is_saved_for_its_caller_as_often_as_asked() -> None:
    host = await Host().make()
    first = await host.do(SAVE)
    assert await host.do(SAVE) == first  # this time is after a crash
    assert host.engine.commits == 1
    second = await host.do(replace(SAVE, effect_id="op2/step"))
    assert host.engine.commits == 2
    assert first["image_id"] != second["image_id"] == host.world.images["saved:1"].id
    assert host.world.images["saved:1"].labels == {
        **NO_CLAIM,
        LABEL_EFFECT: "op2/step",
        LABEL_KEPT_BY: "",
    }


async def layered(host: Host, layers: int) -> None:
    """foo-1 lies on so many layers above the image below all commits."""
    base = host.world.images[IMAGE]
    deep = host.world.add_image("deep:1")
    deep.layers = (*base.layers, *(f"layer-{number}" for number in range(layers)))
    host.world.containers["foo-1"].image_id = deep.id


@pytest.mark.parametrize(
    ("above", "onto", "squashed"),
    [
        (LAYERS_MAX - 2, IMAGE, False),
        (LAYERS_MAX - 1, IMAGE, True),
        (LAYERS_MAX - 1, "", False),
    ],
)
@virtual
async def test_layers_are_made_one_before_the_engine_has_too_many(
    above: int, onto: str, squashed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    host = await (await Host().make()).stop()
    await layered(host, above)
    assert (await host.do(take(onto=onto)))["squashed"] == squashed
    image = host.world.images["kept:1"]
    assert len(image.layers) == (2 if squashed else above + 2)
    assert image.files["/data"] == bytes(100)
    assert caplog.messages == []


@virtual
async def test_a_disk_that_cannot_be_squashed_is_kept_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = await (await Host().make()).stop()
    await layered(host, LAYERS_MAX)
    host.engine.faults = FirstCalls("squash_image", "refuse")
    assert (await host.do(take()))["squashed"] is False
    assert len(host.world.images["kept:1"].layers) == LAYERS_MAX + 2
    assert "kept:1 has 102 layers" in caplog.text
    assert (await host.do(take()))["squashed"] is True


@pytest.mark.parametrize(("above", "squashes"), [(LAYERS_MAX, 2), (5, 0), (0, 1)])
@virtual
async def test_what_a_crash_left_of_a_squash_is_asked_away(above: int, squashes: int) -> None:
    host = await (await Host().make()).stop()
    await layered(host, above)
    for _ in range(2):  # the second time is after a crash
        await host.do(take())
    assert host.engine.squashes == squashes


@pytest.mark.parametrize(("short", "refused"), [(1, True), (0, False)])
@pytest.mark.parametrize("effect", [take(), SAVE])
@virtual
async def test_an_image_that_the_disk_cannot_hold_is_not_begun(
    effect: Any, short: int, refused: bool
) -> None:
    host = await (await Host().make()).stop()
    host.disks.free = 100 + FREE_BYTES_LEFT - short
    if refused:
        with pytest.raises(SystemDiskFull, match=r"256MB left.*100B that foo-1"):
            await host.do(effect)
    else:
        await host.do(effect)
    assert host.engine.commits == (0 if refused else 1)


@virtual
async def test_a_commit_is_as_far_as_the_disk_has_become_fuller() -> None:
    host = await Host().make()
    await host.do(SAVE)
    assert [progress.total_bytes for progress in host.seen] == [100] * len(host.seen)
    done = [progress.done_bytes for progress in host.seen]
    assert done == sorted(done)
    assert {0, 30, 60} <= set(done) <= {0, 30, 60, 90}


@virtual
async def test_of_a_disk_that_cannot_be_seen_a_commit_reports_nothing() -> None:
    host = await Host().make()
    host.disks.free = None
    await host.do(SAVE)
    assert (host.seen, host.engine.commits) == ([], 1)


@virtual
async def test_a_layer_that_is_no_directory_is_committed_without_a_look_at_its_size() -> None:
    host = await Host().make()
    host.disks.free = 0
    host.world.containers["foo-1"].labels[LABEL_OWNER] = "somebody"
    with pytest.raises(EngineRefused):
        await host.do(SAVE)
    assert host.engine.commits == 1


@virtual
async def test_a_disk_is_copied_ahead_while_it_is_in_use() -> None:
    host = await Host().make()
    assert await host.do(PRECOPY) == {"size_bytes": 100, "message": ""}
    assert host.seen == [Progress(100, 100)]


@virtual
async def test_a_disk_that_cannot_hold_the_copy_is_told_while_the_container_runs() -> None:
    host = await Host().make()
    host.disks.free = 99
    with pytest.raises(SystemDiskFull):
        await host.do(PRECOPY)
    assert host.world.containers["foo-1"].status == "running"


@pytest.mark.parametrize(
    ("verb", "effect", "nothing"),
    [
        ("precopy_layer", PRECOPY, "size_bytes"),
        ("compact_layer", CompactSnapshot(*IDS, image="kept", other="old"), "saved_bytes"),
    ],
)
@virtual
async def test_what_only_saves_time_or_space_says_why_it_did_not_work(
    verb: str, effect: Any, nothing: str
) -> None:
    host = await Host().make()
    host.disks.faults = FirstCalls(verb, "refuse")
    facts = await host.do(effect)
    assert facts[nothing] == 0
    assert "did not work" in facts["message"]
    host.disks.faults = FirstCalls(verb, "before")
    with pytest.raises(EngineUnavailable):
        await host.do(effect)


@virtual
async def test_what_has_to_be_done_with_a_disk_fails_in_its_own_words() -> None:
    host = await (await Host().make()).stop()
    with pytest.raises(SystemDiskError, match="there is no kept system disk kept"):
        await host.do(FillDisk(*IDS, container="foo-2", image="kept"))


@virtual
async def test_files_that_two_kept_disks_share_are_counted() -> None:
    host = await (await Host().make()).stop()
    await host.do(take("upper"))
    host.disks.kept["old"] = KeptDisk("id", "image", {"/data": bytes(100)}, frozenset())
    compact = CompactSnapshot(*IDS, image="kept", other="old")
    assert await host.do(compact) == {"saved_bytes": 100, "message": ""}
