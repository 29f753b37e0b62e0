"""BindRoots: which directories of this host containers may mount, and which never.

Looking at a path can hang for as long as a file server is away, and a thread that hangs cannot be
ended. So each look has a thread of its own, is given up after a while, and only so many may hang:
the threads that all else is done in are never taken for it.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from service.adapters.daemon_thread import in_daemon_thread

LOOK_S = 10.0
"""Longer than a file server that is only slow takes to say where a path leads."""

HANGING_MAX = 32
"""So many looks may never come back; then nothing is looked at until one does."""

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
        self,
        roots: Sequence[Path],
        withheld: Sequence[Path] = (),
        *,
        local: bool = True,
        look_s: float = LOOK_S,
    ) -> None:
        self._roots = tuple(roots)
        self._withheld = (*ENGINE_SOCKETS, *withheld)
        self._local = local
        self._look_s = look_s
        self._hanging: list[Future[str | None]] = []

    async def refusal(self, path: str, *, shared: bool) -> str | None:
        """As the port says; also of a path that cannot be looked at in time."""
        return await self._looked(path, lambda: self._refusal(path, shared))

    async def absence(self, path: str) -> str | None:
        """As the port says; also of a path that cannot be looked at in time."""
        return await self._looked(path, lambda: self._absence(path))

    async def _looked(self, path: str, look: Callable[[], str | None]) -> str | None:
        self._hanging = [one for one in self._hanging if not one.done()]
        if len(self._hanging) >= HANGING_MAX:
            return (
                f"{path} may not be mounted: {len(self._hanging)} other paths do not answer (is a"
                " file server away?), so none is looked at until one does"
            )
        looking = in_daemon_thread("bind-roots", look)
        try:
            async with asyncio.timeout(self._look_s):
                return await asyncio.wrap_future(looking)
        except TimeoutError:
            return (
                f"{path} may not be mounted: it does not answer within {self._look_s:g} s (is its"
                " file server away?)"
            )
        finally:
            # Also when the caller was cancelled: the thread is busy all the same.
            if not looking.done():
                self._hanging.append(looking)

    def _absence(self, path: str) -> str | None:
        if (refused := self._refusal(path, shared=False)) is not None:
            return refused
        if self._local and not os.path.exists(path):
            return f"{path}, which it mounts, is not there"
        return None

    def _refusal(self, path: str, shared: bool) -> str | None:
        try:
            real = self._real(Path(path))
        except OSError as error:  # such as what a process sees as its root, below /proc
            return f"{path} may not be mounted: it cannot be looked at ({error.strerror})"
        if not any(real.is_relative_to(self._real(root)) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots) or "none are (--bind-root)"
            # Where a link elsewhere on the host leads is nobody's business.
            told = str(real) != path and any(Path(path).is_relative_to(r) for r in self._roots)
            where = f" (which is {real})" if told else ""
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
