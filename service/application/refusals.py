"""Refusals: what was refused to whom, noted in memory at once and kept a moment later.

Who is refused is never held up by it, and nobody's refusals can fill anything: those that are
alike within a second are one with a count, so many different ones are listed a second, and so
many wait for a log that does not answer. What is beyond that is counted, and the count is kept.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter

from service.audit_ports import Noted, Refusal, RefusalLog, RefusalsLost
from service.errors import LedgerUnavailable
from service.ports import Clock

LIST_EVERY_S = 1.0
"""So long those that are alike become one."""

LISTED_MAX = 64
"""Different ones that are listed in that time."""

UNKNOWN_MAX = 32
"""Of these, callers that are not known: whoever has many addresses crowds out nobody else."""

WAITING_MAX = 4096
"""That wait for the log; at a kilobyte each."""

BATCH_MAX = 256
"""That are handed to the log at once."""

RETRY_S_MAX = 10.0

LAST_S = 1.0
"""So long the log may take at the end of the service."""

log = logging.getLogger(__name__)

_Key = tuple[str, str, str, str, str, str, int]


class RefusalMetrics:
    """What /metrics tells of refusals."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.noted = Counter(
            "gpuledger_refusals", "Requests that were refused", ("code",), registry=registry
        )
        self.lost = Counter(
            "gpuledger_refusals_not_listed",
            "Refusals that the audit has only as a count: too many, or they could not be kept",
            registry=registry,
        )


class _Gap(Struct):
    """Refusals that are not listed, so far."""

    at_us: int
    seq: int
    times: int


class Refusals:
    """Note from anywhere on the loop; `run` keeps what was noted."""

    def __init__(
        self,
        kept: RefusalLog,
        clock: Clock,
        confirmed_seq: Callable[[], int],
        metrics: RefusalMetrics,
    ) -> None:
        self._kept = kept
        self._clock = clock
        self._confirmed_seq = confirmed_seq
        self._metrics = metrics
        self._open: dict[_Key, Refusal] = {}
        self._waiting: deque[Noted] = deque()
        self._gap: _Gap | None = None
        self.trouble: str | None = None
        """Why nothing can be kept just now, for people; None while all is well."""

    def note(self, refusal: Refusal) -> str:
        """Note one that happened now; the id that it is listed under, "" when it is only counted.

        Its `seq` is set here.
        """
        self._metrics.noted.labels(str(refusal.code)).inc()
        key = (
            refusal.actor,
            refusal.token,
            refusal.remote,
            refusal.method,
            refusal.route,
            refusal.name,
            refusal.code,
        )
        alike = self._open.get(key)
        if alike is not None:
            self._open[key] = replace(alike, times=alike.times + 1)
            return alike.id
        if self._is_full(refusal.actor):
            self._lose(refusal.at_us, 1)
            return ""
        self._open[key] = replace(refusal, seq=self._confirmed_seq())
        return refusal.id

    def noted(self, refusal_id: str) -> Refusal | None:
        """One that is not kept yet, by its id."""
        waiting = (*self._open.values(), *self._waiting)
        found = (one for one in waiting if isinstance(one, Refusal) and one.id == refusal_id)
        return next(found, None)

    def _is_full(self, actor: str) -> bool:
        """Is there no room for one more of this caller until the next second?"""
        unknown = sum(not other for other, *_ in self._open)
        return len(self._open) >= LISTED_MAX or (not actor and unknown >= UNKNOWN_MAX)

    async def run(self) -> None:
        """Keep what is noted, until cancelled; then once more, as far as the log answers."""
        pause_s = LIST_EVERY_S
        try:
            while True:
                await self._clock.sleep(pause_s)
                kept = await self.keep()
                pause_s = LIST_EVERY_S if kept else min(2 * pause_s, RETRY_S_MAX)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self.keep()

    async def keep(self) -> bool:
        """Hand what was noted by now to the log; False when it did not take all of it."""
        self._close()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
            try:
                await self._kept.append(batch)
            except LedgerUnavailable as error:
                # Some may be kept: better twice than never; they have the same id.
                self._waiting.extendleft(reversed(batch))
                self._shorten()
                if self.trouble is None:
                    log.warning("refusals are not kept for now: %s", error)
                self.trouble = f"refusals wait in memory, {len(self._waiting)} of them: {error}"
                return False
            except BaseException:
                self._waiting.extendleft(reversed(batch))
                raise
        if self.trouble is not None:
            log.info("refusals are kept again")
        self.trouble = None
        return True

    def _close(self) -> None:
        """What was noted is whole, and waits for the log."""
        self._waiting.extend(self._open.values())
        self._open.clear()
        self._shorten()
        if self._gap is not None and len(self._waiting) < WAITING_MAX:
            gap, self._gap = self._gap, None
            self._waiting.append(RefusalsLost(gap.at_us, gap.seq, gap.times))

    def _shorten(self) -> None:
        """The newest go: the first of an attack tell more than the last."""
        while len(self._waiting) > WAITING_MAX:
            lost = self._waiting.pop()
            self._lose(lost.at_us, lost.times, counted=isinstance(lost, RefusalsLost))

    def _lose(self, at_us: int, times: int, *, counted: bool = False) -> None:
        if not counted:
            self._metrics.lost.inc(times)
        if self._gap is None:
            self._gap = _Gap(at_us, self._confirmed_seq(), times)
            return
        self._gap.at_us = min(self._gap.at_us, at_us)
        self._gap.times += times
