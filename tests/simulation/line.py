"""The line between one life of the service and the world: delays, faults, and the cut.

What was sent before a crash still arrives: the engine and the ledger do it, and nobody hears of
it. After the cut a dead service sends nothing more, whatever its clean-up tries.

What is sent about one thing is done in the order in which it was sent, as Docker's lock on a
container and a connection see to it; also when its sender has given up, or died.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from service.errors import GpuledgerError

T = TypeVar("T")

DELAY_S_MAX = 0.301
"""After so long all has arrived that does not hang."""

IN_TURN_S = 1e-6

HANGS_OF_FAULTS = 0.1
"""So many of the calls that could go wrong hang."""


@dataclass
class Weather:
    """How the world treats the service at the moment."""

    fault_rate: float = 0.0
    engine_down: bool = False
    ledger_down: bool = False
    engine_hangs_until_s: float = 0.0
    ledger_hangs_until_s: float = 0.0
    turns: dict[str, float] = field(default_factory=dict)
    """By what it is about: when the last thing sent about it is done, or will be."""

    def calm(self) -> None:
        """From now on all goes well, but for what is under way."""
        self.fault_rate, self.engine_down, self.ledger_down = 0.0, False, False
        self.engine_hangs_until_s = self.ledger_hangs_until_s = 0.0


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
    """What must never happen: GPUs that two running containers had by our own doing, say."""
    met: Counter[str] = field(default_factory=Counter)
    """How often each fault, trouble and refusal was met."""


@dataclass(frozen=True)
class Patience:
    """How long a caller waits, and what the adapter raises then."""

    seconds: float
    error: type[GpuledgerError]


class Line:
    """One life's line. `cut` once, by a crash."""

    def __init__(self, life: int, rng: Random, weather: Weather, met: Counter[str]) -> None:
        self.life = life
        self.rng = rng
        self.weather = weather
        self.met = met
        self.is_cut = False
        self._under_way: set[asyncio.Task[object]] = set()

    async def carry(
        self,
        delays_s: Sequence[float],
        do: Callable[[], Awaitable[T]],
        *,
        about: str = "",
        hangs_s: float = 0.0,
        patience: Patience | None = None,
    ) -> T:
        """Send it, have it done at the other end, and bring the reply back.

        It comes after what was sent `about` the same before. One that takes longer than `patience`
        is done all the same, and its reply is heard by nobody.
        """
        await self.if_alive()
        left_s = self._until_done(self.rng.choice(delays_s) + hangs_s, about)
        sent = asyncio.ensure_future(self._arrive(left_s, do))
        self._under_way.add(sent)
        sent.add_done_callback(self._arrived)
        if patience is not None and left_s > patience.seconds:
            await asyncio.sleep(patience.seconds)
            await self.if_alive()
            self.met["answered late"] += 1
            raise patience.error(f"no answer within {patience.seconds:g} s")
        reply = await asyncio.shield(sent)
        await asyncio.sleep(self.rng.choice(delays_s))
        await self.if_alive()
        return reply

    def _until_done(self, delay_s: float, about: str) -> float:
        """From now until it is its turn."""
        now_s = asyncio.get_running_loop().time()
        done_s = now_s + delay_s
        if about:
            done_s = max(done_s, self.weather.turns.get(about, 0.0) + IN_TURN_S)
            self.weather.turns[about] = done_s
        return done_s - now_s

    async def _arrive(self, delay_s: float, do: Callable[[], Awaitable[T]]) -> T:
        await asyncio.sleep(delay_s)
        return await do()

    def _arrived(self, sent: "asyncio.Task[object]") -> None:
        self._under_way.discard(sent)
        if not sent.cancelled():
            sent.exception()  # nobody may be left to hear it

    async def if_alive(self) -> None:
        """Return when it is not cut; after the cut it never does."""
        if self.is_cut:
            await asyncio.get_running_loop().create_future()

    def is_bad(self) -> bool:
        """Does this call go wrong?"""
        return self.rng.random() < self.weather.fault_rate

    def hang_s(self, until_s: float, hangs_s: Sequence[float], what: str) -> float:
        """How long a call hangs: for itself, or because all do until then."""
        left_s = until_s - asyncio.get_running_loop().time()
        if left_s > 0:
            self.met[f"{what} hung"] += 1
            return left_s
        if hangs_s and self.is_bad() and self.rng.random() < HANGS_OF_FAULTS:
            self.met[f"{what}: one call hung"] += 1
            return self.rng.choice(hangs_s)
        return 0.0
