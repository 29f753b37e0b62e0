"""The killer: service, nats-server and dockerd, alone and together, at random moments."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from time import monotonic

from msgspec import Struct

from tests.chaos.faults import ChaosStopped
from tests.chaos.scene import Scene
from tests.kit.dockerd import EngineNotStarted

TOGETHER = 0.25
"""How often another one is hit while the first is down, or was just now."""


class Recovery(Struct, frozen=True):
    """How long it took until a command was accepted again, since all that was killed was back."""

    after: str
    """What was killed or frozen."""
    seconds: float


class Damage(Struct):
    """What was done to the scene, and how it took it."""

    service: int = 0
    service_starting: int = 0
    """Of these, kills of a service that was just being started."""
    nats_server: int = 0
    engine: int = 0
    freezes: int = 0
    frozen_s: float = 0.0
    recoveries: list[Recovery] = []

    @property
    def kills(self) -> int:
        """By SIGKILL; a freeze is none."""
        return self.service + self.nats_server + self.engine


class Killer:
    """`run` does at least `kills` of them, and leaves everything up."""

    def __init__(self, scene: Scene, seed: int, kills: int) -> None:
        self._scene = scene
        self._rng = Random(f"{seed}/killer")
        self._kills = kills
        self.damage = Damage()

    def run(self, on_bout: Callable[[Damage], None]) -> None:
        """Raises ChaosStopped when something does not come back."""
        while self.damage.kills < self._kills:
            time.sleep(self._rng.uniform(0.1, 2.0))
            self._bout()
            on_bout(self.damage)

    def _bout(self) -> None:
        """Hit one or more at about the same time, wait until they are back, and then until a
        command is accepted."""
        victims = {self._rng.choice(("service",) * 4 + ("nats-server",) * 3 + ("dockerd",) * 3)}
        if self._rng.random() < TOGETHER:
            victims.add(self._rng.choice(("service", "nats-server", "dockerd")))
        hits = [self._hit(victim) for victim in sorted(victims)]
        with ThreadPoolExecutor(len(hits)) as hands:
            done = [hands.submit(hit) for _, hit in hits]
        try:
            back_at = max(one.result() for one in done)
        except EngineNotStarted as error:
            raise ChaosStopped(str(error)) from error
        self._scene.recover()
        after = " + ".join(what for what, _ in hits)
        self.damage.recoveries.append(Recovery(after, monotonic() - back_at))

    def _hit(self, victim: str) -> tuple[str, Callable[[], float]]:
        """What is done, and how. Chance is asked here, in one thread, so that a seed is one plan.

        The doing returns the moment from which on the service can recover: when the engine
        answers, when nats-server was killed, when the service's last start began.
        """
        rng = self._rng
        delay_s, down_s = rng.choice((0.0, rng.uniform(0, 1.5))), rng.uniform(0, 1.5)
        if victim == "service":
            starting_s = rng.uniform(0.05, 1.2) if rng.random() < 0.25 else None
            return victim, lambda: self._kill_service(delay_s, down_s, starting_s)
        if victim == "nats-server":
            return victim, lambda: self._kill_nats_server(delay_s)
        if rng.random() < 0.4:
            for_s = rng.uniform(0.5, 6)
            return "dockerd frozen", lambda: self._freeze(delay_s, for_s)
        return victim, lambda: self._kill_engine(delay_s, down_s)

    def _kill_service(self, delay_s: float, down_s: float, starting_s: float | None) -> float:
        time.sleep(delay_s)
        began_at, killed = self._scene.kill_service(down_s, starting_s)
        self.damage.service += killed
        self.damage.service_starting += killed - 1
        return began_at

    def _kill_nats_server(self, delay_s: float) -> float:
        time.sleep(delay_s)
        if self._scene.kill_nats_server():
            self.damage.nats_server += 1
            return monotonic()
        return self._kill_service(0, 0, None)

    def _kill_engine(self, delay_s: float, down_s: float) -> float:
        time.sleep(delay_s)
        self._scene.kill_engine(down_s)
        self.damage.engine += 1
        return monotonic()

    def _freeze(self, delay_s: float, for_s: float) -> float:
        time.sleep(delay_s)
        self._scene.freeze_engine(for_s)
        self.damage.freezes += 1
        self.damage.frozen_s += for_s
        return monotonic()
