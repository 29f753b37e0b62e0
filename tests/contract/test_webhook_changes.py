"""What is changed for a webhook while something else goes on.

Most of it was found by the simulation.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from events.messages import Place
from projections.webhook_book import Webhook
from service.application.intake import Accepted, Caller
from service.application.webhook_schedule import RETRY_S
from service.application.webhooks import ACTOR
from service.domain.commands import Request
from service.domain.rejections import Rejected
from service.domain.webhook_commands import DisableWebhook, EnableWebhook, RemoveWebhook
from service.webhook_ports import Reply, Standing
from tests.kit.virtual_time import virtual
from tests.kit.webhook_rig import DOWN, OF_SETS, OTHER_URL, TAKEN, URL, InlineDeliveries, Rig

GONE = Reply(410, "HTTP 410")
WHOLE_S = sum(RETRY_S) * 1.3


class Busy(InlineDeliveries):
    """While a webhook begins, the next one is registered."""

    def __init__(self, rig: Rig) -> None:
        super().__init__()
        self._rig = rig
        self.left = 3

    async def begin(
        self, webhook: str, registered_seq: int, place: Place, last_seq: int
    ) -> Standing:
        if self.left:
            self.left -= 1
            await self._rig.register(f"more{self.left}", OTHER_URL, wanted=OF_SETS)
        return await super().begin(webhook, registered_seq, place, last_seq)


class Overtaken(Rig):
    """Before it is recorded that a receiver wants no more, its name is given to another."""

    async def submit(
        self, command: Request, request: Mapping[str, Any], caller: Caller
    ) -> Accepted | Rejected:
        if isinstance(command, DisableWebhook) and caller.actor == ACTOR:
            await self.do(RemoveWebhook("one"))
            await self.register("one", OTHER_URL, wanted=OF_SETS)
        return await super().submit(command, request, caller)


@virtual
async def test_one_that_is_registered_while_others_are_arranged_breaks_nothing() -> None:
    """It was an error that ended all webhooks until the next start of the service."""
    rig = Rig()
    rig.deliveries = Busy(rig)
    for name in ("one", "two"):
        await rig.register(name, wanted=OF_SETS)
        await rig.do(DisableWebhook(name, "moves"))
    async with rig.living():
        await rig.pass_(1)
        await rig.happen()
        await rig.pass_(1)
    assert rig.receivers.ids(OTHER_URL) == [f"{rig.folded_seq}.0"] * 3


@virtual
async def test_whoever_has_the_name_next_is_not_disabled_for_the_one_before() -> None:
    rig = Overtaken()
    rig.receivers.answers[URL].append(GONE)
    async with rig.living():
        await rig.register(wanted=OF_SETS)
        await rig.happen()
        await rig.pass_(1)
        assert rig.state.webhooks["one"].disabled == ""
        seq = await rig.happen()
        await rig.pass_(10)
    assert rig.receivers.ids(OTHER_URL) == [f"{seq}.0"]


@virtual
async def test_one_that_never_sent_anything_shows_nothing_of_the_one_before() -> None:
    rig = Rig()
    rig.receivers.always[URL] = DOWN
    async with rig.living():
        await rig.register(wanted=OF_SETS)
        await rig.happen()
        await rig.pass_(1)
        assert rig.standing() == (1, 0)
        await rig.do(RemoveWebhook("one"))
        await rig.register("one", OTHER_URL, wanted=OF_SETS)
        await rig.do(DisableWebhook("one", "moves"))
        await rig.pass_(1)
        found = await rig.deliveries.standing("one")
        assert (found, rig.standing()) == (Standing(Place(4)), (0, 0))


@virtual
async def test_dead_letters_of_one_that_is_disabled_are_taken_up_and_counted() -> None:
    rig = Rig()
    rig.receivers.always[URL] = DOWN
    async with rig.living() as webhooks:
        await rig.register(wanted=OF_SETS)
        await rig.happen()
        await rig.happen()
        await rig.pass_(WHOLE_S)
        await rig.do(DisableWebhook("one", "moves"))
        await rig.pass_(1)
        assert rig.standing() == (0, 2)
        assert await webhooks.discard("one", ["2.0"]) == 1
        assert rig.standing() == (0, 1)
        assert await webhooks.revive("one", []) == 1
        assert rig.standing() == (1, 0)


class TestPings:
    @virtual
    async def test_what_came_of_the_last_request_is_told_also_when_it_was_a_ping(self) -> None:
        rig = Rig()
        async with rig.living() as webhooks:
            await rig.register(wanted=OF_SETS)
            await rig.happen()
            await rig.pass_(1)
            rig.receivers.always[URL] = DOWN
            await webhooks.ping(rig.state.webhooks["one"])
            assert rig.trouble() == "the last attempt failed: connection refused"
            rig.receivers.always[URL] = TAKEN
            await webhooks.ping(rig.state.webhooks["one"])
            assert rig.trouble() == ""

    @virtual
    async def test_one_to_a_webhook_that_sent_nothing_yet_stays_in_its_log(self) -> None:
        rig = Rig()
        await rig.register(wanted=OF_SETS)
        await rig.do(DisableWebhook("one", "moves"))
        async with rig.living() as webhooks:
            await rig.pass_(1)
            attempt = await webhooks.ping(rig.state.webhooks["one"])
            await rig.do(EnableWebhook("one"))
            await rig.pass_(1)
            assert list(await rig.deliveries.attempts("one", 9)) == [attempt]

    @virtual
    async def test_one_that_is_under_way_is_not_in_the_log_of_the_next_of_its_name(self) -> None:
        rig = Rig()
        rig.receivers.slow_s[URL] = 5
        async with rig.living() as webhooks:
            await rig.register(wanted=OF_SETS)
            await rig.pass_(1)
            ping = asyncio.create_task(webhooks.ping(self.known(rig)))
            await rig.pass_(1)
            await rig.do(RemoveWebhook("one"))
            await rig.register("one", OTHER_URL, wanted=OF_SETS)
            await rig.pass_(10)
            assert (await ping).outcome == "delivered"
            assert list(await rig.deliveries.attempts("one", 9)) == []

    def known(self, rig: Rig) -> Webhook:
        return rig.state.webhooks["one"]
