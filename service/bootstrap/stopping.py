"""Being told to stop: the first signal ends the service in order, a second one at once.

In order means: commands are refused, with when to come again; nothing new is begun; what is being
done is waited for, within a bound; callers that still wait get the id of their operation; all is
closed. Nothing of it is needed for safety, as every effect that was cut off is due at the next
start. Only a command that runs in a container is never run again, so that gets the longest time.
"""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from service.application.executor import Executor
from service.application.ledger_intake import LedgerIntake

EXECUTIONS_S = 10.0
"""So long commands in containers may go on; what they end with is then recorded."""
STEPS_S = 2.0
"""So long any other step may take to its end; nearly all take less."""
ANSWERS_S = 1.0
"""So long callers may take to read their answers."""
LAST_S = 14.0
"""Then the process ends, whatever could not be closed."""
THREADS_S = 0.5
"""So long threads may take when all is closed: one that waits for Docker would take minutes."""

log = logging.getLogger(__name__)


class Stopping:
    """SIGINT and SIGTERM of this process, from `listen` on."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._starting: asyncio.Task[object] | None = None

    def listen(self) -> None:
        """Take the signals over, for the loop that runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)

    @contextmanager
    def until_told(self) -> Iterator[None]:
        """Around the whole service: until `wait_started`, a signal cancels the task.

        A start may take long, for one where Docker does not answer. The cancelling ends here.
        """
        self._starting = asyncio.current_task()
        try:
            yield
        except asyncio.CancelledError:
            if not self._asked.is_set():
                raise
        finally:
            self._starting = None
        if self._asked.is_set():
            _leave_in(THREADS_S, "all is closed, but a thread still waits for an answer")

    async def wait_started(self) -> None:
        """All is up now: return when there was a signal."""
        self._starting = None
        await self._asked.wait()

    def _on_signal(self, number: int) -> None:
        if self._asked.is_set():
            log.warning("told to stop again: ending at once")
            os._exit(128 + number)
        self._asked.set()
        _leave_in(LAST_S, f"not everything could be closed within {LAST_S:.0f} s")
        if self._starting is not None:
            self._starting.cancel()


def _leave_in(seconds: float, why: str) -> None:
    """End the process then, if it has not ended by itself.

    By a thread: Python waits for all others only after the loop is gone.
    """

    def leave() -> None:
        log.warning("%s: ending without", why)
        os._exit(0)

    last = threading.Timer(seconds, leave)
    last.daemon = True
    last.start()


async def wind_down(intake: LedgerIntake, executor: Executor) -> None:
    """Come to rest, within EXECUTIONS_S; reads are answered meanwhile."""
    intake.close()
    await executor.finish(executions_s=EXECUTIONS_S, steps_s=STEPS_S)
    intake.release()
