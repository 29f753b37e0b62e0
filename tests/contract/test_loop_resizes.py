"""Changes of size on loop devices that are cut short, watched, or made under a writer."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from events.labels import LABEL_OWNER
from service.adapters.docker_engine import DockerEngine
from service.adapters.loop_devices import stays_in_use
from service.adapters.loop_ext4 import EXT4
from service.adapters.loop_tools import find_tool
from service.adapters.loop_volumes import LoopVolumes
from service.errors import VolumeStoreError
from service.ports import Progress
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import OWNER, body, clear
from tests.kit.fifo import Signal
from tests.kit.volume_rigs import MB, LoopRig, loop_rig_in, no_progress, run

Filled = tuple[Path, dict[str, bytes]]
"""An image, and the files in it."""

OLD_SIZE, NEW_SIZE = 1024 * MB, 128 * MB
KILLED = 137

RESIZE2FS_THAT_IS_KILLED = """#!{python}
import os, socket, subprocess, sys
if "-z" not in sys.argv:
    os.execv("{real}", ["{real}", *sys.argv[1:]])
ours, its = socket.socketpair()
its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
resize = subprocess.Popen(["{real}", *sys.argv[1:]], stdout=its)
its.close()
bar = b""
while byte := ours.recv(1):
    bar += byte
    if bar.rpartition(b"Begin pass 4")[2].count(b"X") == 20 and b"Begin pass 4" in bar:
        resize.kill()
sys.exit({killed} if resize.wait() < 0 else 0)
"""
"""Half way through giving directories the new numbers of inodes that moved.

