"""Volumes on project quotas.

The store runs on a ledger of limits in memory that enforces nothing; the kernel's own quotas are
asked where the running kernel has them, and must say why not where it has none.
"""

import errno
import os
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.adapters import quota_projects
from service.adapters.folder_mounts import mount_of
from service.adapters.folder_volumes import FolderVolumes, Usage
from service.adapters.quota_limits import PROJECT_FIRST, PROJECT_LAST, QuotaLimits
from service.adapters.quota_projects import ProjectQuota
from service.errors import VolumeBelowUsed, VolumeStoreError
from tests.kit.volume_rigs import MB, mounted, no_progress, run


@dataclass
class LimitsInMemory:
    """What was asked of the kernel, by project."""

    limits: dict[int, int] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    tagged: dict[Path, int] = field(default_factory=dict)

    def why_not(self, folder: Path) -> str:
        return ""

    def tag(self, folder: Path, project: int) -> None:
        self.tagged[folder] = project

    def set_limit(self, folder: Path, project: int, size_bytes: int) -> None:
        if size_bytes:
            self.limits[project] = size_bytes
        else:
            self.limits.pop(project, None)

    def usage(self, folder: Path, project: int) -> Usage:
        return Usage(self.used.get(project, 0), self.limits.get(project))


@pytest.fixture
def calls() -> LimitsInMemory:
    return LimitsInMemory()


@pytest.fixture
def store(calls: LimitsInMemory, tmp_path: Path, root: None) -> FolderVolumes:
    return FolderVolumes(tmp_path / "volumes", QuotaLimits(calls))


async def test_each_volume_has_a_project_of_its_own(
    store: FolderVolumes, calls: LimitsInMemory, tmp_path: Path
) -> None:
    works, detail = await store.probe()
    assert works
    assert detail == f"folders with project quotas under {tmp_path}/volumes, over-commit on"
    assert calls.limits == {}

    folder = tmp_path / "volumes"
    options = await store.create("v-1", 16 * MB)
    assert options == {"type": "none", "o": "bind", "device": f"{folder}/v-1/data"}
    await store.create("v-2", 32 * MB)
    assert await store.create("v-1", 16 * MB) == options
    assert calls.limits == {PROJECT_FIRST: 16 * MB, PROJECT_FIRST + 1: 32 * MB}
    assert [folder.name for folder in calls.tagged][-2:] == ["data", "data"]
    assert (folder / "v-2" / "project").read_text() == f"{PROJECT_FIRST + 1}\n"

    (folder / "v-1" / "data" / "file").write_text("gone with it")
    await store.remove("v-1")
    await store.remove("v-1")
    assert calls.limits == {PROJECT_FIRST + 1: 32 * MB}
    await store.create("v-3", 16 * MB)
    assert calls.limits == {PROJECT_FIRST: 16 * MB, PROJECT_FIRST + 1: 32 * MB}


async def test_a_project_that_somebody_else_uses_is_not_taken(
    store: FolderVolumes, calls: LimitsInMemory
) -> None:
    calls.limits[PROJECT_FIRST] = 1
    calls.used[PROJECT_FIRST + 1] = 1
    await store.create("v-1", 16 * MB)
    assert calls.limits[PROJECT_FIRST + 2] == 16 * MB
    calls.used = dict.fromkeys(range(PROJECT_FIRST, PROJECT_LAST + 1), 1)
    with pytest.raises(VolumeStoreError, match="are taken"):
        await store.create("v-2", 16 * MB)


async def test_limits_move_but_not_below_what_is_used(
    store: FolderVolumes, calls: LimitsInMemory
) -> None:
    await store.create("v-1", 64 * MB)
    calls.used[PROJECT_FIRST] = 40 * MB
    await store.resize("v-1", 48 * MB, no_progress)
    assert calls.limits == {PROJECT_FIRST: 48 * MB}
    with pytest.raises(VolumeBelowUsed, match=r"cannot shrink to 32MB: its data needs 40MB"):
        await store.resize("v-1", 32 * MB, no_progress)
    assert calls.limits == {PROJECT_FIRST: 48 * MB}


