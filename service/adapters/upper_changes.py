"""How two layers on one image differ, as a process in the container would see it.

Compared are the two trees that overlayfs makes of a layer and the image's own layers: a name is
looked for from the top down, a whiteout ends the search, directories of one name are one, and an
opaque directory hides those below it (Documentation/filesystems/overlayfs.rst). Where both have
the very same layers left below a directory nothing can differ, so the image itself is never gone
through, only looked into. Directories that overlayfs redirected are not followed: Docker does not
ask for that.

A layer of a container may be written to meanwhile: what vanishes is taken as not there, and no
symbolic link is followed. Everything here blocks; generators yield now and then.
"""

import errno
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from service.adapters.upper_entry import (
    is_gone,
    is_whiteout,
    looks_the_same,
    open_file,
    open_folder,
    same_apart_from_time,
    same_content,
)
from service.disk_ports import FileChange, FileChanges

_OPAQUE = "trusted.overlay.opaque"

Layers = tuple[bytes, ...]
"""Roots of the layers that make up a directory, the topmost first."""


class _Entry(Struct, frozen=True):
    """What a name stands for: an entry of the layer `top`, or directories of several `layers`."""

    seen: os.stat_result
    top: bytes
    layers: Layers = ()

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.seen.st_mode)

    @property
    def size_bytes(self) -> int:
        return self.seen.st_size if stat.S_ISREG(self.seen.st_mode) else 0


def changes_between(
    old: Path, new: Path, image: Sequence[Path], listed_max: int
) -> Generator[None, None, FileChanges]:
    """Of two layers on the image whose own layers are `image`, the topmost first.

    The paths are those inside of the container, in their order component by component; a byte
    that is no text reads "\\xNN". Raises OSError.
    """
    below = tuple(os.fsencode(layer) for layer in image)
    listed: list[FileChange] = []
    counts = {"added": 0, "changed": 0, "deleted": 0}
    for change in _walk((os.fsencode(old), *below), (os.fsencode(new), *below)):
        yield
        if change is None:
            continue
        counts[change.kind] += 1
        if len(listed) < listed_max:
            listed.append(change)
    return FileChanges(tuple(listed), **counts)


def _walk(old: Layers, new: Layers) -> Generator[FileChange | None, None, None]:
    """All changes below the roots; None between."""
    walks = [_Folder(b"", old, new).walk()]
    while walks:
        for step in walks[-1]:
            if isinstance(step, _Folder):
                walks.append(step.walk())
                break
            yield step
        else:
            walks.pop()


class _Folder:
    """One directory of both trees, as the layers that make it up on either side."""

    def __init__(self, path: bytes, old: Layers, new: Layers) -> None:
        self._path = path
        self._old = old
        self._new = new
        self._open: dict[bytes, int] = {}

    def walk(self) -> "Generator[FileChange | _Folder | None, None, None]":
        """Changes and directories to go into, in the order of names.

        No descriptor stays open meanwhile, however deep the tree is: the directory is gone
        through first.
        """
        found: list[FileChange | _Folder] = []
        with ExitStack() as opened:
            for layer in {*self._old, *self._new}:
                self._open_in(layer, opened)
            for name in sorted(self._names()):
                yield None
                old, new = self._look(self._old, name), self._look(self._new, name)
                found += yield from self._compared(name, old, new)
        yield from found

    def _compared(
        self, name: bytes, old: _Entry | None, new: _Entry | None
    ) -> "Generator[None, None, list[FileChange | _Folder]]":
        path = self._path + b"/" + name if self._path else name
        if new is None:
            return [] if old is None else [FileChange(_shown(path), "deleted")]
        found: list[FileChange | _Folder] = []
        if old is None:
            found.append(FileChange(_shown(path), "added", new.size_bytes))
        elif not (old.is_folder and new.is_folder) and (yield from self._differ(name, old, new)):
            found.append(FileChange(_shown(path), "changed", new.size_bytes))
        before = old.layers if old is not None else ()
        if new.is_folder and before != new.layers:
            found.append(_Folder(path, before, new.layers))
        return found

    def _names(self) -> set[bytes]:
        """Those that may differ: of the layers that are not the same on both sides."""
        shared = 0
        for one, other in zip(reversed(self._old), reversed(self._new), strict=False):
            if one != other:
                break
            shared += 1
        own = {*self._old[: len(self._old) - shared], *self._new[: len(self._new) - shared]}
        return {
            os.fsencode(name)
            for layer in own & self._open.keys()
            for name in os.listdir(self._open[layer])
        }

    def _look(self, layers: Layers, name: bytes) -> _Entry | None:
        """What overlayfs shows under this name, of these layers."""
        top: tuple[os.stat_result, bytes] | None = None
        folders: list[bytes] = []
        for layer in layers:
            seen = self._stat(layer, name)
            if seen is None:
                continue
            if not stat.S_ISDIR(seen.st_mode):
                if top is None and not is_whiteout(seen):
                    return _Entry(seen, layer)
                break
            top = top or (seen, layer)
            folders.append(layer)
            if layer != layers[-1] and self._is_opaque(layer, name):
                break
        return None if top is None else _Entry(*top, tuple(folders))

    def _stat(self, layer: bytes, name: bytes) -> os.stat_result | None:
        if layer not in self._open:
            return None
        try:
            return os.stat(name, dir_fd=self._open[layer], follow_symlinks=False)
        except OSError as error:
            if is_gone(error):
                return None
            raise

    def _is_opaque(self, layer: bytes, name: bytes) -> bool:
        try:
            folder = open_folder(self._open[layer], name)
        except OSError as error:
            if is_gone(error):
                return False
            raise
        try:
            return os.getxattr(folder, _OPAQUE) == b"y"
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return False
            raise
        finally:
            os.close(folder)

    def _differ(self, name: bytes, old: _Entry, new: _Entry) -> Generator[None, None, bool]:
        if (old.seen.st_dev, old.seen.st_ino) == (new.seen.st_dev, new.seen.st_ino):
            return False
        if not same_apart_from_time(old.seen, new.seen):
            return True
        if stat.S_ISLNK(old.seen.st_mode):
            return self._target(old, name) != self._target(new, name)
        if looks_the_same(old.seen, new.seen):
            return False
        if not stat.S_ISREG(old.seen.st_mode):
            return True
        return not (yield from self._have_same_content(name, old, new))

    def _target(self, entry: _Entry, name: bytes) -> bytes | None:
        try:
            return os.readlink(name, dir_fd=self._open[entry.top])
        except OSError as error:
            if is_gone(error) or error.errno == errno.EINVAL:
                return None  # something else by now
            raise

    def _have_same_content(
        self, name: bytes, old: _Entry, new: _Entry
    ) -> Generator[None, None, bool]:
        with ExitStack() as opened:
            try:
                one = open_file(name, self._open[old.top])
                opened.callback(os.close, one)  # also when the other one cannot be opened
                other = open_file(name, self._open[new.top])
                opened.callback(os.close, other)
                return (yield from same_content(one, other))
            except OSError as error:
                if is_gone(error):
                    return False
                raise

    def _open_in(self, layer: bytes, opened: ExitStack) -> None:
        root = open_folder(layer)
        try:
            self._open[layer] = open_folder(root, self._path)
        except OSError as error:
            if not is_gone(error):
                raise
        else:
            opened.callback(os.close, self._open[layer])
        finally:
            os.close(root)


def _shown(path: bytes) -> str:
    return "/" + path.decode("utf-8", "backslashreplace")
