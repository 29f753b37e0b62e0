"""The service dies before and after every call of a webhook's ports, and starts again.

Every event that is wanted comes at least once. What comes twice is what was under way, with the id
that it had.
"""

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

from service.errors import DeliveriesUnavailable
from service.webhook_ports import Deliveries, WebhookSender
from tests.kit.crash_points import SIDES, Side, methods_of
from tests.kit.virtual_time import run_virtually, virtual
from tests.kit.webhook_rig import HOUR_S, OF_SETS, Rig

EVENTS = 6


class Cut:
    """Dies at the `nth` call, before it is made or when it was; later calls are never made."""

    def __init__(self, nth: int = 0, side: Side = "before") -> None:
        self.calls = 0
        self.dead = asyncio.Event()
        self._nth, self._side = nth, side

    def around(self, port: type[Any], real: Any) -> Any:
        """The port, with every call of it counted."""
        return SimpleNamespace(
            **{name: self._watched(getattr(real, name)) for name in methods_of(port)}
        )

    def _watched(self, method: Any) -> Any:
        async def called(*args: Any, **named: Any) -> Any:
            self.calls += 1
            here = self.calls == self._nth
            if self.dead.is_set() or (here and self._side == "before"):
                await self._die()
            done = await method(*args, **named)
            if here or self.dead.is_set():
                await self._die()
            return done

        return called

    async def _die(self) -> None:
        self.dead.set()
        await asyncio.get_running_loop().create_future()


async def live(rig: Rig, cut: Cut, for_s: float) -> None:
    """A life, until it dies or time is up."""
    deliveries = cast(Deliveries, cut.around(Deliveries, rig.deliveries))
    sender = cast(WebhookSender, cut.around(WebhookSender, rig.receivers))
    webhooks = rig.begin(deliveries, sender)
    running = asyncio.create_task(webhooks.run())
    try:
        async with asyncio.timeout(for_s):
            await cut.dead.wait()
    except TimeoutError:
        pass
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def play(nth: int, side: Side) -> tuple[int, Counter[str]]:
    """Die there; how many calls there were, and how often each event came."""
    rig = Rig()
    rig.receivers.unlucky.update(["3.0", "4.0"])
    await rig.register(wanted=OF_SETS)
    for _ in range(EVENTS):
        await rig.happen()
    cut = Cut(nth, side)
    await live(rig, cut, HOUR_S)
    await live(rig, Cut(), HOUR_S)
    found = rig.webhooks.standings["one"]
    assert (found.pending, found.dead) == (0, 0)
    # In the first life's place for as long as the next one wants: nothing comes any more.
    count = len(rig.receivers.got)
    await live(rig, Cut(), HOUR_S)
    assert len(rig.receivers.got) == count
    return cut.calls, Counter(rig.receivers.ids())


def test_a_crash_at_every_call() -> None:
    calls, free = run_virtually(play(0, "before"))
    assert free == {"2.0": 1, "3.0": 2, "4.0": 2, **{f"{n}.0": 1 for n in (5, 6, 7)}}
    assert calls > 12
    twice = 0
    for nth in range(1, calls + 1):
        for side in SIDES:
            _, came = run_virtually(play(nth, side))
            assert came.keys() == free.keys(), f"{side} call {nth}"
            more = came - free
            assert more.total() <= 1, f"{side} call {nth}: {more}"
            twice += more.total()
    assert twice > EVENTS, "it never died between a request and its note"


class Failing:
    """Deliveries that cannot be used for a while."""

    def __init__(self, real: Deliveries) -> None:
        self.away = False
        self._real = real

    def __getattr__(self, name: str) -> Any:
        async def called(*args: Any, **named: Any) -> Any:
            if self.away:
                raise DeliveriesUnavailable("the disk is full")
            return await getattr(self._real, name)(*args, **named)

        return called


@virtual
async def test_a_full_disk_is_waited_for_and_told() -> None:
    rig = Rig()
    failing = Failing(rig.deliveries)
    webhooks = rig.begin(cast(Deliveries, failing))
    running = asyncio.create_task(webhooks.run())
    await rig.register(wanted=OF_SETS)
    await rig.happen()
    await rig.pass_(1)
    failing.away = True
    await rig.happen()
    await rig.pass_(1)
    assert rig.trouble() == "the disk is full"
    failing.away = False
    await rig.pass_(30)
    assert rig.trouble() == ""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert set(rig.receivers.ids()) == {"2.0", "3.0"}
