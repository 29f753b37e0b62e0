"""Supervisor: the long-running parts of the service, started in order and stopped in reverse.

A part that fails stops alone: the failure is logged, kept in `failures` for the health page,
and the others go on, so that reads still work when the writer cannot.
"""

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)


class Supervisor:
    """An async context: leaving it stops what was started in it.

    Several may share their `failures`, for parts that have to stop at different times.
    """

    def __init__(self, failures: dict[str, str] | None = None) -> None:
        self.failures: dict[str, str] = {} if failures is None else failures
        self._parts: list[tuple[asyncio.Task[None], Coroutine[Any, Any, None]]] = []

    async def __aenter__(self) -> "Supervisor":
        return self

    def start(self, name: str, part: Coroutine[Any, Any, None]) -> None:
        """Run a part until the context is left."""
        self._parts.append((asyncio.create_task(self._run(name, part), name=name), part))

    async def _run(self, name: str, part: Coroutine[Any, Any, None]) -> None:
        try:
            await part
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.critical("%s has failed and is stopped: %s", name, error, exc_info=error)
            self.failures[name] = str(error) or repr(error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._parts:
            task, part = self._parts.pop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            part.close()  # it may never have had its first turn
