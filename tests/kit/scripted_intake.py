"""A small Intake and read model in memory, complete as far as the web layer can tell.

Every command is accepted and, unless told otherwise, has succeeded at once with the result that
the contract names. A test scripts what differs: refusals, errors, operations that take their time.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from projections.queries import OwnAct
from projections.state import GpuUnit, Operation, PortLease, ReplicaSet, Revision, State, Volume
from projections.webhook_book import Webhook
from service.application.health import Component
from service.application.intake import Accepted, Caller
from service.disk_ports import DiskRef, FileChanges
from service.domain.commands import Request
from service.domain.decide import VERBS
from service.domain.rejections import Reason, Rejected
from service.ports import ExecOutcome
from tests.kit.memory_usage import MemoryUsage

RESULTS: Mapping[str, dict[str, Any]] = {
    "run": {"name": "foo-1"},
    "patch": {"containerName": "foo-2"},
    "rollback": {"containerName": "foo-3"},
    "restart": {"containerName": "foo-4"},
    "debug": {"name": "bug-1", "debugOf": "foo@3"},
    "commit": {"imageName": "saved:1"},
    "execute": {"exitCode": 3, "durationMs": 5, "stdoutBytes": 4, "stderrBytes": 0},
    "create": {"name": "bar-1", "size": "20GB"},
    "resize": {"name": "bar-2", "size": "30GB"},
}
"""What an operation gives, by verb; the other verbs give nothing."""

Comparison = tuple[DiskRef, DiskRef, int]
"""Two system disks that were to be compared, and how many files to list."""


class Submitted(Struct, frozen=True):
    """A command as it came in."""

    command: Request
    request: Mapping[str, Any]
    caller: Caller


class MemoryReads(MemoryUsage):
    """The read model: plain rows that a test puts in."""

    def __init__(self) -> None:
        super().__init__()
        self.sets: dict[str, ReplicaSet] = {}
        self.versions: dict[str, list[Revision]] = {}
        self.volume_rows: dict[str, Volume] = {}
        self.gpu_rows: list[GpuUnit] = []
        self.port_rows: list[PortLease] = []
        self.webhook_rows: dict[str, Webhook] = {}
        self.operation_rows: dict[str, Operation] = {}
        self.act_rows: list[OwnAct] = []

    def state(self) -> State:
        """The fold that these rows are of, as far as versions go."""
        state = State()
        for versions in self.versions.values():
            state.revisions |= {(one.name, one.number): one for one in versions}
        return state

    async def replica_set(self, name: str) -> ReplicaSet | None:
        return self.sets.get(name)

    async def replica_sets(self) -> Sequence[ReplicaSet]:
        return [self.sets[name] for name in sorted(self.sets) if self.sets[name].current]

    async def revision(self, name: str, number: int) -> Revision | None:
        return next((r for r in self.versions.get(name, ()) if r.number == number), None)

    async def revisions(self, name: str) -> Sequence[Revision]:
        return sorted(self.versions.get(name, ()), key=lambda r: -r.number)

    async def volume(self, name: str) -> Volume | None:
        return self.volume_rows.get(name)

    async def volumes(self) -> Sequence[Volume]:
        rows = self.volume_rows
        return [rows[name] for name in sorted(rows) if not rows[name].deleted]

    async def gpus(self) -> Sequence[GpuUnit]:
        return sorted(self.gpu_rows, key=lambda gpu: gpu.index)

    async def ports(self) -> Sequence[PortLease]:
        return sorted(self.port_rows, key=lambda port: port.host_port)

    async def webhooks(self) -> Sequence[Webhook]:
        return [self.webhook_rows[name] for name in sorted(self.webhook_rows)]

    async def webhook(self, name: str) -> Webhook | None:
        return self.webhook_rows.get(name)

    async def operation(self, operation_id: str) -> Operation | None:
        return self.operation_rows.get(operation_id)

    async def operations(
        self, limit: int, before_seq: int | None = None, name: str | None = None
    ) -> Sequence[Operation]:
        newest = sorted(self.operation_rows.values(), key=lambda one: -one.seq)
        found = [
            one
            for one in newest
            if (before_seq is None or one.seq < before_seq) and name in (None, one.name)
        ]
        return found[:limit]


    async def own_acts(self, limit: int, before_seq: int) -> Sequence[OwnAct]:
        return [one for one in self.act_rows[::-1] if one.seq < before_seq][:limit]


class ScriptedIntake:
    """Accepts every command, except where `answers` says otherwise."""

    def __init__(self, reads: MemoryReads) -> None:
        self.submitted: list[Submitted] = []
        self.answers: deque[Rejected | Exception] = deque()
        """What the next commands get instead of being accepted."""
        self.held = False
        """While True an accepted operation stays in progress until `finish`."""
        self.failure: tuple[str, str] | None = None
        """Reason and message with which operations end, instead of succeeding."""
        self.results = dict(RESULTS)
        self.outputs: dict[str, ExecOutcome] = {}
        self.next_output: ExecOutcome | None = None
        self.waiting = asyncio.Event()
        self.abandoned = asyncio.Event()
        """Set when a caller that waited has gone away."""
        self._reads = reads
        self._ended: dict[str, asyncio.Event] = {}
        self._keys: dict[str, tuple[Accepted, Request]] = {}

    async def caught_up(self) -> None:
        """Always: what is scripted is there."""

    async def submit(
        self, command: Request, request: Mapping[str, Any], caller: Caller
    ) -> Accepted | Rejected:
        self.submitted.append(Submitted(command, request, caller))
        if self.answers:
            scripted = self.answers.popleft()
            if isinstance(scripted, Exception):
                raise scripted
            return scripted
        if caller.idempotency_key and caller.idempotency_key in self._keys:
            first, asked = self._keys[caller.idempotency_key]
            if asked == command:
                return first
            return Rejected(Reason.IDEMPOTENCY_KEY_REUSED, "the key was used for something else")
        seq = len(self._reads.operation_rows) + 1
        accepted = Accepted(f"op-{seq}", seq)
        if caller.idempotency_key:
            self._keys[caller.idempotency_key] = accepted, command
        self._accept(accepted, command, request)
        return accepted

    def _accept(self, accepted: Accepted, command: Request, request: Mapping[str, Any]) -> None:
        kind, verb = VERBS[type(command)]
        self._reads.operation_rows[accepted.operation_id] = Operation(
            id=accepted.operation_id,
            seq=accepted.seq,
            verb=verb,
            kind=kind,
            name=command.name,
            accepted_us=1_700_000_000_000_000,
            request=dict(request),
        )
        self._ended[accepted.operation_id] = asyncio.Event()
        if verb == "execute" and self.next_output is not None:
            self.outputs[accepted.operation_id] = self.next_output
        if not self.held:
            self.finish(accepted.operation_id)

    def finish(self, operation_id: str) -> None:
        """End an operation, as `failure` says."""
        row = self._reads.operation_rows[operation_id]
        if self.failure is None:
            ended = replace(row, state="succeeded", result=self.results.get(row.verb, {}))
        else:
            reason, message = self.failure
            ended = replace(row, state="failed", reason=reason, message=message)
        self._reads.operation_rows[operation_id] = replace(
            ended, finished_us=row.accepted_us + 1, finished_seq=row.seq + 1
        )
        self._ended[operation_id].set()

    async def wait(self, operation_id: str, timeout_s: float) -> Operation | None:
        self.waiting.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._ended[operation_id].wait()
        except TimeoutError:
            return None
        except asyncio.CancelledError:
            self.abandoned.set()
            raise
        return self._reads.operation_rows[operation_id]

    def output(self, operation_id: str) -> ExecOutcome | None:
        return self.outputs.get(operation_id)


class ScriptedComparison:
    """Compares system disks as a test says, and remembers which."""

    def __init__(self) -> None:
        self.asked: list[Comparison] = []
        self.answer: FileChanges | Exception = FileChanges((), 0, 0, 0)

    async def __call__(self, old: DiskRef, new: DiskRef, listed_max: int) -> FileChanges:
        self.asked.append((old, new, listed_max))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class SetHealth:
    """Health as a test sets it."""

    def __init__(self) -> None:
        self.components = {"ledger": Component(True, "seq 7"), "docker": Component(True, "26.1")}

    async def report(self) -> dict[str, Component]:
        return self.components


class CountedIds:
    """Ids that a test can foresee."""

    def __init__(self) -> None:
        self._count = 0

    def new(self) -> str:
        self._count += 1
        return f"id-{self._count}"
