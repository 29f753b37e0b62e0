"""The line between one life of the service and the world: delays, faults, and the cut.

What was sent before a crash still arrives: the engine and the ledger do it, and nobody hears of
it. After the cut a dead service sends nothing more, whatever its clean-up tries.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from service.disk_ports import OnProgress
from service.errors import LedgerUnavailable
from service.ports import Entry, ExecOutcome, StoredEntry
from tests.kit.builders import OWNER
from tests.kit.memory_disks import MemoryDisks
from tests.kit.memory_ledger import Fault, MemoryLedger
from tests.kit.memory_volumes import MemoryVolumes
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_service import SimulatedHost

T = TypeVar("T")

LEDGER_DELAYS_S = (0.0, 0.0002, 0.002, 0.01)
ENGINE_DELAYS_S = (0.0, 0.001, 0.02, 0.3)
DELAY_S_MAX = 0.301

# Only what Docker can have a reason to refuse. Nothing is refused that is so already: that is
# the port's promise, and what makes doing an effect again safe.
REFUSABLE = (
    *("create_container", "start_container", "stop_container", "remove_container"),
    *("commit_container", "remove_image", "remove_volume", "execute", "pull_image"),
    "update_container",
)

UNDOES = {
    "remove_container": ("create_container", "start_container", "update_container"),
    "stop_container": ("start_container",),
    "start_container": ("stop_container",),
    "create_container": ("remove_container",),
}

COMMAND: ContextVar[str] = ContextVar("command")
"""The command being executed, which the engine's fault plan and watch are not told."""

LOST = ("before", "after")

ASKING = ("ping", "info", "list_containers")
"""Their replies are lost only while the engine is down."""


@dataclass
class Weather:
    """How the world treats the service at the moment."""

    fault_rate: float = 0.0
    engine_down: bool = False
    ledger_down: bool = False

    def calm(self) -> None:
        """From now on all goes well."""
        self.fault_rate, self.engine_down, self.ledger_down = 0.0, False, False


@dataclass
class Seen:
    """What really happened in the world, told by nobody but itself."""

    executed: Counter[str] = field(default_factory=Counter)
    """By the text of a command: how often it ran."""
    starts: dict[str, list[str]] = field(default_factory=dict)
    """By container: the instants of its starts."""
    meddled: dict[str, set[str]] = field(default_factory=dict)
    """By container: the instants at which somebody else started it."""
    removed: set[str] = field(default_factory=set)
    """Containers that somebody else removed."""
    done: set[tuple[str, str]] = field(default_factory=set)
    """Verbs and names of what was done and not undone."""
    breaches: list[str] = field(default_factory=list)
    """GPUs that two running containers had at the same time, by our own doing."""


class Line:
    """One life's line. `cut` once, by a crash."""

    def __init__(self, rng: Random, weather: Weather) -> None:
        self.rng = rng
        self.weather = weather
        self.is_cut = False
        self._under_way: set[asyncio.Task[object]] = set()

    async def carry(self, delays_s: Sequence[float], do: Callable[[], Awaitable[T]]) -> T:
        """Send it, have it done at the other end, and bring the reply back."""
        await self._if_alive()
        sent = asyncio.ensure_future(self._arrive(self.rng.choice(delays_s), do))
        self._under_way.add(sent)
        sent.add_done_callback(self._arrived)
        reply = await asyncio.shield(sent)
        await asyncio.sleep(self.rng.choice(delays_s))
        await self._if_alive()
        return reply

    async def _arrive(self, delay_s: float, do: Callable[[], Awaitable[T]]) -> T:
        await asyncio.sleep(delay_s)
        return await do()

    def _arrived(self, sent: "asyncio.Task[object]") -> None:
        self._under_way.discard(sent)
        if not sent.cancelled():
            sent.exception()  # nobody may be left to hear it

    async def _if_alive(self) -> None:
        if self.is_cut:
            await asyncio.get_running_loop().create_future()

    def is_bad(self) -> bool:
        """Does this call go wrong?"""
        return self.rng.random() < self.weather.fault_rate


class LineLedger:
    """The port `Ledger` at the end of a line."""

    def __init__(self, line: Line, ledger: MemoryLedger) -> None:
        self._line = line
        self._ledger = ledger

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        """As the port says, in any weather."""
        return await self._line.carry(
            LEDGER_DELAYS_S, lambda: self._append(entries, expected_last_seq)
        )

    async def _append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        self._require()
        if self._line.is_bad():
            faults: tuple[Fault, ...] = ("refused", "lost_reply", "prefix")
            stored = self._line.rng.randrange(len(entries) + 1)
            self._ledger.fail_next(self._line.rng.choice(faults), stored)
        return await self._ledger.append(entries, expected_last_seq)

    async def read(
        self, after_seq: int, until_seq: int | None = None
    ) -> AsyncGenerator[Sequence[StoredEntry], None]:
        """As the port says: it rides out every interruption."""
        async with aclosing(self._ledger.read(after_seq, until_seq)) as batches:
            async for batch in batches:
                await asyncio.sleep(self._line.rng.choice(LEDGER_DELAYS_S))
                yield batch

    async def last_seq(self) -> int:
        """As the port says, in any weather."""
        return await self._line.carry(LEDGER_DELAYS_S, self._last_seq)

    async def _last_seq(self) -> int:
        self._require()
        return await self._ledger.last_seq()

    async def find(self, message_id: str, after_seq: int) -> int | None:
        """As the port says, in any weather."""

        async def find() -> int | None:
            self._require()
            return await self._ledger.find(message_id, after_seq)

        return await self._line.carry(LEDGER_DELAYS_S, find)

    def _require(self) -> None:
        if self._line.weather.ledger_down:
            raise LedgerUnavailable("the ledger is out of reach")


