"""Whether upper directories can be carried is tried out: what is found, and what rules it out."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.adapters.upper_disks import UpperDisks
from service.adapters.upper_layers import can_read_mounts, engine_pid, follows_mounts
from service.adapters.upper_probe import probe
from service.adapters.upper_store import STORE_FOLDER
from tests.kit.disk_rigs import stand_in_cp
from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import OWNER
from tests.kit.volume_rigs import run


@pytest.fixture
async def disks(dockerd: PrivateDockerd) -> AsyncIterator[UpperDisks]:
    made = UpperDisks(dockerd.url, owner=OWNER)
    yield made
    await made.close()


async def test_the_probe_leaves_nothing_behind(disks: UpperDisks, dockerd: PrivateDockerd) -> None:
    await disks.probe()
    assert os.listdir(dockerd.data_root / STORE_FOLDER / OWNER) == []
    with dockerd.client() as client:
        assert client.volumes.list() == []


async def test_the_probe_finds_a_cp_that_loses_things(
    disks: UpperDisks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.which("cp")
    stand_in_cp(tmp_path, monkeypatch, f'shift $(($# - 2)); exec {real} -dR "$@"')
    found = await disks.probe()
    assert not found.works
    assert "GNU coreutils" in found.detail
    assert "plain" in found.detail


async def test_the_engines_mounts_are_seen(dockerd: PrivateDockerd) -> None:
    """By the process behind its socket, or because mounts are propagated to us."""
    pid = engine_pid(dockerd.url.removeprefix("unix://"))
    assert pid == dockerd.pid
    assert can_read_mounts(pid)
    assert not can_read_mounts(0)
    assert not follows_mounts(dockerd.data_root)
    ask = (
        "import pathlib, sys; from service.adapters.upper_layers import follows_mounts;"
        " print(follows_mounts(pathlib.Path(sys.argv[1])))"
    )
    for propagation, follows in (("slave", "True"), ("private", "False")):
        said = await run(
            *("unshare", "--mount", "--propagation", propagation),
            *(sys.executable, "-c", ask, str(dockerd.data_root / "overlay2")),
        )
        assert said.strip() == follows


def test_the_probe_needs_a_local_engine(dockerd: PrivateDockerd) -> None:
    with dockerd.client() as client:
        found = probe(client.api, None, OWNER)
    assert (found.works, found.reflink) == (False, False)
    assert "unix socket" in found.detail


@pytest.mark.usefixtures("root")
async def test_the_probe_needs_overlay2() -> None:
    engine = PrivateDockerd(storage_driver="vfs")
    await asyncio.to_thread(engine.start)
    disks = UpperDisks(engine.url, owner=OWNER)
    try:
        found = await disks.probe()
    finally:
        await disks.close()
        await asyncio.to_thread(engine.stop)
    assert not found.works
    assert "storage driver is vfs" in found.detail
