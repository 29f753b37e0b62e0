"""Virtual time: an event loop whose clock jumps to the next timer, and the ports that go with it.

Nothing is waited for: an hour of timers passes as fast as its callbacks run, and every run of
the same code takes its turns in the same order. When nothing is left that could ever happen,
where a real loop would hang, it is an error that names the tasks that wait.

The loop sees no threads, sockets or signals: whoever waits for one of those waits for ever.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

LIMIT_S = 24 * 3600.0
"""So much virtual time a test may take. Without a limit, one that waits for something that
never comes would run as long as there is a timer, such as a look every ten seconds."""

TURNS_MAX = 100_000
"""So many turns may follow each other at one instant: somebody who asks again and again without a
pause would do so for ever, as time passes only when nobody has anything to do."""

EPOCH_US = 1_767_225_600_000_000
"""The first instant, 2026-01-01 in UTC."""


class Deadlock(Exception):
    """Nothing can happen any more, or not within the limits. The notes name who waits."""


class _Jumps(selectors.SelectSelector):
    """Instead of waiting for the next timer it moves the clock there. Its files never happen."""

    def __init__(self, limit_s: float) -> None:
        super().__init__()
        self.now_s = 0.0
        self._limit_s = limit_s
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("everything waits, and nothing is left that could happen")
        self._turns = 0 if timeout > 0 else self._turns + 1
        if self._turns > TURNS_MAX:
            self._turns = 0  # what is cancelled now has turns to end
            raise Deadlock(f"time stands still at {self.now_s:.3f} s: somebody never pauses")
        self.now_s += max(0.0, timeout)
        if self.now_s > self._limit_s:
            self._limit_s += LIMIT_S  # what is cancelled now has time to end
            raise Deadlock(f"{self.now_s:.0f} s of virtual time are over")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop; begins at 0 s. Made by `run_virtually`, or by hand for `asyncio.Runner`."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._jumps = _Jumps(limit_s)
        super().__init__(self._jumps)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumps.now_s


def run_virtually(main: Coroutine[Any, Any, T], limit_s: float = LIMIT_S) -> T:
    """Run a coroutine to its end on a loop of its own. Raises Deadlock."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(limit_s)) as runner:
        try:
            return runner.run(main)
        except Deadlock as deadlock:
            for task in asyncio.all_tasks(runner.get_loop()):
                deadlock.add_note(f"waiting: {task!r}")
            raise


def virtual(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make of a coroutine test one that runs on virtual time. Its fixtures must need no loop."""

    @functools.wraps(test)
    def on_virtual_time(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtually(test(*args, **kwargs))

    return on_virtual_time


class VirtualClock:
    """The port `Clock` on the time of the running loop."""

    def now_us(self) -> int:
        """As the port says; the loop's beginning is 2026-01-01."""
        return EPOCH_US + round(self.monotonic_s() * 1_000_000)

    def monotonic_s(self) -> float:
        """As the port says."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """As the port says."""
        await asyncio.sleep(seconds)


class CountingIds:
    """The port `Ids`: ids that people can read, the same ones in every run."""

    def __init__(self, prefix: str = "id") -> None:
        self._prefix = prefix
        self._numbers = count(1)

    def new(self) -> str:
        """As the port says."""
        return f"{self._prefix}-{next(self._numbers):06d}"
