"""Observer: what becomes of containers without anybody asking the service becomes events.

It listens to the engine's stream, which has gaps: so whenever it begins to listen, and every
minute, all containers are looked at. The stream only says where to look; what counts is what the
engine shows then, asked anew.

Of a replica set that something goes on with nothing is recorded, since the executor reports that
itself. It is looked at again as soon as nothing does: its container may have ended meanwhile.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from zlib import crc32

from msgspec import Struct

from events.labels import LABEL_NAME, LABEL_NODE, LABEL_OWNER
from events.record import Record
from events.values import split_versioned, versioned
from projections.projector import Projector
from service.application.instants import instant_us
from service.application.writer import Writer
from service.domain.commands import Envelope, Facts
from service.domain.observing import UP, observed, observes
from service.domain.observing_commands import ObserveContainer, SeenContainer
from service.domain.rejections import Rejected
from service.errors import (
    EngineError,
    EngineRefused,
    EngineUnavailable,
    LedgerError,
    ServiceBusy,
)
from service.ports import LISTENING, Clock, ContainerEngine, Ids, ObservedContainer

log = logging.getLogger(__name__)

LOOK_EVERY_S = 60.0
AGAIN_S = 1.0
"""After the stream broke, or what was seen was not recorded: so long until it is tried again."""

AWAY_MARGIN_S = 30.0
"""A container that ended so shortly before the engine was missed ended with it: the engine stops
containers first, and its stream goes silent up to 16 s late."""

AWAYS_KEPT = 8

ENDED_FROM_OUTSIDE = (137, 143, 255)
"""Killed, told to end, or lost: what a container that ended with its engine or host shows."""


class _Away(Struct):
    """When the engine was away, or nobody was here to look."""

    since_us: int
    """Of the time before this start: 0."""
    until_us: int | None = None
    """None until everything was looked at again."""


class Observer:
    """`run` looks until it is cancelled."""

    def __init__(
        self,
        engine: ContainerEngine,
        writer: Writer,
        projector: Projector,
        clock: Clock,
        ids: Ids,
        facts: Callable[[], Facts],
        owner: str,
        node: str,
    ) -> None:
        self._engine = engine
        self._writer = writer
        self._projector = projector
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._labels = {LABEL_OWNER: owner, LABEL_NODE: node}
        self._aways = deque([_Away(0)], AWAYS_KEPT)
        self._seen_us = 0
        """When the engine last answered."""
        self._misses = 0
        self._wanted: dict[str, None] = {}
        """Containers to look at; LISTENING is all of them."""
        self._put_off: set[str] = set()
        """Replica sets that could not be compared when they were looked at."""
        self._unrecorded = asyncio.Event()
        """What was seen of one of them was not taken: it is looked at again after a pause."""
        self._wake = asyncio.Event()
        projector.subscribe(self._on_record)

    def _on_record(self, seq: int, record: Record) -> None:
        if self._put_off:
            self._wake.set()

    async def run(self) -> None:
        """Listen, look, and begin again whenever the engine was away."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._tick())
            group.create_task(self._look_on())
            group.create_task(self._look_again())

    async def _listen(self) -> None:
        """Only note where to look, so that the end of the stream is noticed while that is done."""
        while True:
            try:
                async with aclosing(self._engine.changes()) as names:
                    async for name in names:
                        self._want(name)
            except EngineRefused as error:
                log.warning("the engine does not tell its events: %s", error)
                await self._clock.sleep(LOOK_EVERY_S)
            except EngineUnavailable as error:
                self._missed(error)
            await self._clock.sleep(AGAIN_S)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            self._want(LISTENING)

    async def _look_again(self) -> None:
        while True:
            await self._unrecorded.wait()
            await self._clock.sleep(AGAIN_S)
            self._unrecorded.clear()
            self._wake.set()

    def _want(self, name: str) -> None:
        self._wanted[name] = None
        self._wake.set()

    async def _look_on(self) -> None:
        """At what is wanted, and at what was put off as soon as that makes sense."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._want_put_off()
            while self._wanted:
                # Taken first: what happens to it while it is looked at is a look of its own.
                name = next(iter(self._wanted))
                del self._wanted[name]
                try:
                    await (self.look() if name == LISTENING else self.look_at(name))
                except EngineError as error:
                    self._missed(error)
                    self._want(name)
                    await self._clock.sleep(AGAIN_S)

    def _want_put_off(self) -> None:
        state = self._projector.state
        for name in sorted(self._put_off):
            replica_set = state.live(name)
            if replica_set is None:
                self._put_off.discard(name)
            elif observes(state, name):
                self._put_off.discard(name)
                self._wanted[versioned(name, replica_set.current)] = None

    async def look(self) -> None:
        """Compare all containers with the ledger. Raises EngineError."""
        at_seq, misses = self._projector.folded_seq, self._misses
        shown = await self._engine.list_containers(self._labels)
        self._seen_us = self._clock.now_us()
        away, until_us = self._aways[-1], self._seen_us
        by_id = {container.id: container for container in shown}
        by_name = {container.name: container for container in shown}
        for replica_set in tuple(self._projector.state.replica_sets.values()):
            revision = self._projector.state.revisions.get((replica_set.name, replica_set.current))
            if revision is not None:
                # Also under another name: somebody may have renamed it, or another one to its name.
                named = by_name.get(versioned(revision.name, revision.number))
                if named is not None and named.labels.get(LABEL_NAME) != revision.name:
                    named = None
                found = by_id.get(revision.container_id) or named
                await self._observe(revision.name, found, at_seq)
        if misses == self._misses and away.until_us is None:
            away.until_us = until_us

    async def look_at(self, container: str) -> None:
        """Compare one container with the ledger. Raises EngineError."""
        at_seq = self._projector.folded_seq
        version = split_versioned(container)
        replica_set = self._projector.state.live(version[0]) if version is not None else None
        if replica_set is None:
            return
        if not observes(self._projector.state, replica_set.name):
            # Whichever version it is: an operation that fails goes back to the one before.
            self._put_off.add(replica_set.name)
            return
        if version != (replica_set.name, replica_set.current):
            return
        shown = await self._engine.inspect_container(container)
        ours = {**self._labels, LABEL_NAME: replica_set.name}.items()
        if shown is None or not ours <= shown.labels.items():
            await self.look()
            return
        self._seen_us = self._clock.now_us()
        await self._observe(replica_set.name, shown, at_seq)

    def _missed(self, error: EngineError) -> None:
        """The engine is away since it was last seen."""
        log.info("containers could not be looked at: %s", error)
        self._misses += 1
        if self._aways[-1].until_us is not None:
            self._aways.append(_Away(self._seen_us))

    async def _observe(self, name: str, shown: ObservedContainer | None, at_seq: int) -> None:
        state = self._projector.state
        replica_set = state.live(name)
        if replica_set is None:
            return
        if not observes(state, name):
            self._put_off.add(name)
            return
        if state.revisions[name, replica_set.current].seen_seq > at_seq:
            # What was seen is older than what is folded by now, so looking again gets further.
            self._put_off.add(name)
            self._wake.set()
            return
        seen = None
        if shown is not None:
            runs = state.revisions[name, replica_set.current].container == "running"
            seen = await self._seen(shown, is_news=runs and shown.status not in UP)
        command_id, now_us = self._ids.new(), self._clock.now_us()
        jitter = crc32(command_id.encode()) / 0xFFFFFFFF
        command = ObserveContainer(name, seen, at_seq, jitter)
        if not observed(state, now_us, command):
            return
        envelope = Envelope(command_id, now_us, command, self._facts(), actor="observer")
        try:
            if not isinstance(await self._writer.submit(envelope), Rejected):
                return
            # It was decided on what is not folded yet here: the next record may be that.
        except (LedgerError, ServiceBusy) as error:
            log.warning("what was seen of %s was not recorded yet: %s", name, error)
        self._put_off.add(name)
        self._unrecorded.set()

    async def _seen(self, shown: ObservedContainer, *, is_news: bool) -> SeenContainer:
        """`is_news`: it has ended, and the ledger does not know."""
        with_engine = is_news and not shown.oom_killed and self._ended_while_away(shown)
        if is_news and not shown.oom_killed and not with_engine:
            await self._require_staying()
            with_engine = self._ended_while_away(shown)
        return SeenContainer(
            status=shown.status,
            exit_code=shown.exit_code,
            started_at=shown.started_at,
            finished_at=shown.finished_at,
            oom_killed=shown.oom_killed,
            ran_s=max(0, instant_us(shown.finished_at) - instant_us(shown.started_at)) / 1e6,
            with_engine=with_engine,
        )

    async def _require_staying(self) -> None:
        """Note it when the engine is on its way down: before it stops its containers it takes no
        new connections, but answers on those that it has (measured, 20.10). Where another
        program listens for it, the new engine answers, and the old stream has ended by then."""
        try:
            async with aclosing(self._engine.changes()) as names:
                await anext(names)
        except EngineUnavailable as error:
            self._missed(error)
        except EngineRefused as error:
            log.info("whether the engine stays could not be asked: %s", error)

    def _ended_while_away(self, shown: ObservedContainer) -> bool:
        return any(self._ended_in(shown, away) for away in self._aways)

    @staticmethod
    def _ended_in(shown: ObservedContainer, away: _Away) -> bool:
        finished_us = instant_us(shown.finished_at)
        if away.until_us is not None and finished_us > away.until_us:
            return False
        if finished_us < away.since_us - AWAY_MARGIN_S * 1e6:
            return False
        # Before this start nobody looked: the host may have been restarted, or not.
        return away.since_us > 0 or shown.exit_code in ENDED_FROM_OUTSIDE
