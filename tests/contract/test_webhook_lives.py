"""Who is called: through registrations, rotations, and starts of the service."""

import asyncio

import pytest

from events.webhooks import Wanted
from service.application.webhook_line import PLACE_EVERY_S
from service.application.webhook_schedule import RETRY_S
from service.application.webhook_signing import Signer
from service.application.webhooks import OTHER_KEY
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RemoveWebhook,
    RotateWebhook,
)
from service.domain.webhooks import OVERLAP_US
from service.webhook_ports import Reply
from tests.kit.virtual_time import run_virtually, virtual
from tests.kit.webhook_rig import DOWN, HOUR_S, KEY, OF_SETS, OTHER_URL, TAKEN, URL, Rig

GONE = Reply(410, "HTTP 410")
WHOLE_S = sum(RETRY_S) * 1.3
"""By then an event that nobody takes is given up."""


class TestWhoIsCalled:
    @virtual
    async def test_who_wants_no_more_is_disabled_and_goes_on_when_enabled(self) -> None:
        rig = Rig()
        rig.receivers.answers[URL].append(GONE)
        async with rig.living():
            await rig.register(wanted=OF_SETS)
            await rig.happen()
            await rig.happen()
            await rig.pass_(HOUR_S)
            assert rig.state.webhooks["one"].disabled == "the receiver answered 410 Gone"
            assert rig.receivers.ids() == ["2.0"]
            last = next(iter(rig.state.operations.values()))
            assert last.kind == "webhook"
            await rig.do(EnableWebhook("one"))
            await rig.pass_(HOUR_S)
        assert sorted(rig.receivers.ids()) == ["2.0", "2.0", "3.0"]

    @virtual
    async def test_one_that_is_disabled_by_hand_gets_nothing_also_after_a_start(self) -> None:
        rig = Rig()
        async with rig.living():
            await rig.register(wanted=OF_SETS)
            await rig.happen()
            await rig.pass_(1)
            await rig.do(DisableWebhook("one", "moves"))
            await rig.happen()
            await rig.pass_(100)
        async with rig.living():
            await rig.pass_(100)
            assert rig.receivers.ids() == ["2.0"]
            assert rig.trouble() == ""
            await rig.do(EnableWebhook("one"))
            await rig.pass_(1)
        assert rig.receivers.ids() == ["2.0", "4.0"]

    @virtual
    async def test_one_that_is_removed_is_forgotten_and_its_name_begins_anew(self) -> None:
        rig = Rig()
        rig.receivers.always[URL] = DOWN
        async with rig.living():
            await rig.register(wanted=OF_SETS)
            await rig.happen()
            await rig.pass_(1)
            await rig.do(RemoveWebhook("one"))
            await rig.pass_(1)
            assert rig.webhooks.standings == {}
            assert await rig.deliveries.standing("one") is None
            assert list(await rig.deliveries.attempts("one", 9)) == []
            await rig.register("one", OTHER_URL, wanted=OF_SETS)
            await rig.happen()
            await rig.pass_(WHOLE_S)
        assert rig.receivers.ids() == ["2.0"]
        assert rig.receivers.ids(OTHER_URL) == ["5.0"]

    @virtual
    async def test_a_name_that_comes_again_while_nobody_looks_begins_anew(self) -> None:
        rig = Rig()
        rig.receivers.always[URL] = DOWN
        async with rig.living():
            await rig.register(wanted=OF_SETS)
            await rig.happen()
            await rig.pass_(1)
        await rig.do(RemoveWebhook("one"))
        await rig.register("one", OTHER_URL, wanted=OF_SETS)
        async with rig.living():
            await rig.pass_(WHOLE_S)
            assert rig.standing() == (0, 0)
        assert rig.receivers.ids(OTHER_URL) == []

    @virtual
    async def test_with_another_key_nothing_is_sent_until_there_is_a_new_secret(self) -> None:
        rig = Rig()
        await rig.register(wanted=OF_SETS)
        rig.signer = Signer(bytes(32))
        async with rig.living():
            await rig.happen()
            await rig.pass_(100)
            assert rig.trouble() == OTHER_KEY
            assert rig.receivers.got == []
            await rig.do(RotateWebhook("one", rig.signer.key_id))
            await rig.pass_(1)
            assert (rig.receivers.ids(), rig.trouble()) == (["2.0"], "")
        assert " " not in rig.receivers.got[0].headers["Webhook-Signature"]

    def test_after_a_rotation_both_secrets_sign_for_a_day(self) -> None:
        run_virtually(self.rotate(), limit_s=2 * OVERLAP_US / 1e6)

    async def rotate(self) -> None:
        rig = Rig()
        async with rig.living():
            await rig.register(wanted=OF_SETS)
            await rig.do(RotateWebhook("one", rig.signer.key_id))
            await rig.happen()
            await rig.pass_(OVERLAP_US / 1e6)
            await rig.happen()
            await rig.pass_(1)
        during, after = (one.headers["Webhook-Signature"].split() for one in rig.receivers.got)
        assert [len(during), len(after)] == [2, 1]
        assert during[0] != during[1]


