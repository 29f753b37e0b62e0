"""Refusals: what was refused to whom, noted in memory and handed to the log at once.

Who is refused is never held up by it, and nobody's refusals can fill anything: those that are
like one of the same second are one with a count, which is kept when the second is over; so many
are listed a second, and so many wait for a log that does not answer. What is beyond that is
counted, and the count is kept.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter

from service.application.refusal_chain import RefusalChain
from service.audit_ports import Noted, Refusal, RefusalsLost
from service.errors import LedgerUnavailable
from service.ports import Clock

ALIKE_S = 1.0
"""So long those that are like the first of them become one."""

LISTED_MAX = 64
"""Different ones that are listed in that time, and as many rows again that count the others."""

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
        chain: RefusalChain,
        clock: Clock,
        confirmed_seq: Callable[[], int],
        metrics: RefusalMetrics,
    ) -> None:
        self._chain = chain
        self._clock = clock
        self._confirmed_seq = confirmed_seq
        self._metrics = metrics
        self._seen: set[_Key] = set()
        """What was listed in this second."""
        self._open: dict[_Key, Refusal] = {}
        """Those like it that came since, as one with a count; the ledger had the same end for all
        that are open."""
        self._rows = self._unknown_rows = 0
        """That count, in this second."""
        self._waiting: deque[Noted] = deque()
        self._sent: Sequence[Noted] = ()
        """On their way to the log."""
        self._begun = asyncio.Event()
        """Something was noted in this second."""
        self._due = asyncio.Event()
        """Something waits for the log."""
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
        self._begun.set()
        if self._is_full(key):
            self._lose(refusal.at_us, 1)
            return ""
        noted = replace(refusal, seq=self._confirmed_seq())
        if next((one.seq for one in self._open.values()), noted.seq) < noted.seq:
            self._close()  # rows are in the order of the records that they come after
        if key in self._seen:
            self._open[key] = noted
            self._rows += 1
            self._unknown_rows += not refusal.actor
        else:
            # Written at once: who crashes then loses only what is like it.
            self._seen.add(key)
            self._waiting.append(noted)
            self._due.set()
        return refusal.id

    def noted(self, refusal_id: str) -> Refusal | None:
        """One that is not kept yet, by its id."""
        waiting = (*self._open.values(), *self._waiting, *self._sent)
        found = (one for one in waiting if isinstance(one, Refusal) and one.id == refusal_id)
        return next(found, None)

    def _is_full(self, key: _Key) -> bool:
        """Is there no room for one more row of this caller, in this second or in memory?"""
        if len(self._waiting) + len(self._open) >= WAITING_MAX:
            return True
        is_known = bool(key[0])
        if key in self._seen:
            of_unknown, rows = self._unknown_rows, self._rows
        else:
            of_unknown, rows = sum(not actor for actor, *_ in self._seen), len(self._seen)
        return rows >= LISTED_MAX or (not is_known and of_unknown >= UNKNOWN_MAX)

    async def run(self) -> None:
        """Keep what is noted, until cancelled; then once more, as far as the log answers."""
        try:
            async with asyncio.TaskGroup() as at_work:
                at_work.create_task(self._end_seconds())
                at_work.create_task(self._keep_all())
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self.keep()

    async def _end_seconds(self) -> None:
        while True:
            await self._begun.wait()
            await self._clock.sleep(ALIKE_S)
            self._end_second()

    async def _keep_all(self) -> None:
        pause_s = ALIKE_S
        while True:
            await self._due.wait()
            self._due.clear()
            if await self._hand_over():
                pause_s = ALIKE_S
            else:
                self._due.set()
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_S_MAX)

    async def keep(self) -> bool:
        """Hand what was noted by now to the log; False when it did not take all of it."""
        self._end_second()
        return await self._hand_over()

    async def _hand_over(self) -> bool:
        while self._waiting:
            count = min(BATCH_MAX, len(self._waiting))
            self._sent = [self._waiting.popleft() for _ in range(count)]
            try:
                await self._chain.keep(self._sent)
            except LedgerUnavailable as error:
                # Some may be kept; the chain knows them again.
                self._take_back()
                self._shorten()
                if self.trouble is None:
                    log.warning("refusals are not kept for now: %s", error)
                self.trouble = f"refusals wait in memory, {len(self._waiting)} of them: {error}"
                return False
            except BaseException:
                self._take_back()
                raise
            self._sent = ()
        if self.trouble is not None:
            log.info("refusals are kept again")
        self.trouble = None
        if self._gap is not None:
            self._begun.set()  # there is room for the count now
        return True

    def _take_back(self) -> None:
        self._waiting.extendleft(reversed(self._sent))
        self._sent = ()

    def _end_second(self) -> None:
        """What was noted is whole, and waits for the log."""
        self._close()
        self._begun.clear()
        self._seen.clear()
        self._rows = self._unknown_rows = 0
        if self._gap is not None and len(self._waiting) < WAITING_MAX:
            gap, self._gap = self._gap, None
            self._waiting.append(RefusalsLost(gap.at_us, gap.seq, gap.times))
            self._due.set()

    def _close(self) -> None:
        """Those that were counted so far wait for the log."""
        self._waiting.extend(self._open.values())
        self._open.clear()
        self._shorten()
        if self._waiting:
            self._due.set()

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
