"""How a simulated engine tells what happens to its containers."""

import asyncio
from collections.abc import Callable, Iterable

from service.errors import EngineUnavailable

LATE_S = 16.0
"""So late Docker's stream of events was seen to end after its daemon had gone."""


class ChangeStream:
    """The names that came for one listener and that it has not taken, each once."""

    def __init__(self, owner: str, listener: object) -> None:
        self.owner, self.listener = owner, listener
        self._names: dict[str, None] = {}
        self._broken = False
        self._some = asyncio.Event()

    def add(self, names: Iterable[str]) -> None:
        """Something happened to the containers of these names."""
        self._names.update(dict.fromkeys(names))
        self._some.set()

    def break_off(self) -> None:
        """The engine goes away: nothing more comes."""
        self._broken = True
        self._some.set()

    async def _take(self) -> str:
        """The name that has waited longest. Raises EngineUnavailable when none is to come."""
        while not self._names:
            if self._broken:
                raise EngineUnavailable("the stream of events ended")
            self._some.clear()
            await self._some.wait()
        name = next(iter(self._names))
        del self._names[name]
        return name

    async def tell(self, faults: Callable[[str, str], str | None]) -> str:
        """The next name to be handed out, with the faults of the engine. Raises EngineUnavailable
        in place of it when the stream breaks."""
        while True:
            name = await self._take()
            fault = faults("changes", name)
            if fault == "behind" and self._names:
                self.add((name,))
                continue
            if fault in ("late", "ends"):
                await asyncio.sleep(LATE_S)
            if fault not in (None, "late", "again", "behind"):
                raise EngineUnavailable(f"the stream of events broke before {name} was told")
            if fault == "again":
                self.add((name,))
            return name
