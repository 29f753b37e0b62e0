"""How kept images differ, and containers from them, on a real Docker."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from msgspec.structs import replace

from service.adapters.docker_engine import DockerEngine
from service.adapters.docker_image_changes import ImageDiffs
from service.disk_ports import DiskRef, FileChange, FileChanges
from service.errors import EngineUnavailable, SystemDiskError
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import IMAGE, OTHER_OWNER, OWNER, body, clear

OUTPUT_MAX = 1 << 20
LISTED_MAX = 1000

FIRST = """
mkdir -p /d/deep /gone/sub /made-anew /to-file; echo 1 > /d/same; echo 1 > /d/content
echo 1 > /d/mode; echo 1 > /d/owner; echo 1 > /d/time; ln -s one /d/target; echo 1 > /d/deep/file
echo 1 > /gone/sub/file; echo 1 > /made-anew/old; echo 1 > /to-file/inside; echo 1 > /to-dir
echo 12345 > /d/linked; ln /d/linked /d/name; echo 1 > "/d/a
b"
find /d /gone /made-anew /to-file /to-dir -exec touch -h -d 2002-02-02 {} +
"""
"""Long ago, as Docker does not see a file that was changed in the second it was made in."""

SECOND = """
echo 222 > /d/content; chmod 4711 /d/mode; chown 5:6 /d/owner; touch -d 2001-01-01 /d/time
ln -sf two /d/target; rm /d/deep/file; touch /d/deep/temporary; rm /d/deep/temporary
rm -r /gone; rm -r /made-anew; mkdir /made-anew; echo 1 > /made-anew/new
rm -r /to-file; echo file > /to-file; rm /to-dir; mkdir /to-dir; echo 1 > /to-dir/inside
ln -f /d/linked /d/name; mkdir /new; mkdir /new/empty; echo 4444 > /new/file
rm "/d/a
b"; cd /d; touch "$(printf 'odd\\377')"; rm /etc/group; chmod 700 /d
"""
BETWEEN = (
    FileChange("/d/a\nb", "deleted"),
    FileChange("/d/content", "changed", 4),
    FileChange("/d/deep/file", "deleted"),
    FileChange("/d/mode", "changed", 2),
    FileChange("/d/odd\\xff", "added"),
    FileChange("/d/owner", "changed", 2),
    FileChange("/d/target", "changed"),
    FileChange("/d/time", "changed", 2),
    FileChange("/etc/group", "deleted"),
    FileChange("/gone", "deleted"),
    FileChange("/made-anew/new", "added", 2),
    FileChange("/made-anew/old", "deleted"),
    FileChange("/new", "added"),
    FileChange("/new/empty", "added"),
    FileChange("/new/file", "added", 5),
    FileChange("/to-dir", "changed"),
    FileChange("/to-dir/inside", "added", 2),
    FileChange("/to-file", "changed", 5),
)


class Rig:
    """Two system disks, one made of the other: images `kept:1` and `kept:2`."""

    def __init__(self, dockerd: PrivateDockerd) -> None:
        self.engine = DockerEngine(dockerd.url, owner=OWNER)
        self.diffs = ImageDiffs(dockerd.url, owner=OWNER)

    async def run(self, name: str, image: str, script: str = "true") -> None:
        """A running container on an image that has done this."""
        await self.engine.create_container(name, body(image=image))
        await self.engine.start_container(name)
        cmd = ["sh", "-ec", script]
        outcome = await self.engine.execute(name, cmd, "", OUTPUT_MAX)
        assert (outcome.exit_code, outcome.stderr) == (0, b"")

    async def keep(self, name: str, image: str) -> None:
        await self.engine.commit_container(name, image, {}, pause=False)

    async def between(self, old: DiskRef, new: DiskRef) -> FileChanges:
        return await self.diffs.changes(old, new, LISTED_MAX)


@pytest.fixture
async def rig(dockerd: PrivateDockerd) -> AsyncIterator[Rig]:
    made = Rig(dockerd)
    try:
        await made.run("c-1", IMAGE, FIRST)
        await made.keep("c-1", "kept:1")
        await made.run("c-2", "kept:1", SECOND)
        await made.keep("c-2", "kept:2")
        yield made
    finally:
        await made.diffs.close()
        await made.engine.close()
        await asyncio.to_thread(clear, dockerd)


def image(name: str) -> DiskRef:
    return DiskRef("image", name)


def container(name: str) -> DiskRef:
    return DiskRef("container", name)


def _told(changes: Sequence[FileChange]) -> list[FileChange]:
    """What Docker tells of a container's own changes: no sizes, and no bytes that are no text.

    With some storage drivers only, it tells what a directory held that was made anew, and that
    one was a file before.
    """
    untold = ("/made-anew/old", "/to-dir")
    told = (c for c in changes if c.path not in untold and not c.path.startswith("/d/odd"))
    return [replace(change, size_bytes=0) for change in told]


async def test_two_kept_images(rig: Rig) -> None:
    found = await rig.between(image("kept:1"), image("kept:2"))
    assert list(found.files) == list(BETWEEN)
    assert (found.added, found.changed, found.deleted) == (6, 7, 5)
    back = await rig.between(image("kept:2"), image("kept:1"))
    assert (back.added, back.deleted) == (8, 3)  # /gone with all that is in it; /new as one
    assert FileChange("/gone/sub/file", "added", 2) in back.files
    assert FileChange("/new", "deleted") in back.files
    assert await rig.between(image("kept:2"), image("kept:2")) == FileChanges((), 0, 0, 0)


async def test_only_the_first_are_listed_and_all_are_counted(rig: Rig) -> None:
    found = await rig.diffs.changes(image("kept:1"), image("kept:2"), 3)
    assert list(found.files) == list(BETWEEN[:3])
    assert (found.added, found.changed, found.deleted) == (6, 7, 5)


async def test_a_container_and_the_image_it_is_from(rig: Rig) -> None:
    found = await rig.between(image("kept:1"), container("c-2"))
    assert _told(found.files) == _told(BETWEEN)
    await rig.engine.stop_container("c-2", 5)
    assert await rig.between(image("kept:1"), container("c-2")) == found
    await rig.run("c-3", "kept:1")
    assert await rig.between(container("c-3"), container("c-2")) == found


async def test_a_container_and_an_image_before_its_own(rig: Rig) -> None:
    await rig.run("c-3", "kept:2", "echo much more > /new/file; rm -r /d; rm /to-file")
    await rig.run("c-4", "kept:2", "rm /to-file; mkdir /to-file; echo 1 > /to-file/other")
    found = await rig.between(image("kept:1"), container("c-3"))
    rest = [c for c in BETWEEN if not c.path.startswith(("/d/", "/to-file"))]
    by_path = {change.path: change for change in rest}
    by_path["/d"] = FileChange("/d", "deleted")
    by_path["/to-file"] = FileChange("/to-file", "deleted")
    by_path["/new/file"] = FileChange("/new/file", "added")  # its size is not asked for
    assert list(found.files) == [by_path[path] for path in sorted(by_path)]

    found = await rig.between(image("kept:1"), container("c-4"))
    rest = [change for change in BETWEEN if change.path != "/to-file"]
    inside = FileChange("/to-file/inside", "deleted")
    assert list(found.files) == [*rest, inside, FileChange("/to-file/other", "added")]


async def test_another_branch_from_the_same_image(rig: Rig) -> None:
    await rig.run("c-3", "kept:1", "echo other > /d/other; echo 3 > /etc/passwd")
    await rig.keep("c-3", "kept:3")
    found = await rig.between(image("kept:3"), image("kept:2"))
    expected = {change.path: change for change in BETWEEN}
    expected["/d/other"] = FileChange("/d/other", "deleted")
    assert {change.path for change in found.files} - expected.keys() == {"/etc/passwd"}
    passwd = next(change for change in found.files if change.path == "/etc/passwd")
    assert passwd.kind == "changed"
    assert passwd.size_bytes > 2


async def test_what_is_not_there_is_said_in_plain_words(rig: Rig, dockerd: PrivateDockerd) -> None:
    other = DockerEngine(dockerd.url, owner=OTHER_OWNER)
    await other.create_container("d-1", body(owner=OTHER_OWNER))
    await other.close()
    for missing, words in (
        (image("absent:1"), "there is no image absent:1"),
        (container("absent"), "there is no container absent"),
        (container("d-1"), "does not belong to this installation"),
        (DiskRef("directory", "kept"), "is a directory"),
    ):
        with pytest.raises(SystemDiskError, match=words):
            await rig.between(image("kept:1"), missing)


async def test_no_answer_is_not_no_difference(dockerd: PrivateDockerd) -> None:
    diffs = ImageDiffs(f"unix://{dockerd.folder}/absent.sock", owner=OWNER)
    with pytest.raises(EngineUnavailable):
        await diffs.changes(image(IMAGE), image(IMAGE), 1)
    await diffs.close()
