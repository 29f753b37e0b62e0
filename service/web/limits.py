"""What one caller may take: requests in a second, and requests that wait at the same time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

BURST_S = 2.0
"""Whoever was silent for so long may send all the requests of that time at once."""

_CALLERS_MAX = 10_000


class CallerLimits:
    """A bucket of tokens and a count for every caller; 0 is no limit. For one event loop."""

    def __init__(
        self, requests_per_s: int, waiting_max: int, monotonic_s: Callable[[], float]
    ) -> None:
        self._interval_s = 1 / requests_per_s if requests_per_s else 0.0
        self._waiting_max = waiting_max
        self._monotonic_s = monotonic_s
        # When the bucket of a caller is full again: all that there is to know of it.
        self._full_at_s: dict[str, float] = {}
        self._forget_at = _CALLERS_MAX
        self._waiting: dict[str, int] = {}

    def take(self, caller: str) -> float:
        """Let a request in: 0. Or not: the seconds after which it may be sent again."""
        if not self._interval_s:
            return 0.0
        now_s = self._monotonic_s()
        full_at_s = max(self._full_at_s.get(caller, 0.0), now_s) + self._interval_s
        # A thousandth of a request is for the rounding of times.
        too_early_s = full_at_s - now_s - BURST_S
        if too_early_s > self._interval_s / 1000:
            return too_early_s
        self._full_at_s[caller] = full_at_s
        if len(self._full_at_s) >= self._forget_at:
            self._forget(now_s)
        return 0.0

    @contextmanager
    def waiting(self, caller: str) -> Iterator[bool]:
        """Count a request while it is served; False when the caller has too many of them."""
        others = self._waiting.get(caller, 0)
        if self._waiting_max and others >= self._waiting_max:
            yield False
            return
        self._waiting[caller] = others + 1
        try:
            yield True
        finally:
            self._waiting[caller] -= 1
            if not self._waiting[caller]:
                del self._waiting[caller]

    def _forget(self, now_s: float) -> None:
        """Drop the full buckets: they are as good as new."""
        self._full_at_s = {who: at for who, at in self._full_at_s.items() if at > now_s}
        self._forget_at = max(_CALLERS_MAX, 2 * len(self._full_at_s))