It cannot run ahead: its socket holds a few of the bar's letters, and then it has to wait.
"""


@pytest.fixture
async def loop_rig(tmp_path: Path) -> AsyncIterator[LoopRig]:
    async with loop_rig_in(tmp_path / "volumes") as rig:
        yield rig


@pytest.fixture
async def xfs_rig(tmp_path: Path) -> AsyncIterator[LoopRig]:
    async with loop_rig_in(tmp_path / "volumes", "xfs") as rig:
        yield rig


def killed_resize2fs(folder: Path) -> Path:
    """A stand-in for resize2fs."""
    path = folder / "resize2fs"
    real = find_tool("resize2fs")
    path.write_text(
        RESIZE2FS_THAT_IS_KILLED.format(python=sys.executable, real=real, killed=KILLED)
    )
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, root: None) -> Filled:
    """Folders whose inodes are all beyond what the new size has, and some data."""
    folder = tmp_path_factory.mktemp("filled")
    image, top = folder / "image", folder / "top"
    with image.open("wb") as file:
        file.truncate(OLD_SIZE)
    top.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, top], check=True)
    try:
        for number in range(9000):
            (top / f"d{number}").mkdir()
        for number in range(8500):
            (top / f"d{number}").rmdir()
        for number in range(8500, 9000):
            (top / f"d{number}" / "file").write_bytes(os.urandom(5000))
        return image, contents(top)
    finally:
        subprocess.run(["umount", top], check=True)


async def plant(rig: LoopRig, filled: Filled) -> dict[str, bytes]:
    """Make the filled image the volume v-1; what is in it."""
    await asyncio.to_thread(rig.folder.mkdir, exist_ok=True)
    await run("cp", "--sparse=always", str(filled[0]), str(rig.folder / "v-1.img"))
    await rig.store.attach_all()
    return filled[1]


def contents(top: Path) -> dict[str, bytes]:
    files = sorted(path for path in top.rglob("*") if path.is_file())
    return {str(path.relative_to(top)): path.read_bytes() for path in files}


async def seen(rig: LoopRig) -> dict[str, bytes]:
    await rig.mount("v-1")
    try:
        return await asyncio.to_thread(contents, rig.point("v-1"))
    finally:
        await rig.unmount("v-1")


async def test_a_shrink_whose_tool_is_killed_is_taken_back(
    loop_rig: LoopRig, filled: Filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = await plant(loop_rig, filled)
    killed_resize2fs(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        with pytest.raises(VolumeStoreError, match=f"resize2fs ended with {KILLED}"):
            await loop_rig.store.resize("v-1", NEW_SIZE, no_progress)
    assert await loop_rig.size_bytes("v-1") == OLD_SIZE
    assert {f.suffix for f in loop_rig.folder.iterdir()} == {".img", ".dev"}
    assert await seen(loop_rig) == content
    await loop_rig.store.resize("v-1", NEW_SIZE, no_progress)
    assert await loop_rig.size_bytes("v-1") == NEW_SIZE
    assert await seen(loop_rig) == content


@pytest.mark.parametrize("by", ["resize", "attach_all"])
async def test_a_shrink_that_died_with_its_service_is_taken_back(
    loop_rig: LoopRig, filled: Filled, tmp_path: Path, by: str
) -> None:
    content = await plant(loop_rig, filled)
    await shrink_by_hand(loop_rig, killed_resize2fs(tmp_path), KILLED)
    store = LoopVolumes(loop_rig.folder)
    if by == "attach_all":
        await store.attach_all()
        assert await seen(loop_rig) == content
    await store.resize("v-1", NEW_SIZE, no_progress)
    assert await loop_rig.size_bytes("v-1") == NEW_SIZE
    assert await seen(loop_rig) == content


async def test_a_shrink_that_died_after_its_tool_is_made_again(
    loop_rig: LoopRig, filled: Filled
) -> None:
    content = await plant(loop_rig, filled)
    await shrink_by_hand(loop_rig, Path(find_tool("resize2fs") or ""), 0)
    await LoopVolumes(loop_rig.folder).resize("v-1", NEW_SIZE, no_progress)
    assert await loop_rig.size_bytes("v-1") == NEW_SIZE
    assert await seen(loop_rig) == content


async def test_what_was_written_after_a_shrink_is_not_undone(
    loop_rig: LoopRig, filled: Filled
) -> None:
    content = await plant(loop_rig, filled)
    await shrink_by_hand(loop_rig, Path(find_tool("resize2fs") or ""), 0)
    await loop_rig.mount("v-1")
    await loop_rig.write("v-1", b"newer")
    # While it is in use nothing can be told, and nothing is done.
    with pytest.raises(VolumeStoreError, match="interrupted"):
        await loop_rig.store.resize("v-1", NEW_SIZE, no_progress)
    await loop_rig.unmount("v-1")
    await loop_rig.store.attach_all()
    assert not (loop_rig.folder / "v-1.img.undo").exists()
    assert await seen(loop_rig) == content | {"file": b"newer"}


async def shrink_by_hand(rig: LoopRig, resize2fs: Path, expected: int) -> None:
    """As the service does, up to the end of the tool and no further."""
    device = os.readlink(rig.folder / "v-1.dev")
    assert not await stays_in_use(device)
    await run("e2fsck", "-fp", device)
    undo = str(rig.folder / "v-1.img.undo")
    command = (str(resize2fs), "-p", "-z", undo, device, f"{NEW_SIZE // MB}M")
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True)
    assert done.returncode == expected


async def test_a_shrink_tells_how_far_it_is(loop_rig: LoopRig) -> None:
    await loop_rig.store.create("v-1", OLD_SIZE)
    await loop_rig.mount("v-1")
    await loop_rig.allocate("v-1", 60 * MB)
    await run("fallocate", "-l", "60M", str(loop_rig.point("v-1") / "kept"))
    await asyncio.to_thread(loop_rig.file("v-1").unlink)
    await loop_rig.unmount("v-1")
    told: list[Progress] = []
    await loop_rig.store.resize("v-1", NEW_SIZE, told.append)
    done = [progress.done_bytes * 100 / OLD_SIZE for progress in told]
    assert done == sorted(set(done))
    assert done[-1] == 100
    # Of the check, of the moving of blocks, and of the rest.
    assert len([percent for percent in done if percent <= 20]) >= 5
    assert len([percent for percent in done if 20 < percent < 100]) >= 5


async def test_a_volume_stays_what_it_was_made_as(loop_rig: LoopRig) -> None:
    ext4, xfs = loop_rig.store, LoopVolumes(loop_rig.folder, "xfs")
    was = await ext4.create("v-1", 32 * MB)
    assert await xfs.create("v-1", 32 * MB) == was
    assert was["type"] == "ext4"
    await xfs.resize("v-1", 16 * MB, no_progress)
    other = await xfs.create("v-2", 320 * MB)
    assert other["type"] == "xfs"
    assert await ext4.create("v-2", 320 * MB) == other
    await ext4.resize("v-2", 640 * MB, no_progress)


async def test_an_xfs_that_grew_only_in_its_file_can_go_back(xfs_rig: LoopRig) -> None:
    options = await xfs_rig.store.create("v-1", 320 * MB)
    os.truncate(xfs_rig.folder / "v-1.img", 640 * MB)
    await xfs_rig.store.resize("v-1", 320 * MB, no_progress)
    assert await xfs_rig.size_bytes("v-1") == 320 * MB
    os.truncate(xfs_rig.folder / "v-1.img", 640 * MB)
    await xfs_rig.store.resize("v-1", 640 * MB, no_progress)
    sectors = await run("blockdev", "--getsz", options["device"])
    assert int(sectors) * 512 == 640 * MB


WRITER = """
mount -t xfs "$1" "$2"
i=0
while [ ! -e "$3/stop" ]; do
    i=$((i+1)); echo $i >> "$2/log"
    [ $i = 10 ] && echo > "$3/began"
