"""BindRoots: which directories of this host containers may mount."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path


class BindRoots:
    """The port `HostPaths`: below one of `roots` everything may be mounted, elsewhere nothing.

    `local` says whether the engine's host is this one. Of another one's paths only their text can
    be looked at.
    """

    def __init__(self, roots: Sequence[Path], *, local: bool = True) -> None:
        self._roots = tuple(roots)
        self._local = local

    async def refusal(self, path: str, *, shared: bool) -> str | None:
        return await asyncio.to_thread(self._refusal, path, shared)

    def _refusal(self, path: str, shared: bool) -> str | None:
        real = self._real(Path(path))
        if not any(real.is_relative_to(self._real(root)) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots) or "none are (--bind-root)"
            where = "" if str(real) == path else f" (which is {real})"
            return f"{path}{where} may not be mounted; directories below these may: {allowed}"
        if shared and self._local and os.path.ismount(real):
            return (
                f"{path} is a mount point: whenever nothing is mounted there, containers would"
                " write to the host's own disk instead; give a directory inside it, such as"
                f" {path.rstrip('/')}/data"
            )
        return None

    def _real(self, path: Path) -> Path:
        return Path(os.path.realpath(path) if self._local else os.path.normpath(path))
