"""Orphans: finds what is there in our name and in no record, and removes it when it is time.

It looks at the start and every few minutes. What it merely sees is not recorded; since when each
was one is remembered here only, so that a start begins all graces anew. What is to be removed is
decided by the rules (`service/domain/orphans.py`), recorded, and removed by the executor like
anything else.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from msgspec import Struct

from events.values import OrphanKind
from projections.projector import Projector
from service.application.orphan_work import OrphanWork, Sight
from service.application.writer import Writer
from service.domain.commands import Envelope, Facts
from service.domain.orphan_commands import ExpireOrphan, Thing
from service.domain.orphans import WORDS, Orphan, orphans
from service.errors import LedgerError, ServiceBusy
from service.ports import Clock, Ids, Ledger

log = logging.getLogger(__name__)

LOOK_EVERY_S = 300.0


class Found(Struct, frozen=True):
    """The orphans that there are, those that use others first."""

    orphans: tuple[Orphan, ...]
    unseen: Mapping[OrphanKind, str]
    """The kinds that could not be looked at, and why."""


class _Watched(Struct, frozen=True):
    """Since when one is one, by both clocks: that of the host may be set."""

    kind: OrphanKind
    since_us: int
    since_s: float
    """Monotonic."""


class Orphans:
    """`run` looks until it is cancelled. `grace_s` is how long one is only told; 0 is for ever."""

    def __init__(
        self,
        work: OrphanWork,
        ledger: Ledger,
        projector: Projector,
        writer: Writer,
        clock: Clock,
        ids: Ids,
        facts: Callable[[], Facts],
        grace_s: float,
    ) -> None:
        self._work = work
        self._ledger = ledger
        self._projector = projector
        self._writer = writer
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._grace_us = round(grace_s * 1_000_000)
        self._watched: dict[str, _Watched] = {}
        """By id, all that were orphans at the last look."""
        self._looking = asyncio.Lock()

    async def run(self) -> None:
        """Look, remove what is due, and wait."""
        while True:
            await self._expire((await self.look()).orphans)
            await self._clock.sleep(LOOK_EVERY_S)

    async def look(self) -> Found:
        """What there is now. The graces of a kind that cannot be looked at go on."""
        async with self._looking:
            sight = await self._work.look()
            unseen = dict(sight.unseen)
            if suspects := {orphan.thing.id for orphan in self._judged(sight)}:
                # What was being removed and forgotten meanwhile is not there any more.
                sight = await self._work.look()
                unseen |= sight.unseen
            for kind, why in unseen.items():
                log.info("%ss were not looked at for orphans: %s", WORDS[kind], why)
            found = tuple(one for one in self._judged(sight) if one.thing.id in suspects)
            for orphan in found:
                if orphan.thing.id not in self._watched:
                    self._tell(orphan)
            self._watch(found, unseen)
            return Found(found, unseen)

    def _tell(self, orphan: Orphan) -> None:
        what, name = WORDS[orphan.thing.kind], orphan.thing.name
        when = f"it is removed in {self._grace_us // 1_000_000} s" if orphan.due_us else "it stays"
        log.warning("orphan: %s %s: %s; %s", what, name, orphan.why, when)

    def _watch(self, found: tuple[Orphan, ...], unseen: Mapping[OrphanKind, str]) -> None:
        """Remember what is one now, and what nobody could look at."""
        before, now_s = self._watched, self._clock.monotonic_s()
        self._watched = {one: seen for one, seen in before.items() if seen.kind in unseen}
        for orphan in found:
            new = _Watched(orphan.thing.kind, orphan.since_us, now_s)
            self._watched[orphan.thing.id] = before.get(orphan.thing.id, new)

    def _judged(self, sight: Sight) -> tuple[Orphan, ...]:
        now_us, state = self._clock.now_us(), self._projector.state
        since_us = {one: seen.since_us for one, seen in self._watched.items()}
        return orphans(state, sight.things, since_us, now_us, self._grace_us)

    async def find(self, orphan_id: str) -> Thing | None:
        """The orphan with this id, seen now; None when there is none."""
        things = (orphan.thing for orphan in (await self.look()).orphans)
        return next((thing for thing in things if thing.id == orphan_id), None)

    def _lasted(self, orphan_id: str) -> bool:
        """Was it one for the whole grace, also if somebody set the clock meanwhile?"""
        seen = self._watched.get(orphan_id)
        grace_s = self._grace_us / 1_000_000
        return seen is not None and self._clock.monotonic_s() - seen.since_s >= grace_s

    async def _expire(self, found: tuple[Orphan, ...]) -> None:
        """Record what is to go. Nothing while it is not sure that the state is all there is."""
        now_us = self._clock.now_us()
        due = [one for one in found if 0 < one.due_us <= now_us and self._lasted(one.thing.id)]
        try:
            if due and self._projector.folded_seq < await self._ledger.last_seq():
                log.info("%d orphans stay for now: not all records are folded yet", len(due))
                return
            for orphan in due:
                envelope = Envelope(
                    command_id=self._ids.new(),
                    issued_at_us=now_us,
                    command=ExpireOrphan(
                        orphan.thing.id, orphan.thing, orphan.since_us, self._grace_us
                    ),
                    facts=self._facts(),
                    actor="orphans",
                )
                await self._writer.submit(envelope)
        except (LedgerError, ServiceBusy) as error:
            log.warning("orphans are not removed yet: %s", error)