class TestRestarts:
    @virtual
    async def test_what_is_pending_is_sent_when_it_is_due_after_a_start(self) -> None:
        rig = Rig()
        rig.receivers.answers[URL].append(DOWN)
        async with rig.living():
            await rig.register(wanted=OF_SETS)
            await rig.happen()
            await rig.pass_(1)
        await rig.happen()
        async with rig.living():
            await rig.pass_(1)
            assert rig.receivers.ids() == ["2.0", "3.0"]
            await rig.pass_(6)
        assert rig.receivers.ids() == ["2.0", "3.0", "2.0"]

    @virtual
    async def test_nothing_comes_again_after_an_orderly_end(self) -> None:
        rig = Rig()
        for _ in range(3):
            async with rig.living():
                if not rig.state.webhooks:
                    await rig.register(wanted=OF_SETS)
                await rig.happen()
                await rig.pass_(1)
        assert rig.receivers.ids() == ["2.0", "3.0", "4.0"]

    @virtual
    async def test_what_is_not_wanted_is_not_read_again(self) -> None:
        rig = Rig()
        async with rig.living():
            await rig.register(wanted=Wanted(name="nobody"))
            for _ in range(50):
                await rig.happen()
            await rig.pass_(3 * PLACE_EVERY_S)
        found = await rig.deliveries.standing("one")
        assert found is not None
        assert found.place.seq == 51

    @virtual
    async def test_a_ledger_that_ends_earlier_is_gone_on_with(self) -> None:
        """As after a restore of a backup: what is after its end is other than what was sent."""
        rig, later = Rig(), Rig()
        await rig.register(wanted=OF_SETS)
        await rig.happen()
        later.deliveries = rig.deliveries
        await later.register(wanted=OF_SETS)
        for _ in range(5):
            await later.happen()
        later.receivers.answers[URL].extend([TAKEN, DOWN])
        async with later.living():
            await later.pass_(1)
        async with rig.living():
            await rig.pass_(1)
            await rig.happen()
            await rig.pass_(WHOLE_S)
        assert rig.receivers.ids() == ["3.0"]


@pytest.mark.parametrize("key", [KEY, bytes(32)])
def test_the_key_is_told_by_its_id_alone(key: bytes) -> None:
    assert key.hex() not in Signer(key).key_id


@virtual
async def test_the_end_of_the_feed_is_the_end_of_the_lines() -> None:
    rig = Rig()
    async with rig.living():
        await rig.register(wanted=OF_SETS)
        await rig.pass_(1)
        rig.webhooks._feed.end("the service stops")
        await asyncio.sleep(1)
        await rig.happen()
        await rig.pass_(100)
    assert rig.receivers.got == []
