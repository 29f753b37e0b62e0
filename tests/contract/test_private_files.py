"""What others on the host can read where the data directory was not made by the service."""

import os
from pathlib import Path

import pytest

from projections.store import ReadStore
from service.adapters.btrfs_limits import BtrfsLimits
from service.adapters.folder_volumes import FolderVolumes
from service.adapters.loop_volumes import LoopVolumes


def open_to_others(folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.lstat().st_mode & 0o077]
    return sorted(str(path.relative_to(folder)) for path in found)


@pytest.mark.parametrize("there", [(), ("read.db",), ("read.db", "read.db-wal", "read.db-shm")])
async def test_the_rows_are_their_owner_s_only(tmp_path: Path, there: tuple[str, ...]) -> None:
    """Also those of a service of before: environments are in them."""
    for name in there:
        (tmp_path / name).touch(mode=0o644)
    async with ReadStore(tmp_path / "read.db") as store:
        assert await store.position() == 0
        assert {"read.db", "read.db-wal"} <= {*os.listdir(tmp_path)}
        assert open_to_others(tmp_path) == []
        async with store.fast_rebuild():
            pass
        assert open_to_others(tmp_path) == []


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("kind", ["loop", "folder"])
async def test_users_data_are_not_for_other_users(tmp_path: Path, kind: str, there: bool) -> None:
    folder = tmp_path / "data" / "volumes"
    if there:
        folder.mkdir(mode=0o755, parents=True)
    store = LoopVolumes(folder) if kind == "loop" else FolderVolumes(folder, BtrfsLimits())
    await store.probe()  # before anything is made
    assert folder.stat().st_mode & 0o777 == 0o700
