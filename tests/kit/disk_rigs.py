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
from service.adapters.upper_store import STORE_FOLDER
from service.ports import ContainerEngine, ExecOutcome, PullProgress, SystemDisks
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import FILE_OF_IMAGE, IMAGE, OTHER_OWNER, OWNER, body, clear
from tests.kit.memory_disks import MemoryDisks
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_world import World

OTHER_IMAGE = "other:1"


@dataclass
class DiskRig:
    """`disks` is under test; `other` belongs to another installation on the same engine."""

    engine: ContainerEngine
    disks: SystemDisks
    other: SystemDisks
    add_image: Callable[[], Any]
    """Make OTHER_IMAGE, of other files; blocks."""

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


def no_progress(_: PullProgress) -> None:
    """For a fill whose progress nobody watches."""


def memory_disk_rig() -> DiskRig:
    """Nothing real at all."""
    world = World(images=[IMAGE])
    world.images[IMAGE].files[FILE_OF_IMAGE] = b"root:x:0:\n"
    return DiskRig(
        engine=SimulatedEngine(world, owner=OWNER),
        disks=MemoryDisks(world, owner=OWNER),
        other=MemoryDisks(world, owner=OTHER_OWNER),
        add_image=lambda: world.add_image(OTHER_IMAGE),
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
    )


def clear_disks(dockerd: PrivateDockerd) -> None:
    """Remove every container, every kept disk and every image but busybox's own; blocks."""
    clear(dockerd)
    discard(dockerd.data_root / STORE_FOLDER)


def stand_in_cp(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Another `cp`, in place of this machine's."""
    path = folder / "cp"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