class LineEngine(SimulatedEngine):
    """A simulated engine at the end of a line, which keeps watch over the GPUs."""

    def __init__(self, line: Line, host: SimulatedHost, seen: Seen) -> None:
        super().__init__(host.world, owner=OWNER, faults=self._fault)
        self._line = line
        self._seen = seen

    async def execute(
        self, name: str, cmd: Sequence[str], work_dir: str, output_bytes_max: int
    ) -> ExecOutcome:
        """As the port says; each command has a text of its own, and is counted by it."""
        COMMAND.set(cmd[-1])
        return await super().execute(name, cmd, work_dir, output_bytes_max)

    async def _call(self, verb: str, name: str, do: Callable[[], T]) -> T:
        async def arrive() -> T:
            self.down = self._line.weather.engine_down
            return await super(LineEngine, self)._call(verb, name, lambda: self._do(verb, name, do))

        return await self._line.carry(ENGINE_DELAYS_S, arrive)

    def _fault(self, verb: str, name: str) -> str | None:
        if verb in ASKING or not self._line.is_bad():
            return None
        refusable = verb in REFUSABLE and (verb, name) not in self._seen.done
        return self._line.rng.choice(("before", "after", "refuse") if refusable else LOST)

    def _do(self, verb: str, name: str, do: Callable[[], T]) -> T:
        reply = do()
        self._seen.done.add((verb, name))
        for undone in UNDOES.get(verb, ()):
            self._seen.done.discard((undone, name))
        if verb == "start_container":
            self._note_start(name)
        elif verb == "execute":
            self._seen.executed[COMMAND.get()] += 1
        return reply

    def _note_start(self, name: str) -> None:
        started = self.world.containers[name]
        starts = self._seen.starts.setdefault(name, [])
        if started.started_at not in starts:
            starts.append(started.started_at)
        for other in self.world.containers.values():
            if other.started_at in self._seen.meddled.get(other.name, ()):
                continue
            shared = set(started.gpus()) & set(other.gpus())
            if shared and other is not started and other.status == started.status == "running":
                self._seen.breaches.append(f"{name} and {other.name} run with {shared}")


class LineDisks(MemoryDisks):
    """System disks at the end of a line."""

    def __init__(self, line: Line, host: SimulatedHost) -> None:
        super().__init__(host.world, owner=OWNER, faults=self._fault)
        self.kept, self.put_back_to = host.disks.kept, host.disks.put_back_to
        self.reflink = host.disks.reflink
        self._line = line
        self._host = host

    async def free_bytes(self) -> int | None:
        """As the port says, of the host's disk."""
        self.free = self._host.disks.free
        return await super().free_bytes()

    async def _call(self, verb: str, name: str, do: Callable[[], T]) -> T:
        async def arrive() -> T:
            self.free = self._host.disks.free
            return await super(LineDisks, self)._call(verb, name, do)

        return await self._line.carry(ENGINE_DELAYS_S, arrive)

    def _fault(self, verb: str, name: str) -> str | None:
        # A layer that was moved and says that it was not could not be found again.
        refusable = verb in ("precopy_layer", "fill_layer", "compact_layer")
        kinds = ("before", "after", "refuse") if refusable else LOST
        return self._line.rng.choice(kinds) if self._line.is_bad() else None


class LineVolumes(MemoryVolumes):
    """Disks at the end of a line; those of running containers are mounted."""

    def __init__(self, line: Line, host: SimulatedHost) -> None:
        super().__init__(faults=self._fault)
        self.disks = host.volumes.disks
        self._line = line
        self._world = host.world
        self._wanted: dict[str, int] = {}

    async def _call(self, verb: str, name: str, do: Callable[[], T]) -> T:
        async def arrive() -> T:
            self._mount()
            return await super(LineVolumes, self)._call(verb, name, do)

        return await self._line.carry(ENGINE_DELAYS_S, arrive)

    async def resize(self, name: str, size_bytes: int, on_progress: OnProgress) -> None:
        """As the port says."""
        self._wanted[name] = size_bytes
        await super().resize(name, size_bytes, on_progress)

    def _fault(self, verb: str, name: str) -> str | None:
        disk = self.disks.get(name)
        if disk is not None and verb == "create_disk":
            return None
        if disk is not None and verb == "resize_disk" and disk.size_bytes == self._wanted[name]:
            return None
        # A disk that was resized and says that it was not is a fault nobody could recover from.
        kinds = ("before",) if verb == "resize_disk" else ("before", "after")
        return self._line.rng.choice(kinds) if self._line.is_bad() else None

    def _mount(self) -> None:
        running = [c for c in self._world.containers.values() if c.status == "running"]
        mounts = [m["Source"] for c in running for m in c.host.get("Mounts") or ()]
        in_use = {source.rpartition("-")[0] for source in mounts if source[:1] != "/"}
        for name, disk in self.disks.items():
            disk.mounted = name in in_use
