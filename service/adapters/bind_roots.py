"""BindRoots: which directories of this host containers may mount, and which never."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

ENGINE_SOCKETS = (
    Path("/var/run/docker.sock"),
    Path("/run/docker.sock"),
    Path("/run/containerd/containerd.sock"),
)
"""Where engines listen, whatever --docker says: who has such a socket is root on the host."""


class BindRoots:
    """The port `HostPaths`: below one of `roots` everything may be mounted, elsewhere nothing.

    Never what is in `withheld`: neither such a path, nor what is below it, nor a directory that
    contains it. `local` says whether the engine's host is this one. Of another one's paths only
    their text can be looked at.
    """

    def __init__(
        self, roots: Sequence[Path], withheld: Sequence[Path] = (), *, local: bool = True
    ) -> None:
        self._roots = tuple(roots)
        self._withheld = (*ENGINE_SOCKETS, *withheld)
        self._local = local

    async def refusal(self, path: str, *, shared: bool) -> str | None:
        return await asyncio.to_thread(self._refusal, path, shared)

    async def absence(self, path: str) -> str | None:
        if (refused := await self.refusal(path, shared=False)) is not None:
            return refused
        if self._local and not await asyncio.to_thread(os.path.exists, path):
            return f"{path}, which it mounts, is not there"
        return None

    def _refusal(self, path: str, shared: bool) -> str | None:
        try:
            real = self._real(Path(path))
        except OSError as error:  # such as what a process sees as its root, below /proc
            return f"{path} may not be mounted: it cannot be looked at ({error.strerror})"
        if not any(real.is_relative_to(self._real(root)) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots) or "none are (--bind-root)"
            where = "" if str(real) == path else f" (which is {real})"
            return f"{path}{where} may not be mounted; directories below these may: {allowed}"
        for withheld in self._withheld:
            if self._touches(real, self._real(withheld)):
                return (
                    f"{path} may not be mounted, whatever --bind-root says: {withheld} is this"
                    " service's own or its engine's, and with it a container would rule the host"
                )
        if shared and self._local and os.path.ismount(real):
            return (
                f"{path} is a mount point: whenever nothing is mounted there, containers would"
                " write to the host's own disk instead; give a directory inside it, such as"
                f" {path.rstrip('/')}/data"
            )
        return None

    def _touches(self, path: Path, withheld: Path) -> bool:
        """Is either of them the other one, or below it?"""
        if path.is_relative_to(withheld) or withheld.is_relative_to(path):
            return True
        if not self._local:
            return False
        # The same directory or socket can have another path: a bind mount, or a hard link.
        above = {_identity(one) for one in (withheld, *withheld.parents)} - {None}
        below = {_identity(one) for one in (path, *path.parents)}
        return _identity(path) in above or _identity(withheld) in below - {None}

    def _real(self, path: Path) -> Path:
        return Path(os.path.realpath(path) if self._local else os.path.normpath(path))


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file is, under any name; None when there is none, or it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
