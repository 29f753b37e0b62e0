"""Somebody who deals with an engine's containers past the service: an administrator's `docker`."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from tests.kit.dockerd import PrivateDockerd
from tests.kit.engine_rigs import OWNER
from tests.kit.simulated_engine import SimulatedEngine

OUT_OF_MEMORY = ("sh", "-c", "x=0123456789abcdef; while :; do x=$x$x; done")
"""A command that takes memory until it gets no more."""


class Outside(Protocol):
    """Somebody who deals with the engine's containers past us."""

    async def kill(self, name: str) -> None: ...

    async def remove(self, name: str) -> None: ...

    async def rename(self, name: str, new_name: str) -> None: ...

    async def restart(self, name: str) -> None: ...

    async def pause(self, name: str, *, paused: bool) -> None: ...

    async def exhaust_memory(self, name: str) -> None:
        """By starting it: its command is OUT_OF_MEMORY."""
        ...


class DockerOutside:
    """With a client of its own."""

    def __init__(self, dockerd: PrivateDockerd) -> None:
        self._dockerd = dockerd

    async def kill(self, name: str) -> None:
        await self._do(lambda api: api.kill(name))

    async def remove(self, name: str) -> None:
        await self._do(lambda api: api.remove_container(name, force=True))

    async def rename(self, name: str, new_name: str) -> None:
        await self._do(lambda api: api.rename(name, new_name))

    async def restart(self, name: str) -> None:
        await self._do(lambda api: api.restart(name, timeout=5))

    async def pause(self, name: str, *, paused: bool) -> None:
        await self._do(lambda api: api.pause(name) if paused else api.unpause(name))

    async def exhaust_memory(self, name: str) -> None:
        await self._do(lambda api: api.start(name))

    async def _do(self, act: Callable[[Any], object]) -> None:
        def call() -> None:
            with self._dockerd.client() as client:
                act(client.api)

        await asyncio.to_thread(call)


class SimulatedOutside:
    """In the same world."""

    def __init__(self, engine: SimulatedEngine) -> None:
        self._world = engine.world
        self._engine = SimulatedEngine(engine.world, owner=OWNER)

    async def kill(self, name: str) -> None:
        self._world.end(name, 137)

    async def remove(self, name: str) -> None:
        self._world.remove(name)

    async def rename(self, name: str, new_name: str) -> None:
        self._world.rename(self._world.containers[name], new_name)

    async def restart(self, name: str) -> None:
        self._world.end(name, 143)
        await self._engine.start_container(name)

    async def pause(self, name: str, *, paused: bool) -> None:
        self._world.pause(name, paused=paused)

    async def exhaust_memory(self, name: str) -> None:
        await self._engine.start_container(name)
        self._world.end(name, 137, oom_killed=True)
