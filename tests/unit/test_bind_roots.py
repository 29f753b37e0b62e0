"""Which directories of the host containers may mount: where they really are, symlinks followed."""

from pathlib import Path

import pytest

from service.adapters.bind_roots import BindRoots


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "inside").mkdir(parents=True)
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root" / "out").symlink_to("/etc")
    (tmp_path / "root" / "in").symlink_to(tmp_path / "root" / "inside")
    (tmp_path / "to-inside").symlink_to(tmp_path / "root" / "inside")
    return tmp_path / "root"


@pytest.mark.parametrize("path", ["inside", "in", "../to-inside", "not-there-yet", "."])
async def test_what_is_below_a_root_may_be_mounted(root: Path, path: str) -> None:
    assert await BindRoots((Path("/nowhere"), root)).refusal(f"{root}/{path}", shared=False) is None


@pytest.mark.parametrize("path", ["out", "out/passwd", "..", "../root-beside"])
async def test_what_is_elsewhere_may_not(root: Path, path: str) -> None:
    why = await BindRoots((root,)).refusal(f"{root}/{path}", shared=False)
    assert why is not None
    assert "may not be mounted" in why
    assert str(root) in why


async def test_a_root_may_be_a_link_itself(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert await BindRoots((link,)).refusal(f"{root}/inside", shared=False) is None


async def test_without_roots_nothing_may() -> None:
    why = await BindRoots(()).refusal("/srv", shared=False)
    assert why is not None
    assert "none are (--bind-root)" in why


async def test_a_file_storage_is_inside_a_mount_and_not_the_mount_point() -> None:
    anywhere = BindRoots((Path("/"),))
    why = await anywhere.refusal("/proc", shared=True)
    assert why is not None
    assert "/proc/data" in why
    assert await anywhere.refusal("/proc", shared=False) is None
    assert await anywhere.refusal("/proc/self", shared=True) is None


async def test_of_a_remote_host_only_the_text_counts(root: Path) -> None:
    remote = BindRoots((root,), local=False)
    assert await remote.refusal(f"{root}/out", shared=True) is None
    assert await remote.refusal(f"{root}/../etc", shared=False) is not None
