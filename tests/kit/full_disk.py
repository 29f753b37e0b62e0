"""A small disk of a test's own that can be filled, emptied and made read-only."""

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self


class FullDisk:
    """A tmpfs at `path` with so many MiB, as a context manager. Needs root."""

    def __init__(self, path: Path, mib: int) -> None:
        self.path = path
        self._mib = mib

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True)
        self._run("mount", "-t", "tmpfs", "-o", f"size={self._mib}m", "tmpfs")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run("umount", "--lazy")

    def fill(self) -> None:
        """Use up every byte."""
        with self._filler.open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                return

    def make_room(self) -> None:
        """Give back what `fill` took."""
        self._filler.unlink()

    def hold(self, pattern: str) -> None:
        """What these files take is not free when they are deleted."""
        for file in list(self.path.glob(pattern)):
            file.with_name(f"held {file.name}").hardlink_to(file)

    def remount(self, how: str) -> None:
        """`ro` or `rw`; `ro` while nothing is open for writing."""
        self._run("mount", "-o", f"remount,{how}")

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def _run(self, *command: str) -> None:
        subprocess.run([*command, str(self.path)], check=True, capture_output=True)
