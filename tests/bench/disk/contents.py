"""What is in the image, and what a container makes of it: its diff.

The image is busybox and /data, in folders of a hundred files. A diff is made the way programs
make one, through the file system that a running container sees, so that overlayfs itself does the
copying up and notes what is gone.
"""

import io
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import docker

from tests.bench.disk.amounts import Amount, incompressible
from tests.kit.busybox import busybox_rootfs

DATA = "data"
FOLDER_FILES = 100
DELETED_FILES = 50
CHANGED_FILES = 20
FIRST_DELETED = FOLDER_FILES
"""The folder before becomes opaque."""

FIRST_CHANGED = FIRST_DELETED + DELETED_FILES

_ADDED = "added"
_CHANGE = b"changed"
_NUMBER_STEP = 1_000_000
"""Between the contents of the image and of a diff, so that no two are the same."""


def import_image(client: docker.APIClient, tag: str, amount: Amount) -> None:
    """Make the image on an engine, as one layer; nothing is written elsewhere."""
    repository, _, version = tag.partition(":")
    answer = client.import_image_from_stream(
        _image_tar(amount), repository=repository, tag=version, changes=["ENV PATH=/bin"]
    )
    if '"error"' in answer:
        raise RuntimeError(f"the image was not imported: {answer[-500:]}")


def apply_diff(root: Path, amount: Amount) -> None:
    """Change a running container's files, `root` being its / as this host sees it."""
    opaque = root / _image_path(0)
    shutil.rmtree(opaque.parent)
    opaque.parent.mkdir()
    _write(opaque, _NUMBER_STEP, 1_000)
    for number in range(FIRST_DELETED, FIRST_CHANGED):
        (root / _image_path(number)).unlink()
    for number in range(FIRST_CHANGED, FIRST_CHANGED + CHANGED_FILES):
        with (root / _image_path(number)).open("r+b") as file:
            file.write(_CHANGE)
    for number in range(amount.files):
        path = _added_path(root, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, _NUMBER_STEP + number, amount.file_bytes)


def require_diff(root: Path, amount: Amount, *, exact: bool) -> None:
    """Raise RuntimeError unless a diff is there: figures of what did not work are worth nothing.

    It looks at a part of it. Without `exact`, what was deleted may be back.
    """
    last = _added_path(root, amount.files - 1)
    changed = root / _image_path(FIRST_CHANGED)
    deleted, opaque = root / _image_path(FIRST_DELETED), root / _image_path(0).parent
    came_over = last.stat().st_size == amount.file_bytes and changed.read_bytes().startswith(
        _CHANGE
    )
    if came_over and exact:
        came_over = not deleted.exists() and len(list(opaque.iterdir())) == 1
    if not came_over:
        raise RuntimeError(f"the diff did not come over to {root}")


def change_added(root: Path, amount: Amount, size_bytes: int, turn: int) -> None:
    """Write over `size_bytes` of what the diff added: in every turn the files that come next."""
    count = max(1, size_bytes // amount.file_bytes)
    for number in range(turn * count, (turn + 1) * count):
        path = _added_path(root, number % amount.files)
        _write(path, 2 * _NUMBER_STEP + number, size_bytes // count)


def _image_tar(amount: Amount) -> Iterator[bytes | memoryview]:
    with tarfile.open(fileobj=io.BytesIO(busybox_rootfs())) as busybox:
        for member in busybox:
            content = busybox.extractfile(member) if member.isreg() else None
            yield from _tar_entry(member, [content.read()] if content else [])
    for number in range(amount.files):
        if number % FOLDER_FILES == 0:
            folder = tarfile.TarInfo(str(_image_path(number).parent))
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            yield from _tar_entry(folder, [])
        entry = tarfile.TarInfo(str(_image_path(number)))
        entry.size = amount.file_bytes
        yield from _tar_entry(entry, incompressible(number, entry.size))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tar_entry(
    entry: tarfile.TarInfo, content: Iterable[bytes | memoryview]
) -> Iterator[bytes | memoryview]:
    yield entry.tobuf()
    yield from content
    if rest := entry.size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - rest)


def _image_path(number: int) -> Path:
    return Path(DATA) / f"{number // FOLDER_FILES:04}" / f"{number:06}"


def _added_path(root: Path, number: int) -> Path:
    return root / _ADDED / f"{number // FOLDER_FILES:04}" / f"{number:06}"


def _write(path: Path, number: int, size_bytes: int) -> None:
    # Over what is there, as a program does that updates its file, so that blocks stay shared.
    with path.open("r+b" if path.exists() else "wb") as file:
        for piece in incompressible(number, size_bytes):
            file.write(piece)
