"""The system disk contract's set-up: containers whose disks are carried, real and simulated."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.adapters.docker_engine import DockerEngine
from service.adapters.upper_clone import discard
from service.adapters.upper_disks import UpperDisks
from service.adapters.upper_layers import Layer, layer_of
from service.adapters.upper_store import STORE_FOLDER
from service.disk_ports import SystemDisks
from service.ports import ContainerEngine, ExecOutcome, Progress
from tests.kit.data_roots import SIZE_BYTES
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import FILE_OF_IMAGE, IMAGE, OTHER_OWNER, OWNER, body, clear
from tests.kit.memory_disks import MemoryDisks
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_world import World

OTHER_IMAGE = "other:1"
FILLER = "filler"


@dataclass
class DiskRig:
    """`disks` is under test; `other` belongs to another installation on the same engine."""

    engine: ContainerEngine
    disks: SystemDisks
    other: SystemDisks
    add_image: Callable[[], Any]
    """Make OTHER_IMAGE, of other files; blocks."""
    leave_free: Callable[[int], Any]
    """Have so many bytes free on the engine's disk, which must be one of its own; blocks."""

    async def make(self, name: str, image: str = IMAGE) -> None:
        """A container that was never started."""
        await self.engine.create_container(name, body(effect=f"make-{name}", image=image))

    async def run(self, name: str, *changes: str) -> None:
        """A container that runs and has changed its disk by these shell commands."""
        await self.make(name)
        await self.engine.start_container(name)
        for change in changes:
            assert (await self.shell(name, change)).exit_code == 0

    async def run_and_stop(self, name: str, *changes: str) -> None:
        await self.run(name, *changes)
        await self.engine.stop_container(name, 5)

    async def shell(self, name: str, text: str) -> ExecOutcome:
        """One command: by a shell when it writes a file, by itself otherwise."""
        cmd = ("sh", "-c", text) if ">" in text else tuple(text.split())
        return await self.engine.execute(name, cmd, "", 1 << 16)

    async def read(self, name: str, path: str) -> bytes | None:
        """A file's content in a running container; None when there is none."""
        outcome = await self.shell(name, f"cat {path}")
        return outcome.stdout if outcome.exit_code == 0 else None

    async def close(self) -> None:
        for part in (self.engine, self.disks, self.other):
            await part.close()  # type: ignore[union-attr]


def no_progress(_: Progress) -> None:
    """For a fill whose progress nobody watches."""


async def carry(rig: DiskRig, old: str, new: str) -> None:
    """What follows a precopy."""
    await rig.engine.stop_container(old, 5)
    await rig.disks.keep(old, f"{old}-kept")
    await rig.disks.fill(new, f"{old}-kept", no_progress)


async def two_kept(rig: DiskRig) -> None:
    """Two kept disks, "one" and "two", with /root/f in common."""
    await rig.run_and_stop("c-1", "echo mine > /root/f", f"rm {FILE_OF_IMAGE}")
    await rig.disks.keep("c-1", "one")
    await rig.make("c-2")
    await rig.disks.fill("c-2", "one", no_progress)
    await rig.engine.start_container("c-2")
    assert (await rig.shell("c-2", "echo new > /root/n")).exit_code == 0
    await rig.engine.stop_container("c-2", 5)
    await rig.disks.keep("c-2", "two")


def memory_disk_rig(*, reflink: bool = True) -> DiskRig:
    """Nothing real at all."""
    world = World(images=[IMAGE])
    world.images[IMAGE].files[FILE_OF_IMAGE] = b"root:x:0:\n"
    disks = MemoryDisks(world, owner=OWNER)
    disks.reflink = reflink

    def leave_free(size_bytes: int) -> None:
        disks.free = size_bytes

    return DiskRig(
        engine=SimulatedEngine(world, owner=OWNER),
        disks=disks,
        other=MemoryDisks(world, owner=OTHER_OWNER),
        add_image=lambda: world.add_image(OTHER_IMAGE),
        leave_free=leave_free,
    )


def upper_disk_rig(dockerd: PrivateDockerd) -> DiskRig:
    """On a private Docker."""

    def add_image() -> None:
        with dockerd.client() as client:
            made = client.containers.create(IMAGE)
            made.commit(*OTHER_IMAGE.split(":"), changes=["ENV OTHER=1"])
            made.remove()

    return DiskRig(
        engine=DockerEngine(dockerd.url, owner=OWNER),
        disks=UpperDisks(dockerd.url, owner=OWNER),
        other=UpperDisks(dockerd.url, owner=OTHER_OWNER),
        add_image=add_image,
        leave_free=lambda size_bytes: leave_free(dockerd.data_root, size_bytes),
    )


def leave_free(folder: Path, size_bytes: int) -> None:
    """With a file that takes the room; the file system must be one of the kit's own."""
    filler = folder / FILLER
    filler.unlink(missing_ok=True)
    disk = os.statvfs(folder)
    assert disk.f_blocks * disk.f_frsize <= SIZE_BYTES, "this is not a disk to be filled"
    taken = disk.f_bavail * disk.f_frsize - size_bytes
    if taken > 0:
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, taken)


def layer(dockerd: PrivateDockerd, container: str) -> Layer:
    """Of a container of ours; blocks."""
    with dockerd.client() as client:
        return layer_of(client.api.inspect_container(container), OWNER)


def clear_disks(dockerd: PrivateDockerd) -> None:
    """Remove every container, every kept disk and every image but busybox's own; blocks."""
    clear(dockerd)
    discard(dockerd.data_root / STORE_FOLDER)
    (dockerd.data_root / FILLER).unlink(missing_ok=True)


def stand_in_cp(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Another `cp`, in place of this machine's."""
    path = folder / "cp"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
