"""The days after a history: nobody asks for containers any more, and webhooks have all their tries.

The same ledger, the same files, the same parts of the service, but those that act on the host. So a
day costs no more than what is sent in it. It dies at any moment here too.
"""

import asyncio
from contextlib import suppress
from random import Random

from service.application.intake import Caller
from service.domain.commands import Request
from service.domain.webhook_commands import EnableWebhook, RotateWebhook
from service.errors import DeliveriesUnavailable, LedgerUnavailable
from tests.kit.simulated_service import SimulatedHost
from tests.simulation.calling_service import QuietService
from tests.simulation.clients import ConnectionLost
from tests.simulation.life import Life
from tests.simulation.line import Seen, Weather
from tests.simulation.receivers import Abroad
from tests.simulation.webhook_checks import Auditor
from tests.simulation.webhook_clients import a_webhook_command, ping_one

HOUR_S = 3600.0
FAULT_RATES = (0.0, 0.1, 0.3)
PAUSES_S = (0.0, 0.02, 1.0, 8.0, 60.0, HOUR_S, 20 * HOUR_S)
MOODS = ("well", "always", "always", "erring", "busy", "away", "hangs", "gone", "moved")
FEW = 8
"""Who wants more events than so many is well: ten tries of hundreds say no more than of these."""

LAST_MOODS = ("well", "always", "always", "away", "gone")

ALL_TRIES_S = 27 * HOUR_S
"""By then every event has had its tries, also where each was put off by an hour and a quarter."""

LONG_AFTER_S = 20 * 24 * HOUR_S
"""More than all of it."""


class LongAfter:
    """`run` once, after the last life of the service has ended."""

    def __init__(
        self, host: SimulatedHost, abroad: Abroad, auditor: Auditor, seen: Seen, rng: Random
    ) -> None:
        self._host = host
        self._abroad = abroad
        self._auditor = auditor
        self._seen = seen
        self._rng = rng
        self._weather = Weather()
        self._lives = 1_000_000

    async def run(self) -> None:
        """Troubled days, a day with receivers as they are, and the dead letters again."""
        await self._begin()
        for _ in range(self._rng.randint(2, 8)):
            await self._trouble()
        await self._all_go_on()
        await self._have_all_tries(LAST_MOODS)
        await self._take_up_all()
        await self._have_all_tries(("well",))
        await self._end()

    async def _trouble(self) -> None:
        self._weather.fault_rate = self._rng.choice(FAULT_RATES)
        self._change_moods(MOODS)
        match self._rng.choice("cccrrptka"):
            case "c":
                await asyncio.gather(*(self._ask_one() for _ in range(self._rng.randint(1, 8))))
            case "r":
                await self._restart(self._rng.choice(("crash", "crash", "power", "file", "key")))
            case "p":
                with suppress(DeliveriesUnavailable, ConnectionLost):
                    ping = ping_one(self._rng, self._service.webhooks, self._service.state)
                    await self._life.serve(ping)
            case "t":
                await self._take_up_some()
            case _:
                self._abroad.copy_file()
        await asyncio.sleep(self._rng.choice(PAUSES_S))

    async def _all_go_on(self) -> None:
        """Most webhooks are enabled, with a secret that can be made."""
        self._weather.calm()
        for name, one in tuple(self._service.state.webhooks.items()):
            if not self._service.webhooks.signer.knows(one) and self._rng.random() < 0.8:
                await self._ask(RotateWebhook(name, self._abroad.signer().key_id))
            if one.disabled and self._rng.random() < 0.8:
                await self._ask(EnableWebhook(name))

    async def _have_all_tries(self, moods: tuple[str, ...]) -> None:
        self._change_moods(moods)
        await asyncio.sleep(ALL_TRIES_S)
        await self._auditor.check_at_rest(self._service, HOUR_S)
        left = self._auditor.left(self._abroad.signer().key_id)
        assert not left, "events wait to be sent again, after a day of tries"

    async def _take_up_some(self) -> None:
        names = sorted(self._service.state.webhooks)
        if not names:
            return
        webhooks, name = self._service.webhooks, self._rng.choice(names)
        with suppress(DeliveriesUnavailable):
            letters = await webhooks.deliveries.dead(name, 9)
            ids = [letter.id for letter in letters if self._rng.random() < 0.5]
            do = webhooks.discard if self._rng.random() < 0.4 else webhooks.revive
            self._seen.met[f"webhook: {do.__name__}"] += await do(name, ids)

    async def _take_up_all(self) -> None:
        for name in self._service.state.webhooks:
            count = await self._service.webhooks.revive(name, ())
            self._seen.met["webhook: revive"] += count

    def _change_moods(self, moods: tuple[str, ...]) -> None:
        self._auditor.registrations.read_on(self._host.ledger)
        for one in self._auditor.registrations.now():
            few = len(self._auditor.registrations.wanted(one)) <= FEW
            self._abroad.moods[one.url] = self._rng.choice(moods) if few else "well"

    async def _ask_one(self) -> None:
        """One of several people who change something at about the same time."""
        await asyncio.sleep(self._rng.choice((0.0, 0.0, 0.001, 0.02)))
        key_id = self._abroad.signer().key_id
        await self._ask(a_webhook_command(self._rng, self._service.state, key_id))

    async def _ask(self, command: Request) -> None:
        with suppress(LedgerUnavailable, ConnectionLost):
            await self._life.serve(self._service.intake.submit(command, {}, Caller()))

    # -- lives --------------------------------------------------------------------------------

    @property
    def _service(self) -> QuietService:
        assert isinstance(self._life.service, QuietService)
        return self._life.service

    async def _begin(self) -> None:
        rate, self._weather.fault_rate = self._weather.fault_rate, 0.0
        self._lives += 1
        self._life = Life(
            self._lives,
            self._host,
            self._rng,
            self._weather,
            self._seen,
            self._abroad,
            QuietService,
        )
        self._living = asyncio.create_task(self._life.run())
        await self._life.up.wait()
        self._weather.fault_rate = rate

    async def _end(self) -> None:
        self._living.cancel()
        (ended,) = await asyncio.gather(self._living, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), ended

    async def _restart(self, how: str) -> None:
        """It dies at any moment, and with it what the host or the disk lose."""
        await asyncio.sleep(self._rng.choice((0.0, 0.001, 0.02, 0.3)))
        self._seen.met[f"webhook: {how} long after"] += 1
        self._life.line.is_cut = True
        await self._end()
        if how == "power":
            self._abroad.put_back_file()
        elif how == "file":
            self._abroad.lose_file()
        elif how == "key":
            self._abroad.lose_key()
        await self._begin()
