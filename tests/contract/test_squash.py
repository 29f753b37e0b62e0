"""Layers made one: the same to a container as before, and room for more commits."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from service.adapters.docker_engine import DockerEngine
from service.adapters.docker_squash import OLD
from service.errors import EngineRefused
from service.ports import ContainerEngine, ImageInfo
from tests.kit.busybox import busybox_rootfs
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import (
    FILE_OF_IMAGE,
    IMAGE,
    OWNER,
    EngineRig,
    body,
    clear,
    engine_rig,
)
from tests.kit.odd_trees import CAPABILITY, Node, base_tree, differences, plant, scan
from tests.kit.simulated_world import LAYERS_MAX

OUTPUT_MAX = 1 << 20
ODD_IMAGE = "odd:1"
REVISIONS = 4


@pytest.fixture
async def rig(any_dockerd: PrivateDockerd | None) -> AsyncIterator[EngineRig]:
    async with engine_rig(any_dockerd) as made:
        yield made


@pytest.fixture
async def engine(dockerd: PrivateDockerd) -> AsyncIterator[DockerEngine]:
    made = DockerEngine(dockerd.url, owner=OWNER)
    yield made
    await made.close()
    await asyncio.to_thread(clear, dockerd)


@pytest.fixture
def small_disk(root: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder that takes 1 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


async def image_of(engine: ContainerEngine, name: str) -> ImageInfo:
    image = await engine.inspect_image(name)
    assert image is not None
    return image


async def run(engine: ContainerEngine, name: str, cmd: list[str]) -> tuple[int, bytes]:
    outcome = await engine.execute(name, cmd, "", OUTPUT_MAX)
    return outcome.exit_code, outcome.stdout


async def revise(engine: ContainerEngine, image: str, saved: str, cmd: list[str]) -> ImageInfo:
    """Commit what a command in a new container on `image` changes; the container is removed."""
    name = f"of-{saved.replace(':', '-')}"
    await engine.create_container(name, body(image=image))
    await engine.start_container(name)
    assert (await run(engine, name, cmd))[0] == 0
    made = await engine.commit_container(name, saved, {"kept": "label"}, pause=False)
    await engine.remove_container(name)
    return made


def echo(text: str, path: str) -> list[str]:
    return ["sh", "-c", f"echo {text} > {path}"]


async def test_layers_above_the_base_become_one(rig: EngineRig) -> None:
    base = await image_of(rig.engine, IMAGE)
    await revise(rig.engine, IMAGE, "saved:1", echo("one", "/a"))
    await revise(rig.engine, "saved:1", "saved:2", ["rm", FILE_OF_IMAGE])
    before = await revise(rig.engine, "saved:2", "saved:3", echo("three", "/a"))
    assert before.layers == base.layers + 3

    made = await rig.engine.squash_image("saved:3", base.id)
    assert made == await image_of(rig.engine, "saved:3")
    assert made.id != before.id
    assert made.layers == base.layers + 1
    assert (made.tags, made.env, made.cmd) == (before.tags, before.env, before.cmd)
    assert made.labels == before.labels
    assert await rig.engine.inspect_image(before.id) is None
    assert await rig.engine.squash_image("saved:3", base.id) == made

    for name in ("saved:2", "saved:1"):
        await rig.engine.remove_image(name)
    await rig.engine.create_container("c-1", body(image="saved:3"))
    await rig.engine.start_container("c-1")
    assert await run(rig.engine, "c-1", ["cat", "/a"]) == (0, b"three\n")
    assert (await run(rig.engine, "c-1", ["cat", FILE_OF_IMAGE]))[0] == 1


async def test_an_image_that_is_in_use_stays_without_a_name(rig: EngineRig) -> None:
    base = await image_of(rig.engine, IMAGE)
    await revise(rig.engine, IMAGE, "saved:1", echo("one", "/a"))
    before = await revise(rig.engine, "saved:1", "saved:2", echo("two", "/b"))
    await rig.engine.create_container("c-1", body(image="saved:2"))
    await rig.engine.squash_image("saved:2", base.id)
    assert (await image_of(rig.engine, before.id)).tags == ()
    await rig.engine.start_container("c-1")
    assert await run(rig.engine, "c-1", ["cat", "/a"]) == (0, b"one\n")
    assert await run(rig.engine, "c-1", ["cat", "/b"]) == (0, b"two\n")


async def test_revisions_without_a_name_go_and_the_base_stays(engine: DockerEngine) -> None:
    base = await revise(engine, IMAGE, "base:1", echo("base", "/base"))
    nameless = await revise(engine, "base:1", "saved:1", echo("one", "/a"))
    await revise(engine, "saved:1", "saved:2", echo("two", "/b"))
    for name in ("base:1", "saved:1"):
        await engine.remove_image(name)
    assert (await image_of(engine, nameless.id)).tags == ()
    await engine.squash_image("saved:2", base.id)
    assert await engine.inspect_image(nameless.id) is None
    await revise(engine, "saved:2", "saved:3", echo("three", "/c"))
    assert (await engine.squash_image("saved:3", base.id)).layers == base.layers + 1


async def test_the_old_image_goes_also_after_a_crash(
    engine: DockerEngine, dockerd: PrivateDockerd
) -> None:
    base = await image_of(engine, IMAGE)
    await revise(engine, IMAGE, "saved:1", echo("one", "/a"))
    old = await revise(engine, "saved:1", "saved:2", echo("two", "/b"))
    new = await revise(engine, IMAGE, "other:1", echo("three", "/c"))
    with dockerd.client() as client:
        client.api.tag(old.id, "saved", f"2{OLD}")
        client.api.tag(new.id, "saved", "2")
    done = await engine.squash_image("saved:2", base.id)
    assert done.id == new.id
    assert await engine.inspect_image(old.id) is None
    assert await engine.inspect_image(f"saved:2{OLD}") is None
    assert (await engine.squash_image("saved:2", base.id)).id == new.id


async def test_what_cannot_be_made_one_is_refused(rig: EngineRig) -> None:
    base = await image_of(rig.engine, IMAGE)
    one = await revise(rig.engine, IMAGE, "saved:1", echo("one", "/a"))
    await revise(rig.engine, IMAGE, "other:1", echo("two", "/b"))
    assert await rig.engine.squash_image("saved:1", base.id) == one
    for image, on, reason in (
        ("other:1", one.id, "bad_request"),
        ("absent:1", base.id, "image_not_found"),
        ("saved:1", "sha256:" + "0" * 64, "image_not_found"),
    ):
        with pytest.raises(EngineRefused) as refused:
            await rig.engine.squash_image(image, on)
        assert refused.value.reason == reason
    assert await image_of(rig.engine, "saved:1") == one


async def test_commits_go_on_beyond_the_engines_limit_of_layers(rig: EngineRig) -> None:
    base = await image_of(rig.engine, IMAGE)
    await asyncio.to_thread(rig.make_deep, "deep:1", LAYERS_MAX - 1)
    full = await revise(rig.engine, "deep:1", "deep:2", echo("last", "/a"))
    assert full.layers == LAYERS_MAX
    with pytest.raises(EngineRefused, match="max depth exceeded") as refused:
        await revise(rig.engine, "deep:2", "deep:3", echo("no more", "/a"))
    assert refused.value.reason == "layer_limit"

    assert (await rig.engine.squash_image("deep:2", base.id)).layers == base.layers + 1
    more = await revise(rig.engine, "deep:2", "deep:4", ["cat", "/a"])
    assert more.layers <= base.layers + 2
    assert (await revise(rig.engine, "deep:4", "deep:5", echo("more", "/b"))).layers > more.layers


async def test_every_kind_of_entry_is_the_same_as_before(
    dockerd: PrivateDockerd, engine: DockerEngine
) -> None:
    await asyncio.to_thread(import_odd_image, dockerd)
    image = ODD_IMAGE
    for number, change in enumerate((plant_committable, *CHANGES)):
        name = f"c-{number}"
        await engine.create_container(name, body(image=image))
        await engine.start_container(name)
        await asyncio.to_thread(change, merged(dockerd, name))
        image = f"revision:{number}"
        await engine.stop_container(name, 5)
        await engine.commit_container(name, image, {}, pause=False)
        await engine.remove_container(name)
    before = await seen_in_a_container(dockerd, engine, "before", image)
    assert len(before) > 100
    base = await image_of(engine, "revision:0")
    assert (await image_of(engine, image)).layers == base.layers + REVISIONS

    assert (await engine.squash_image(image, base.id)).layers == base.layers + 1
    after = await seen_in_a_container(dockerd, engine, "after", image)
    assert differences(before, after) == []
    assert len(after[b"own/twin-3"].names) == 2
    assert "security.capability" in dict(after[b"own/able-2"].xattrs)
    await asyncio.to_thread(require_shared, dockerd, base.id, image)


async def test_a_full_temporary_folder_is_refused(engine: DockerEngine, small_disk: Path) -> None:
    base = await image_of(engine, IMAGE)
    big = ["sh", "-c", "head -c 3000000 /dev/zero > /big"]
    await revise(engine, IMAGE, "saved:1", big)
    before = await revise(engine, "saved:1", "saved:2", echo("two", "/b"))
    with pytest.raises(EngineRefused, match=str(small_disk)) as refused:
        await engine.squash_image("saved:2", base.id)
    assert refused.value.reason == "no_space"
    assert os.listdir(small_disk) == []
    assert await image_of(engine, "saved:2") == before


def import_odd_image(dockerd: PrivateDockerd) -> None:
    repository, _, tag = ODD_IMAGE.partition(":")
    with dockerd.client() as client:
        tree = base_tree(busybox_rootfs())
        changes = ["ENV PATH=/bin"]
        client.api.import_image_from_data(tree, repository=repository, tag=tag, changes=changes)


def merged(dockerd: PrivateDockerd, container: str) -> Path:
    """A running container's root, from the host's side."""
    with dockerd.client() as client:
        return Path(client.api.inspect_container(container)["GraphDriver"]["Data"]["MergedDir"])


async def seen_in_a_container(
    dockerd: PrivateDockerd, engine: DockerEngine, name: str, image: str
) -> dict[bytes, Node]:
    await engine.create_container(name, body(image=image))
    await engine.start_container(name)
    found = await asyncio.to_thread(lambda: scan(merged(dockerd, name)))
    del found[b""]  # made anew for each container: a commit does not take the root itself
    return found


def require_shared(dockerd: PrivateDockerd, base: str, image: str) -> None:
    """The base's layers are the image's, on the disk too."""
    with dockerd.client() as client:
        shared, seen = (client.api.inspect_image(name) for name in (base, image))
    layers = shared["RootFS"]["Layers"]
    assert seen["RootFS"]["Layers"][: len(layers)] == layers
    below = seen["GraphDriver"]["Data"]["LowerDir"].split(":")
    assert shared["GraphDriver"]["Data"]["UpperDir"] in below


def plant_committable(root: Path) -> None:
    """What `plant` does, without what a commit cannot take."""
    plant(root)
    for name in (".wh.file", ".wh..wh..opq"):
        (root / "odd" / "names" / name).unlink()  # Docker takes them for deletions
    for name in ("sparse", "hole"):
        (root / "odd" / name).unlink()  # expanded, they only take time


def first_change(root: Path) -> None:
    own = root / "own"
    (own / "emptied").mkdir(parents=True)
    (own / "emptied" / "file").write_text("to be deleted")
    for group in ("twin", "split", "able"):
        (own / f"{group}-1").write_text(group * 1000)
        os.chown(own / f"{group}-1", 11, 12)
        os.chmod(own / f"{group}-1", 0o4751)
        for number in (2, 3):
            os.link(own / f"{group}-1", own / f"{group}-{number}")
    os.setxattr(own / "able-1", "security.capability", CAPABILITY)
    os.mkfifo(own / "pipe-1")
    os.link(own / "pipe-1", own / "pipe-2")
    # Made anew, it hides what the base has in it; one name of the base comes back, for a while.
    shutil.rmtree(root / "base" / "opaque")
    (root / "base" / "opaque").mkdir()
    (root / "base" / "opaque" / "only").write_text("new")
    shutil.rmtree(root / "base" / "linked")
    (root / "base" / "linked").write_text("a file, then a directory again")
    os.unlink(os.fsencode(root) + b"/odd/names/invalid-\xff\xfe-utf8")
    (root / "odd" / "names" / "new\nline").unlink()


def second_change(root: Path) -> None:
    own = root / "own"
    for name in ("twin-1", "able-1", "pipe-1", "emptied/file"):
        (own / name).unlink()
    with (own / "split-2").open("a") as file:
        file.write("split off by the copy-up")
    (root / "base" / "opaque" / "only").unlink()
    (root / "base" / "linked").unlink()
    (root / "base" / "linked").mkdir()
    (root / "base" / "linked" / "f1").write_text("again")
    shutil.rmtree(root / "base" / "renamed-to")
    (root / "odd" / "setuid").chmod(0o4711)
    os.utime(root / "odd" / "nothing", (1, 1))


def third_change(root: Path) -> None:
    shutil.rmtree(root / "odd" / "names")
    (root / "odd" / "names").mkdir(mode=0o700)
    os.close(os.open(os.fsencode(root) + b"/odd/names/\xfe", os.O_CREAT))
    shutil.rmtree(root / "own" / "emptied")
    (root / "own" / "emptied").symlink_to("../odd")
    os.link(root / "own" / "split-3", root / "own" / "split-0")


def fourth_change(root: Path) -> None:
    os.rename(os.fsencode(root) + b"/odd/names/\xfe", os.fsencode(root) + b"/odd/names/\xfd")
    (root / "base" / "changed").unlink()
    os.chmod(root / "base", 0o711)
    deep = root / "own"
    for _ in range(10):
        deep = deep / ("d" * 100)
        deep.mkdir()
    (deep / "bottom").write_text("bottom")


CHANGES: tuple[Callable[[Path], None], ...] = (
    first_change,
    second_change,
    third_change,
    fourth_change,
)
