"""The engine at the end of a line: replies lost, late or refused, and calls that hang."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import TypeVar

from service.errors import EngineUnavailable
from service.ports import ExecOutcome
from tests.kit.builders import OWNER
from tests.kit.simulated_engine import SimulatedEngine
from tests.kit.simulated_service import SimulatedHost
from tests.simulation.line import Line, Patience, Seen

T = TypeVar("T")

ENGINE_DELAYS_S = (0.0, 0.001, 0.02, 0.3)
HANGS_S = (3.0, 15.0, 45.0, 90.0)

# Only what Docker can have a reason to refuse. Nothing is refused that is so already: that is
# the port's promise, and what makes doing an effect again safe.
REFUSABLE = (
    *("create_container", "start_container", "stop_container", "remove_container"),
    *("commit_container", "remove_image", "remove_volume", "execute", "pull_image"),
    *("update_container", "tag_image"),
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
"""No reply: nothing was done, or all was."""

TELLING = ("before", "ends", "late", "again", "behind")
"""What goes wrong with the stream of events."""

ASKING = ("ping", "info", "list_containers")
"""Their replies are lost only while the engine is down."""

PATIENCE = Patience(60.0, EngineUnavailable)
PATIENCES = {
    "ping": Patience(2.0, EngineUnavailable),
    "changes": Patience(8.0, EngineUnavailable),
    "commit_container": Patience(3600.0, EngineUnavailable),
    "pull_image": None,
    "execute": None,
}
"""As long as the adapter waits; None is for ever."""

OUT_OF_TURN = ("changes", "execute")
"""Docker takes no lock for these that others would wait for."""


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

        return await self._line.carry(
            ENGINE_DELAYS_S,
            arrive,
            about="" if verb in OUT_OF_TURN else name,
            hangs_s=self._hangs_s(verb),
            patience=PATIENCES.get(verb, PATIENCE),
        )

    def _hangs_s(self, verb: str) -> float:
        until_s = self._line.weather.engine_hangs_until_s
        return self._line.hang_s(until_s, () if verb in ASKING else HANGS_S, "engine")

    def _fault(self, verb: str, name: str) -> str | None:
        if verb in ASKING or not self._line.is_bad():
            return None
        kinds: tuple[str, ...] = LOST
        if verb == "changes" and name:
            kinds = TELLING
        elif verb in REFUSABLE and (verb, name) not in self._seen.done:
            kinds = (*LOST, "refuse")
        fault = self._line.rng.choice(kinds)
        self._line.met[f"engine: {verb} {fault}"] += 1
        return fault

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
