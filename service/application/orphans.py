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
        self._since_us: dict[str, int] = {}
        """By id, of all that were orphans at the last look."""
        self._kinds: dict[str, OrphanKind] = {}
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
            if suspects := {orphan.thing.id for orphan in self._judged(sight)}:
                # What was being removed and forgotten meanwhile is not there any more.
                sight = await self._work.look()
            for kind, why in sight.unseen.items():
                log.info("%ss were not looked at for orphans: %s", WORDS[kind], why)
            found = tuple(one for one in self._judged(sight) if one.thing.id in suspects)
            for orphan in found:
                if orphan.thing.id not in self._since_us:
                    thing = orphan.thing
                    log.warning("orphan: %s %s: %s", WORDS[thing.kind], thing.name, orphan.why)
            kept = {
                one: since_us
                for one, since_us in self._since_us.items()
                if self._kinds[one] in sight.unseen
            }
            self._since_us = kept | {one.thing.id: one.since_us for one in found}
            self._kinds |= {one.thing.id: one.thing.kind for one in found}
            self._kinds = {one: self._kinds[one] for one in self._since_us}
            return Found(found, sight.unseen)

    def _judged(self, sight: Sight) -> tuple[Orphan, ...]:
        now_us, state = self._clock.now_us(), self._projector.state
        return orphans(state, sight.things, self._since_us, now_us, self._grace_us)

    async def find(self, orphan_id: str) -> Thing | None:
        """The orphan with this id, seen now; None when there is none."""
        things = (orphan.thing for orphan in (await self.look()).orphans)
        return next((thing for thing in things if thing.id == orphan_id), None)

    async def _expire(self, found: tuple[Orphan, ...]) -> None:
        """Record what is to go. Nothing while it is not sure that the state is all there is."""
        now_us = self._clock.now_us()
        due = [orphan for orphan in found if 0 < orphan.due_us <= now_us]
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
