"""LedgerIntake: a caller's command into the ledger, and its end back to the caller."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from events.operations import OperationFailed, OperationSucceeded
from events.record import Record
from projections.projector import Projector, ProjectorStopped
from projections.state import Operation
from projections.store import ReadStore
from service.application.engine_gate import EngineGate
from service.application.intake import Accepted, Caller
from service.application.orphans import Orphans
from service.application.performer import Performer
from service.application.usage_reader import bill_of
from service.application.watcher import Watcher
from service.application.writer import Writer
from service.disk_ports import HostPaths, VolumeStore
from service.domain.billing import CLOSED_BY, totals_of
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.commands import (
    Envelope,
    Facts,
    PatchReplicaSet,
    QuarantineGpu,
    Request,
    ResizeVolume,
    RestoreGpu,
    RunReplicaSet,
)
from service.domain.decide import VERBS
from service.domain.gpus import applies_for_gpus
from service.domain.months import window_of
from service.domain.orphan_commands import RemoveOrphan
from service.domain.rejections import Reason, Rejected
from service.domain.webhook_commands import WebhookCommand
from service.errors import ServiceBusy
from service.ports import Clock, ExecOutcome, Ids
from service.telemetry import Metrics

log = logging.getLogger(__name__)


CATCH_UP_S_MAX = 3.0
"""So long does a read wait for the read store to show what was written before it."""

STOPPING = "the service is stopping; send it again when it is back"


class LedgerIntake:
    """The one way in for callers' commands."""

    def __init__(
        self,
        writer: Writer,
        projector: Projector,
        store: ReadStore,
        performer: Performer,
        gate: EngineGate,
        clock: Clock,
        ids: Ids,
        facts: Callable[[], Facts],
        metrics: Metrics,
        volumes: VolumeStore,
        paths: HostPaths,
        file_storage_path: str,
        watcher: Watcher,
        orphans: Orphans,
    ) -> None:
        self._writer = writer
        self._projector = projector
        self._store = store
        self._performer = performer
        self._gate = gate
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._metrics = metrics
        self._volumes = volumes
        self._paths = paths
        self._file_storage_path = file_storage_path
        self._watcher = watcher
        self._orphans = orphans
        self._waiting: dict[str, set[asyncio.Future[int]]] = {}
        self._closed = self._released = False
        projector.subscribe(self._on_record)

    async def submit(
        self, command: Request, request: Mapping[str, Any], caller: Caller
    ) -> Accepted | Rejected:
        """See `service.application.intake.Intake`."""
        if self._closed:
            raise ServiceBusy(STOPPING)
        verb = VERBS[type(command)][1]
        operation_id, fingerprint = caller.operation_id or self._ids.new(), ""
        if caller.idempotency_key:
            fingerprint = _fingerprint(command)
            known = await self._known(operation_id)
            if known is not None:
                return _again(known, fingerprint)
        if not isinstance(
            command, QuarantineGpu | RestoreGpu | SetPrice | CloseMonth | WebhookCommand
        ):
            await self._gate.require()
        if applies_for_gpus(self._projector.state, command):
            await self._watcher.refresh()
        if (refused := await self._refused_path(command)) is not None:
            self._metrics.commands.labels(verb, "refused").inc()
            return refused
        envelope = Envelope(
            command_id=operation_id,
            issued_at_us=self._clock.now_us(),
            command=command,
            facts=await self._facts_for(command),
            actor=caller.actor,
            tenant=caller.tenant,
            remote=caller.remote,
            request=dict(request),
            fingerprint=fingerprint,
            traceparent=caller.traceparent,
        )
        answer = await self._writer.submit(envelope)
        if isinstance(answer, Rejected):
            self._metrics.commands.labels(verb, "refused").inc()
            return answer
        self._metrics.commands.labels(verb, "accepted").inc()
        log.info(
            "%s of %s accepted",
            verb,
            command.name,
            extra={
                "seq": answer.seq,
                "command_id": answer.operation_id,
                "operation_id": answer.operation_id,
            },
        )
        return Accepted(answer.operation_id, answer.seq)

    async def _facts_for(self, command: Request) -> Facts:
        """How a volume can change its size depends on how that one was made; what an orphan is, on
        what is there; the totals of a month are made here, as rules read no rows."""
        facts = self._facts()
        if isinstance(command, RemoveOrphan):
            return replace(facts, orphan=await self._orphans.find(command.name))
        if isinstance(command, CloseMonth) and (window := window_of(command.name)) is not None:
            await self.caught_up()
            bill, until_seq = await bill_of(self._store, window, CLOSED_BY)
            return replace(facts, totals=totals_of(command.name, bill, until_seq))
        if not isinstance(command, ResizeVolume):
            return facts
        mounted = await self._volumes.resizes_mounted(command.name)
        return replace(
            facts, volumes_grow_online=mounted.grows, volumes_shrink_online=mounted.shrinks
        )

    async def _refused_path(self, command: Request) -> Rejected | None:
        """Seen here, so that the caller hears of it at once; seen again before it is mounted."""
        for path, shared in _host_paths(command, self._file_storage_path):
            why = await self._paths.refusal(path, shared=shared)
            if why is not None:
                return Rejected(Reason.HOST_PATH_REFUSED, why)
        return None

    async def caught_up(self) -> None:
        """See `service.application.intake.Intake`."""
        seq = self._writer.confirmed_seq
        if self._projector.stored_seq < seq:
            with suppress(ProjectorStopped, TimeoutError):
                async with asyncio.timeout(CATCH_UP_S_MAX):
                    await self._projector.wait_stored(seq)

    def close(self) -> None:
        """Take no more commands: each raises ServiceBusy from now on."""
        self._closed = True

    def release(self) -> None:
        """Let go of all who wait for an operation: it goes on after the next start."""
        self._released = True
        for waiting in self._waiting.values():
            for ended in waiting:
                if not ended.done():
                    ended.set_exception(ProjectorStopped(STOPPING))

    async def wait(self, operation_id: str, timeout_s: float) -> Operation | None:
        """See `service.application.intake.Intake`."""
        if self._released:
            return None
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(operation_id, set())
        waiting.add(ended)
        try:
            async with asyncio.timeout(timeout_s):
                known = await self._known(operation_id)
                if known is None or known.state == "running":
                    await self._projector.wait_stored(await ended)
                else:
                    await self._projector.wait_stored(known.finished_seq or 0)
                return await self._known(operation_id)
        except (TimeoutError, ProjectorStopped):
            return None
        finally:
            waiting.discard(ended)
            if not waiting:
                self._waiting.pop(operation_id, None)

    def output(self, operation_id: str) -> ExecOutcome | None:
        """See `service.application.intake.Intake`."""
        return self._performer.outputs.get(operation_id)

    def _on_record(self, seq: int, record: Record) -> None:
        if not isinstance(record.events[-1], OperationSucceeded | OperationFailed):
            return
        for ended in self._waiting.get(record.operation_id, ()):
            if not ended.done():
                ended.set_result(seq)

    async def _known(self, operation_id: str) -> Operation | None:
        """An operation of any age: recent ones from the fold, the others from the read store."""
        known = self._projector.state.operations.get(operation_id)
        return known or await self._store.operation(operation_id)


def _host_paths(command: Request, file_storage_path: str) -> Iterator[tuple[str, bool]]:
    """The host's directories that a command asks to mount, and whether as file storage."""
    pairs: list[tuple[str, str]] = []
    if isinstance(command, RunReplicaSet):
        pairs = [(bind.source, bind.target) for bind in command.spec.binds]
    elif isinstance(command, PatchReplicaSet):
        pairs = [(bind.source, bind.target) for bind in command.binds]
        if command.bind is not None:
            pairs.append((command.bind.new.source, command.bind.new.target))
    for source, target in pairs:
        if source.startswith("/"):
            yield source, target == file_storage_path


def _fingerprint(command: Request) -> str:
    """A hash of what is asked for, so that a key cannot be used for something else."""
    body = msgspec.json.encode([type(command).__name__, command], order="sorted")
    return hashlib.sha256(body).hexdigest()[:16]


def _again(known: Operation, fingerprint: str) -> Accepted | Rejected:
    if known.fingerprint != fingerprint:
        return Rejected(
            Reason.IDEMPOTENCY_KEY_REUSED,
            f"this Idempotency-Key was used for a {known.verb} of {known.name}"
            f" (operation {known.id}); take another one for another command",
        )
    return Accepted(known.id, known.seq)