async def test_what_is_written_while_the_limit_moves_is_kept_below_it(
    tmp_path: Path, root: None
) -> None:
    class WrittenMeanwhile(LimitsInMemory):
        def set_limit(self, folder: Path, project: int, size_bytes: int) -> None:
            super().set_limit(folder, project, size_bytes)
            self.used[project] = 40 * MB

    calls = WrittenMeanwhile()
    store = FolderVolumes(tmp_path, QuotaLimits(calls))
    await store.create("v-1", 64 * MB)
    calls.used = {}
    with pytest.raises(VolumeBelowUsed):
        await store.resize("v-1", 32 * MB, no_progress)
    assert calls.limits == {PROJECT_FIRST: 64 * MB}


async def test_what_was_half_made_or_half_removed_is_finished(
    store: FolderVolumes, calls: LimitsInMemory, tmp_path: Path
) -> None:
    folder = tmp_path / "volumes"
    for name in ("v-1", "v-2", "v-3"):
        await store.create(name, 16 * MB)
    (folder / "v-2").rename(folder / ".v-2.gone")
    (folder / "v-3").rename(folder / ".v-3.part")
    (folder / "lost+found").mkdir()
    await store.create("v-3", 32 * MB)
    await store.attach_all()
    assert {f.name for f in folder.iterdir()} == {"v-1", "v-3", "lost+found"}
    assert sorted(calls.limits.values()) == [16 * MB, 32 * MB]
    calls.limits.clear()
    with pytest.raises(VolumeStoreError, match=r"v-1: its quota is gone.*v-3: its quota is gone"):
        await store.attach_all()


async def test_a_spoiled_number_is_named_and_no_other_project_is_touched(
    store: FolderVolumes, calls: LimitsInMemory, tmp_path: Path
) -> None:
    await store.create("v-1", 16 * MB)
    (tmp_path / "volumes" / "v-1" / "project").write_text("12\n")
    for refused in (store.resize("v-1", 32 * MB, no_progress), store.remove("v-1")):
        with pytest.raises(VolumeStoreError, match="no project number of ours: '12'"):
            await refused
    assert calls.limits == {PROJECT_FIRST: 16 * MB}


@pytest.fixture
async def xfs(tmp_path: Path) -> AsyncIterator[Path]:
    """Mounted without project quotas."""
    async with mounted(tmp_path / "xfs", "xfs"):
        yield tmp_path / "xfs"


async def test_without_quotas_the_probe_says_why(xfs: Path, tmp_path: Path) -> None:
    works, why_not = await FolderVolumes(xfs, QuotaLimits(ProjectQuota())).probe()
    assert not works
    assert f"{xfs} is not mounted with prjquota" in why_not or "no quotas for xfs" in why_not
    on_tmpfs = Path("/dev/shm")
    if mount_of(on_tmpfs).kind not in quota_projects.KINDS:
        assert "project quotas need xfs or ext4" in ProjectQuota().why_not(on_tmpfs)
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as refused:
        ProjectQuota().set_limit(xfs, PROJECT_FIRST, 16 * MB)
    assert refused.value.errno in (errno.ENOSYS, errno.ESRCH, errno.EINVAL)


async def test_a_tagged_folder_hands_its_project_on(xfs: Path) -> None:
    """Numbers of projects are kept with quotas or without."""
    (xfs / "data").mkdir()
    ProjectQuota().tag(xfs / "data", PROJECT_FIRST + 7)
    (xfs / "data" / "inner").mkdir()
    (xfs / "data" / "inner" / "file").touch()
    for path in ("data", "data/inner", "data/inner/file"):
        shown = await run("xfs_io", "-r", "-c", "lsproj", str(xfs / path))
        assert shown == f"projid = {PROJECT_FIRST + 7}\n"
    assert (await run("xfs_io", "-r", "-c", "lsproj", str(xfs))) == "projid = 0\n"


def test_the_kernels_structures_have_its_sizes() -> None:
    assert struct.calcsize(quota_projects._DISK_QUOTA.format) == 112
    assert struct.calcsize(quota_projects._FSXATTR.format) == 28
    assert os.path.exists("/proc/self/mountinfo")
