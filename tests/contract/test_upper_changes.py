"""What differs between two layers, against what the kernel's overlayfs shows of the two."""

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.adapters.upper_changes import changes_between
from service.adapters.upper_store import run_all
from service.disk_ports import FileChange, FileChanges

pytestmark = pytest.mark.usefixtures("root")

SEEDS = range(25)
MTIME_NS = 1_000_000_000_000_000_000


class Overlays:
    """Layers of an image, and two overlays on it to work in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.image = [folder / "top", folder / "middle", folder / "bottom"]
        self.uppers = (folder / "upper-old", folder / "upper-new")
        for path in (*self.image, *self.uppers):
            path.mkdir()

    @contextmanager
    def mounted(self, upper: Path, lowers: Sequence[Path]) -> Iterator[Path]:
        merged, work = self._folder / f"{upper.name}-merged", self._folder / f"{upper.name}-work"
        merged.mkdir(exist_ok=True)
        work.mkdir(exist_ok=True)
        below = ":".join(map(str, lowers))
        options = f"lowerdir={below},upperdir={upper},workdir={work},index=off,redirect_dir=off"
        mount = ["mount", "-t", "overlay", "-o", options, "overlay", str(merged)]
        subprocess.run(mount, check=True)
        try:
            yield merged
        finally:
            subprocess.run(["umount", str(merged)], check=True)

    def found(self, listed_max: int = 1000) -> FileChanges:
        return run_all(changes_between(*self.uppers, self.image, listed_max))


def change_at_random(top: Path, rng: random.Random, times: int) -> None:
    for number in range(times):
        entries = sorted(path for path in top.rglob("*"))
        folders = [top, *(path for path in entries if path.is_dir() and not path.is_symlink())]
        new = rng.choice(folders) / rng.choice(("a", "b", "c.txt", "d", f"n{number}"))
        one = rng.choice(entries) if entries else top / "none"
        match rng.randrange(9):
            case 0 | 1 if not os.path.lexists(new):
                new.write_text(rng.choice("xyz"))
                os.utime(new, ns=(MTIME_NS, MTIME_NS + rng.randrange(1 << 40)))
            case 2 if not os.path.lexists(new):
                new.mkdir()
                (new / "a").write_text("inside")
            case 3 if not os.path.lexists(new):
                new.symlink_to(rng.choice(("to", "too")))
            case 4 | 5 if entries:
                _remove(one)
            case 6 if entries and not one.is_symlink():
                one.chmod(rng.choice((0o700, 0o755)))
            case 8 if one.is_dir() and not one.is_symlink():
                _remove(one)
                one.mkdir()
                (one / rng.choice("abd")).write_text("in an opaque one")
            case 7 if one.is_file() and not one.is_symlink():
                with one.open("r+b"):  # copied up, and not changed
                    pass


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def truly(old: Path, new: Path) -> list[tuple[str, str]]:
    """What differs between two directories that can be seen as a whole."""
    before, after = _seen(old), _seen(new)
    found: list[tuple[str, str]] = []
    for path in sorted(before.keys() | after.keys(), key=lambda path: path.split("/")):
        was, now = before.get(path), after.get(path)
        above_gone = any(
            str(above) in before and str(above) not in after for above in Path(path).parents
        )
        above_is_file = any(after.get(str(above), "dir") != "dir" for above in Path(path).parents)
        if was is None:
            found.append((path, "added"))
        elif now is None and not above_gone and not above_is_file:
            found.append((path, "deleted"))
        elif now is not None and was != now:
            found.append((path, "changed"))
    return found


def _seen(top: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in top.rglob("*"):
        seen = path.lstat()
        shown: object = "dir"
        if stat.S_ISLNK(seen.st_mode):
            shown = os.readlink(path)
        elif stat.S_ISREG(seen.st_mode):
            shown = (seen.st_mode, path.read_bytes())
        found[f"/{path.relative_to(top)}"] = shown
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_what_overlayfs_shows(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    made = Overlays(tmp_path)
    top, middle, bottom = made.image
    change_at_random(bottom, rng, 30)
    for layer, below in ((middle, [bottom]), (top, [middle, bottom])):
        with made.mounted(layer, below) as merged:
            change_at_random(merged, rng, 15)
    with ExitStack() as mounts:
        old, new = (mounts.enter_context(made.mounted(u, made.image)) for u in made.uppers)
        for merged in (old, new):
            change_at_random(merged, rng, 20)
        expected = truly(old, new)
    found = made.found()
    assert [(change.path, change.kind) for change in found.files] == expected
    kinds = [kind for _, kind in expected]
    counted = {"added": found.added, "changed": found.changed, "deleted": found.deleted}
    assert counted == {kind: kinds.count(kind) for kind in counted}


def test_sizes_names_and_the_order_of_the_listed(tmp_path: Path) -> None:
    made = Overlays(tmp_path)
    old, new = made.uppers
    (new / "folder").mkdir()
    (new / "folder" / "inside").write_bytes(b"12345")
    (new / "folder.txt").write_bytes(b"1")
    (new / os.fsdecode(b"odd\xff\nname")).write_bytes(b"123")
    (old / "was-here").mkdir()
    (old / "was-here" / "inside").write_bytes(b"12345")
    os.symlink("somewhere", new / "link")
    found = made.found()
    assert found.files == (
        FileChange("/folder", "added", 0),
        FileChange("/folder/inside", "added", 5),
        FileChange("/folder.txt", "added", 1),
        FileChange("/link", "added", 0),
        FileChange("/odd\\xff\nname", "added", 3),
        FileChange("/was-here", "deleted", 0),
    )
    assert made.found(2) == FileChanges(found.files[:2], added=5, changed=0, deleted=1)


def test_same_in_size_and_time_is_same_and_another_time_alone_is_no_change(tmp_path: Path) -> None:
    made = Overlays(tmp_path)
    for folder, content in zip(made.uppers, (b"one", b"two"), strict=True):
        for name in ("same", "touched", "edited"):
            (folder / name).write_bytes(content if name == "edited" else b"all")
            time_ns = MTIME_NS if name == "same" else MTIME_NS + folder.stat().st_ino
            os.utime(folder / name, ns=(time_ns, time_ns))
    assert [change.path for change in made.found().files] == ["/edited"]
    os.chown(made.uppers[1] / "touched", 1, 1)
    assert [change.path for change in made.found().files] == ["/edited", "/touched"]


def test_no_link_leads_out_of_a_layer(tmp_path: Path) -> None:
    """A container that runs may put one where a directory was a moment ago."""
    made = Overlays(tmp_path)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "plan").write_text("plan")
    folder = made.uppers[1] / "folder"
    folder.mkdir()
    steps = changes_between(*made.uppers, made.image, 10)
    for _ in range(2):  # until it was seen to be a directory
        next(steps)
    folder.rmdir()
    folder.symlink_to(secret)
    assert "plan" not in str(run_all(steps))


def test_a_tree_deeper_than_a_path_can_be_long(tmp_path: Path) -> None:
    made = Overlays(tmp_path)
    depth = 40
    folder = os.open(made.uppers[1], os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("d" * 200, dir_fd=folder)
        deeper = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    assert made.found(1).added == depth