done
stat -f -c '%b %S' "$2"
cat "$2/log"
umount "$2"
"""


async def test_an_xfs_grows_under_a_writer_whose_mount_we_do_not_see(
    xfs_rig: LoopRig, tmp_path: Path
) -> None:
    options = await xfs_rig.store.create("v-1", 320 * MB)
    point = xfs_rig.point("v-1")
    point.mkdir()
    began = Signal(tmp_path / "began")
    arguments = (options["device"], str(point), str(tmp_path))
    writer = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "sh", "-e", "-c", WRITER, "sh", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await began.wait()
        for size in (640 * MB, 1280 * MB, 50 << 30):
            await xfs_rig.store.resize("v-1", size, no_progress)
        assert str(point) not in await run("cat", "/proc/self/mountinfo")
    finally:
        began.close()
        (tmp_path / "stop").touch()
        written, _ = await writer.communicate()
    assert writer.returncode == 0
    room, *lines = written.decode().splitlines()
    blocks, block_bytes = map(int, room.split())
    assert 49 << 30 < blocks * block_bytes < 50 << 30  # less its log
    assert [int(line) for line in lines] == list(range(1, len(lines) + 1))


async def test_a_container_gets_more_room_while_it_runs(
    xfs_rig: LoopRig, dockerd: PrivateDockerd
) -> None:
    engine = DockerEngine(dockerd.url, owner=OWNER)
    options = await xfs_rig.store.create("v-1", 320 * MB)
    await engine.create_volume("v-1", options, {LABEL_OWNER: OWNER})
    mount = {"Type": "volume", "Source": "v-1", "Target": "/data"}
    await engine.create_container("c-1", body(Mounts=[mount]))
    try:
        await engine.start_container("c-1")
        cmd = ["fallocate", "-l", str(400 * MB), "/data/file"]
        full = await engine.execute("c-1", cmd, "", 1000)
        assert full.exit_code == 1
        assert b"No space left on device" in full.stderr
        await xfs_rig.store.resize("v-1", 640 * MB, no_progress)
        assert (await engine.execute("c-1", cmd, "", 1000)).exit_code == 0
    finally:
        await asyncio.to_thread(clear, dockerd)
        await engine.close()


async def test_a_failed_grow_leaves_the_file_system_as_it_was(
    loop_rig: LoopRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = await loop_rig.store.create("v-1", 32 * MB)
    path = tmp_path / "resize2fs"
    path.write_text("#!/bin/sh\necho out of luck; exit 1\n")
    path.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        with pytest.raises(VolumeStoreError, match="resize2fs ended with 1: out of luck"):
            await loop_rig.store.resize("v-1", 64 * MB, no_progress)
    assert (await EXT4.measure(options["device"])).size_bytes == 32 * MB
    await loop_rig.store.resize("v-1", 64 * MB, no_progress)
    assert (await EXT4.measure(options["device"])).size_bytes == 64 * MB
