"""Which directories of the host containers may mount: where they really are, symlinks followed."""

import asyncio
import threading
from pathlib import Path

import pytest

from service.adapters.bind_roots import HANGING_MAX, BindRoots
from tests.kit.hung_mount import hung_mount


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


async def test_where_links_lead_is_told_of_those_below_a_root_only(root: Path) -> None:
    (root.parent / "link").symlink_to("/etc/passwd")
    inside = await BindRoots((root,)).refusal(f"{root}/out", shared=False)
    outside = await BindRoots((root,)).refusal(f"{root.parent}/link", shared=False)
    assert "which is /etc" in (inside or "")
    assert outside is not None
    assert "/etc" not in outside


async def test_what_is_not_there_is_absent_and_what_is_refused_as_well(root: Path) -> None:
    roots = BindRoots((root,))
    assert await roots.absence(f"{root}/in") is None
    assert "is not there" in (await roots.absence(f"{root}/not-there-yet") or "")
    assert "may not be mounted" in (await roots.absence(f"{root}/out") or "")
    elsewhere = BindRoots((root,), local=False)
    assert await elsewhere.absence(f"{root}/not-there-yet") is None


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


@pytest.mark.parametrize(
    "path",
    [
        *("/var/run/docker.sock", "/run/docker.sock", "/run", "/var/run", "/"),
        *("/run/containerd", "/proc/1/root/run", "/proc/self/root"),
    ],
)
async def test_no_root_reaches_an_engine_s_socket(path: str) -> None:
    why = await BindRoots((Path("/"),)).refusal(path, shared=False)
    assert why is not None
    # Below /proc there are links that not even root may follow everywhere.
    assert "whatever --bind-root says" in why or "cannot be looked at" in why


@pytest.fixture
def withheld(tmp_path: Path) -> Path:
    """A directory that is not to be mounted, with a file in it."""
    (tmp_path / "own" / "data" / "volumes").mkdir(parents=True)
    (tmp_path / "own" / "data" / "file").touch()
    (tmp_path / "own" / "beside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "own" / "data")
    return tmp_path / "own" / "data"


@pytest.mark.parametrize("path", [".", "file", "volumes", "not-there-yet", "..", "../../link"])
async def test_what_is_withheld_is_refused_with_what_is_in_it_and_around_it(
    withheld: Path, path: str
) -> None:
    roots = BindRoots((Path("/"),), [withheld])
    why = await roots.refusal(f"{withheld}/{path}", shared=False)
    assert why is not None
    assert str(withheld) in why
    assert await roots.refusal(f"{withheld.parent}/beside", shared=False) is None


async def run(*command: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def test_another_path_to_the_same_thing_is_refused_too(
    withheld: Path, tmp_path: Path
) -> None:
    (tmp_path / "hard").hardlink_to(withheld / "file")
    (tmp_path / "mounted").mkdir()
    roots = BindRoots((Path("/"),), [withheld / "file"])
    for path in (tmp_path / "hard", withheld):
        assert await roots.refusal(str(path), shared=False) is not None
    await run("mount", "--bind", withheld.parent, tmp_path / "mounted")
    try:
        for below in ("", "/data", "/data/file"):
            why = await roots.refusal(f"{tmp_path}/mounted{below}", shared=False)
            assert why is not None, below
        assert await roots.refusal(f"{tmp_path}/mounted/beside", shared=False) is None
    finally:
        await run("umount", tmp_path / "mounted")


async def test_on_a_remote_host_sockets_are_known_by_their_usual_paths() -> None:
    remote = BindRoots((Path("/"),), local=False)
    for path in ("/var/run/docker.sock", "/run/x/../docker.sock", "/run", "/"):
        assert await remote.refusal(path, shared=False) is not None
    assert await remote.refusal("/srv", shared=False) is None


async def test_a_path_that_never_answers_holds_up_nobody_else(tmp_path: Path) -> None:
    """A file server that is away: every look at a path on it hangs."""
    (tmp_path / "well").mkdir()
    roots = BindRoots((Path("/"),), look_s=0.1)
    with hung_mount(tmp_path / "away"):
        paths = [f"{tmp_path}/away/{number}" for number in range(HANGING_MAX - 1)]
        why = await asyncio.gather(
            *(roots.refusal(path, shared=False) for path in paths), roots.absence(paths[0])
        )
        assert all("does not answer within 0.1 s" in (one or "") for one in why)
        async with asyncio.timeout(5):
            await asyncio.to_thread(int)  # what tokens are looked up with, among others
            refused = await roots.refusal(f"{tmp_path}/well", shared=False)
        assert f"{HANGING_MAX} other paths do not answer" in (refused or "")
    for thread in threading.enumerate():
        if thread.name == "bind-roots":
            thread.join(5)
    assert await roots.refusal(f"{tmp_path}/well", shared=False) is None
