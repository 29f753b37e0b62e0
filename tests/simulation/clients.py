"""Clients of a simulation: what they ask for, and what they were told about it."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any, Protocol

from msgspec import Struct

from events.billing import Meter
from projections.state import Operation, State
from service.application.intake import Accepted
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.commands import (
    BindAt,
    CommitReplicaSet,
    ContinueReplicaSet,
    CreateVolume,
    DebugReplicaSet,
    DeleteReplicaSet,
    DeleteVolume,
    ExecuteInReplicaSet,
    PatchReplicaSet,
    PauseReplicaSet,
    PinRevision,
    QuarantineGpu,
    Request,
    RestartReplicaSet,
    RestoreGpu,
    RollBackReplicaSet,
    StopReplicaSet,
    UnpinRevision,
)
from service.domain.rejections import Rejected
from service.errors import EngineUnavailable, LedgerUnavailable, ServiceBusy
from tests.kit.builders import GIB, IMAGE, mount, patch, remount, resize, run
from tests.kit.simulated_programs import NO_SUCH_COMMAND
from tests.simulation.webhook_clients import a_webhook_command

NAMES = ("ann", "bob", "cid", "dee")
VOLUMES = ("vol", "wal")
PULLED = "pulled:1"
MISSING = "missing:1"
FORBIDDEN = "/forbidden"
"""A directory of the host that may not be mounted."""

PATIENCE_S = 60.0
AGAIN_S = 0.5


class ConnectionLost(Exception):
    """The service died before it answered: what became of the request is not known."""


class Told(Struct):
    """What a client was told of one command, found again in the ledger by its ticket."""

    ticket: str
    accepted: Accepted | None = None
    stored: bool | None = None
    """None when it was not told whether the command was stored."""
    ended: Operation | None = None


class Town(Protocol):
    """Where clients find the service, also after it was away."""

    @property
    def key_id(self) -> str:
        """Of the key that the service has for the secrets of webhooks."""
        ...

    @property
    def state(self) -> State:
        """What the service of now knows, for clients to choose something sensible."""
        ...

    async def submit(self, command: Request, ticket: str, key: str) -> Accepted | Rejected:
        """Send a command. Raises ConnectionLost besides what the intake raises."""
        ...

    async def wait(self, operation_id: str) -> Operation | None:
        """Wait for an end. Raises ConnectionLost."""
        ...


class Client:
    """Sends `count` commands, one after the other."""

    def __init__(
        self, name: str, town: Town, rng: Random, count: int, names: Sequence[str]
    ) -> None:
        """Its commands are about replica sets of these `names`."""
        self._name = name
        self._names = names
        self._town = town
        self._rng = rng
        self._count = count
        self.told: list[Told] = []

    async def run(self) -> None:
        """All of them; some with an idempotency key, some without patience."""
        for number in range(self._count):
            await asyncio.sleep(self._rng.choice((0.0, 0.01, 0.3, 2.0)))
            ticket = f"{self._name}-{number}"
            name = self._rng.choice(self._names)
            command = a_command(self._rng, self._town, ticket, name)
            key = ticket if self._rng.random() < 0.5 else ""
            if number and self._rng.random() < 0.03:
                # By mistake it takes a key that it may have used before, for something else.
                key, command = f"{self._name}-{number - 1}", QuarantineGpu("gpu-9", ticket)
            told = Told(ticket)
            self.told.append(told)
            await self._send(told, command, key)
            if told.accepted is not None and self._rng.random() < 0.7:
                await self._wait(told, told.accepted.operation_id)

    async def _send(self, told: Told, command: Request, key: str) -> None:
        """Until there is an answer, where a key makes that safe."""
        while True:
            try:
                answer = await self._town.submit(command, told.ticket, key)
            except ConnectionLost:
                told.stored = None
            except LedgerUnavailable as error:
                told.stored = False if "nothing was stored" in str(error) else None
            except (EngineUnavailable, ServiceBusy):
                told.stored = False
            else:
                told.accepted = answer if isinstance(answer, Accepted) else None
                told.stored = isinstance(answer, Accepted)
                return
            if not key:
                return
            await asyncio.sleep(AGAIN_S)

    async def _wait(self, told: Told, operation_id: str) -> None:
        try:
            told.ended = await self._town.wait(operation_id)
        except ConnectionLost:
            return


def a_command(rng: Random, town: Town, ticket: str, name: str) -> Request:
    """Something to ask for; mostly of what is there, now and then of what is not."""
    state = town.state
    volume = rng.choice(VOLUMES)
    if rng.random() < 0.2:
        return _volume_command(rng, state, volume)
    if rng.random() < 0.06:
        return _gpu_command(rng, state)
    if rng.random() < 0.03:
        return _money_command(rng)
    if rng.random() < (0.15 if state.webhooks else 0.04):
        return a_webhook_command(rng, state, town.key_id)
    if state.live(name) is None and rng.random() < 0.9:
        return _run(rng, state, name, volume)
    match rng.choice("eeeeepppppprrbbbsucctddnnxgg"):
        case "e":
            script = f"echo {ticket} > /data/{ticket}"
            return ExecuteInReplicaSet(name, ("sh", "-c", script))
        case "p":
            return _patch(rng, state, name, volume)
        case "r":
            return RestartReplicaSet(name)
        case "b":
            return RollBackReplicaSet(name, _kept(rng, state, name))
        case "n":
            return PinRevision(name, _kept(rng, state, name))
        case "x":
            return UnpinRevision(name, _kept(rng, state, name))
        case "s":
            return StopReplicaSet(name)
        case "u":
            return PauseReplicaSet(name)
        case "c":
            return ContinueReplicaSet(name)
        case "g":
            free = [other for other in NAMES if state.live(other) is None]
            copy = rng.choice((*free, *free, *NAMES))
            return DebugReplicaSet(copy, name, _kept(rng, state, name), rng.choice((0, 0, 1)))
        case "t":
            return CommitReplicaSet(name, f"saved:{ticket}")
        case _:
            return DeleteReplicaSet(name)


def _kept(rng: Random, state: State, name: str) -> int:
    """A version whose disk can be had back; now and then one that cannot, or never was."""
    known = state.live(name)
    newest = known.newest if known else 1
    return rng.choice((*(known.snapshots if known else ()), rng.randint(1, newest), newest, 9))


def _run(rng: Random, state: State, name: str, volume: str) -> Request:
    image = rng.choice((*[IMAGE] * 8, PULLED, MISSING))
    cmd = (NO_SUCH_COMMAND,) if rng.random() < 0.05 else ("sleep", "600")
    disk = GIB if rng.random() < 0.3 else None
    mounts = (_version(state, volume),) if rng.random() < 0.3 else ()
    count, ports = rng.choice((0, 1, 1, 2)), rng.choice((0, 1, 2))
    kept_up: dict[str, Any] = {}
    if rng.random() < 0.5:
        kept_up = {"on_exit": "restart", "max_retries": rng.choice((0, 1, 3))}
    kept_up["on_gpu_lost"] = rng.choice(("none", "restart"))
    return run(name, count, ports, mounts, disk, image=image, cmd=cmd, **kept_up)


def _patch(rng: Random, state: State, name: str, volume: str) -> PatchReplicaSet:
    known = state.live(name)
    revision = state.revisions.get((name, known.current)) if known else None
    if revision is not None and revision.spec.binds and rng.random() < 0.3:
        old, other = revision.spec.binds[0], revision.spec.binds[-1]
        target = rng.choice((old.target, old.target, other.target))
        return remount(old, mount(_version(state, volume), target), name)
    match rng.choice("mmmeibc"):
        case "m":
            return patch(name, memory_bytes=rng.choice((0, 1, 1, 2, 2, 3)) * GIB)
        case "e":
            return patch(name, env=rng.choice((("A=1",), ("A=2", "B=1"), ("A",))))
        case "i":
            return patch(name, image=rng.choice((IMAGE, IMAGE, PULLED, MISSING)))
        case "b":
            source = rng.choice((_version(state, volume), "/data", FORBIDDEN, ""))
            binds = revision.spec.binds if revision is not None else ()
            target = rng.choice(("/x", *(bind.target for bind in binds)))
            return patch(name, binds=(BindAt(source, target),))
        case _:
            pass
    return patch(name, rng.choice((0, 1, 2, 3)))


def _money_command(rng: Random) -> Request:
    """Prices from before the simulation begins and from within it; its month is never over."""
    if rng.random() < 0.5:
        return CloseMonth(rng.choice(("2025-12", "2025-11", "2026-01")))
    meter: Meter = rng.choice(("gpu", "cpu", "volume"))
    return SetPrice(meter, rng.choice(("1", "2.5")), "EUR", rng.choice((0, 1_767_225_601_000_000)))


def _gpu_command(rng: Random, state: State) -> Request:
    """Mostly what ends a quarantine, so that there are GPUs to lend."""
    sick = [gpu.uuid for gpu in state.gpus.values() if gpu.quarantine is not None]
    if sick and rng.random() < 0.7:
        return RestoreGpu(rng.choice(sick))
    command = rng.choice((QuarantineGpu, RestoreGpu))
    uuid = rng.choice((*sorted(state.gpus), "gpu-9"))
    return RestoreGpu(uuid) if command is RestoreGpu else QuarantineGpu(uuid, "it smells")


def _volume_command(rng: Random, state: State, volume: str) -> Request:
    if state.live_volume(volume) is None:
        return CreateVolume(volume, rng.choice((1, 2)) * GIB)
    if rng.random() < 0.8:
        return resize(volume, rng.choice((1, 2, 3)))
    return DeleteVolume(volume)


def _version(state: State, volume: str) -> str:
    known = state.live_volume(volume)
    return f"{volume}-{known.current if known else 1}"
