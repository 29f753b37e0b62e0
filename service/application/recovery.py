"""Recovery: what a host lost is made again, by the executor, as the ledger says.

It sends the commands of the plan before anything is done, and then waits. All that it remembers is
what it has sent: killed at any point, it looks again when it is run again, and goes on.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from events.record import Record
from projections.projector import Projector, ProjectorStopped
from projections.state import Operation, State
from service.application.host_sight import look
from service.application.writer import Writer
from service.disk_ports import HostPaths, SystemDisks, VolumeStore
from service.domain.commands import Envelope, Facts
from service.domain.recovery_plan import Outcome, Plan, Recover, plan
from service.domain.rejections import Rejected
from service.errors import LedgerError
from service.ports import Clock, ContainerEngine, Ids

LOOK_EVERY_S = 1.0
"""So often at least it is looked whether a part has failed."""


class Recovery:
    """`run` makes again what the host has not. The executor must not run before `begin`."""

    def __init__(
        self,
        engine: ContainerEngine,
        volumes: VolumeStore,
        disks: SystemDisks,
        paths: HostPaths,
        projector: Projector,
        writer: Writer,
        clock: Clock,
        ids: Ids,
        facts: Callable[[], Facts],
        failures: Callable[[], str | None],
    ) -> None:
        """`failures` says which part of the service has failed, so that nothing more will come."""
        self._engine = engine
        self._volumes = volumes
        self._disks = disks
        self._paths = paths
        self._projector = projector
        self._writer = writer
        self._clock = clock
        self._ids = ids
        self._facts = facts
        self._failures = failures
        self._watched: set[str] = set()
        """Operations that are to end."""
        self._sent: set[tuple[type[Recover], str]] = set()
        self._moved = asyncio.Event()
        projector.subscribe(self._on_record)

    def _on_record(self, seq: int, record: Record) -> None:
        self._moved.set()

    async def plan(self) -> Plan:
        """What would be sent now. Raises EngineError, SystemDiskError, VolumeStoreError."""
        state = self._projector.state
        sight = await look(self._engine, self._volumes, self._disks, self._paths, state)
        return plan(state, sight, self._facts(), self._clock.now_us())

    async def begin(self, planned: Plan) -> None:
        """Record all that the plan says. Raises LedgerError."""
        self._watched |= _running(self._projector.state)
        for command in planned.commands:
            await self._send(command)

    async def finish(self) -> tuple[Outcome, ...]:
        """Wait for the end of all that goes on; what that uncovers is made again as well.

        A patch that had failed goes back to a version that was lost: that one comes after it.
        Raises LedgerError, and what `plan` raises.
        """
        await self._rest()
        left = [one for one in (await self.plan()).commands if not self._was_sent(one)]
        for command in left:
            await self._send(command)
        await self._rest()
        known = self._projector.state.operations
        ended = (known[one] for one in self._watched if one in known)
        return tuple(_outcome(one) for one in sorted(ended, key=lambda one: one.seq))

    def _was_sent(self, command: Recover) -> bool:
        return (type(command), command.name) in self._sent

    async def _send(self, command: Recover) -> None:
        command_id = self._ids.new()
        envelope = Envelope(
            command_id, self._clock.now_us(), command, self._facts(), actor="service"
        )
        receipt = await self._writer.submit(envelope)
        if isinstance(receipt, Rejected):
            return
        try:
            await self._projector.wait_folded(receipt.seq)
        except ProjectorStopped as error:
            raise LedgerError(f"the log cannot be folded: {error}") from error
        operation = self._projector.state.operations.get(command_id)
        if operation is not None:
            self._sent.add((type(command), command.name))
            self._watched.add(command_id)

    async def _rest(self) -> None:
        """Return when no operation goes on, as far as the records that are stored say."""
        while _running(self._projector.state):
            if (failed := self._failures()) is not None:
                raise LedgerError(f"{failed}; put that right, and run it again: it goes on")
            self._moved.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), LOOK_EVERY_S)


def _running(state: State) -> set[str]:
    return {one.id for one in state.operations.values() if one.state == "running"}


def _outcome(operation: Operation) -> Outcome:
    return Outcome(
        operation.kind,
        operation.name,
        operation.verb,
        operation.state == "succeeded",
        operation.message,
    )
