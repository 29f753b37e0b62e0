"""What receivers get: each wanted event at least once, whatever they and the service do."""

import asyncio

import pytest

from events.messages import Place
from events.operations import OperationAccepted, OperationProgressed, OperationSucceeded
from events.replica_sets import RevisionDeclared
from events.webhooks import Wanted
from service.application.webhook_line import DEAD_MAX, PENDING_MAX, PLACE_EVERY_S
from service.application.webhook_schedule import RETRY_S
from service.application.webhook_signing import Signer
from service.application.webhooks import OTHER_KEY, PING_TYPE
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RemoveWebhook,
    RotateWebhook,
)
from service.domain.webhooks import OVERLAP_US
from service.webhook_ports import Attempt, Reply
from tests.kit.builders import NODE, spec
from tests.kit.virtual_time import run_virtually, virtual
from tests.kit.webhook_rig import KEY, OTHER_URL, TAKEN, URL, Rig

DOWN = Reply(0, "connection refused")
BUSY = Reply(503, "HTTP 503", 900)
GONE = Reply(410, "HTTP 410")
HOUR_S = 3600.0
WHOLE_S = sum(RETRY_S) * 1.3
"""By then an event that nobody takes is given up."""

SUCCEEDED = Wanted(kind="replica_set")
"""So that the records about the webhooks themselves do not count."""


def standing(rig: Rig, name: str = "one") -> tuple[int, int]:
    """How many are pending, and dead."""
    found = rig.webhooks.standings[name]
    return found.pending, found.dead


def trouble(rig: Rig, name: str = "one") -> str:
    return rig.webhooks.trouble(rig.state.webhooks[name])


class TestWhatIsSent:
    @virtual
    async def test_each_event_is_a_request_in_the_order_of_the_ledger(self) -> None:
        rig = Rig()
        async with rig.living():
            await rig.happen()
            await rig.register()
            await rig.happen(
                OperationProgressed("op-7", "FillDisk", 1, 2),
                OperationSucceeded("op-7"),
                actor="ci",
            )
            await rig.happen()
            await rig.pass_(1)
        assert rig.receivers.ids() == ["3.0", "3.1", "4.0"]
        first = rig.receivers.got[0]
        assert first.headers["Content-Type"] == "application/cloudevents+json; charset=utf-8"
        assert first.payload["id"] == "3.0"
        assert first.payload["source"] == f"/gpuledger/{NODE}"
        assert first.payload["actor"] == "ci"
        assert first.payload["data"]["type"] == "operation.progressed.v1"

    @virtual
    async def test_only_what_is_wanted_and_from_where_it_is_wanted(self) -> None:
        rig = Rig()
        async with rig.living():
            await rig.happen()
            await rig.happen(name="bar", tenant="lab")
            await rig.happen(OperationProgressed("x", "y", 1, 2), OperationSucceeded("x"))
            await rig.register("all", URL, after_seq=0)
            of_lab = Wanted(tenant="lab", types=("operation.succeeded.v1",))
            await rig.register("lab", OTHER_URL, wanted=of_lab, after_seq=1)
            await rig.pass_(1)
        assert rig.receivers.ids()[:4] == ["1.0", "2.0", "3.0", "3.1"]
        assert rig.receivers.ids(OTHER_URL) == ["2.0"]

    @virtual
    async def test_secrets_are_hidden(self) -> None:
        rig = Rig()
        declared = spec(env=("A=1", "MARKED=hush", "API_KEY=hush"), secret_env=("MARKED",))
        body = {"env": ["API_KEY=hush"], "url": "https://x.example/hush"}
        async with rig.living():
            await rig.register(wanted=SUCCEEDED)
            await rig.happen(
                OperationAccepted("id-1", "run", "replica_set", "foo", body),
                RevisionDeclared("foo", 1, "run", declared, (), (), "none"),
            )
            await rig.pass_(1)
        bodies = b"".join(one.body for one in rig.receivers.got)
        assert len(rig.receivers.got) == 2
        assert b"hush" not in bodies
        assert b"A=1" in bodies

    @virtual
    async def test_a_ping_is_no_event_and_is_noted(self) -> None:
        rig = Rig()
        async with rig.living() as webhooks:
            await rig.register()
            await rig.pass_(1)
            attempt = await webhooks.ping(rig.state.webhooks["one"])
            assert (attempt.outcome, attempt.type) == ("delivered", PING_TYPE)
            assert list(await rig.deliveries.attempts("one", 9)) == [attempt]
        assert rig.receivers.got[0].payload["type"] == PING_TYPE
        assert rig.receivers.ids() == [attempt.id]


class TestWhatIsNotTaken:
    @virtual
    async def test_it_is_sent_again_and_holds_nothing_up(self) -> None:
        rig = Rig()
        rig.receivers.answers[URL].extend([DOWN, DOWN])
        async with rig.living():
            await rig.register(wanted=SUCCEEDED)
            await rig.happen()
            await rig.pass_(1)
            assert trouble(rig) == "the last attempt failed: connection refused"
            await rig.happen()
            await rig.happen()
            await rig.pass_(3)
            assert rig.receivers.ids() == ["2.0", "3.0", "4.0"]
            assert standing(rig) == (2, 0)
            await rig.pass_(60)
            assert standing(rig) == (0, 0)
            assert trouble(rig) == ""
        assert rig.receivers.ids() == ["2.0", "3.0", "4.0", "2.0", "3.0"]
        again_us = rig.receivers.got[3].at_us - rig.receivers.got[0].at_us
        assert 5_000_000 <= again_us <= 6_250_000

    @virtual
    async def test_a_receiver_may_ask_for_more_time(self) -> None:
        rig = Rig()
        rig.receivers.answers[URL].append(BUSY)
        async with rig.living():
            await rig.register(wanted=SUCCEEDED)
            await rig.happen()
            await rig.pass_(899)
            assert rig.receivers.ids() == ["2.0"]
            await rig.pass_(300)
            assert rig.receivers.ids() == ["2.0", "2.0"]

    @virtual
    async def test_after_the_last_try_it_is_a_dead_letter_that_can_be_sent_again(self) -> None:
        rig = Rig()
        rig.receivers.always[URL] = DOWN
        async with rig.living() as webhooks:
            await rig.register(wanted=SUCCEEDED)
            await rig.happen()
            await rig.happen()
            await rig.pass_(WHOLE_S)
            assert standing(rig) == (0, 2)
            assert rig.receivers.ids().count("2.0") == len(RETRY_S) + 1
            (first, _) = await rig.deliveries.dead("one", 9)
            assert (first.id, first.attempts, first.error) == ("2.0", 10, "connection refused")
            await rig.pass_(HOUR_S)
            assert len(rig.receivers.got) == 2 * (len(RETRY_S) + 1)
            rig.receivers.always.clear()
            assert await webhooks.revive("one", ["3.0", "9.9"]) == 1
            await rig.pass_(1)
            assert rig.receivers.ids()[-1] == "3.0"
            assert standing(rig) == (0, 1)
            assert await webhooks.revive("one", []) == 1
            await rig.pass_(1)
            assert (rig.receivers.ids()[-1], standing(rig)) == ("2.0", (0, 0))

    @virtual
    async def test_only_so_many_are_pending_and_the_ledger_keeps_the_rest(self) -> None:
        rig = Rig()
        rig.receivers.always[URL] = DOWN
        many = tuple(OperationSucceeded(f"op-{n}") for n in range(100))
        async with rig.living():
            await rig.register(wanted=SUCCEEDED)
            for _ in range(PENDING_MAX // 100 + 2):
                await rig.happen(*many)
            await rig.pass_(4)
            assert standing(rig) == (PENDING_MAX, 0)
            assert rig.webhooks.standings["one"].place.seq == 1 + PENDING_MAX // 100 - 1
            assert "stands still" in trouble(rig)
            rig.receivers.always.clear()
            await rig.pass_(60)
            assert standing(rig) == (0, 0)
        sent = set(rig.receivers.ids())
        assert len(sent) == PENDING_MAX + 200

    @virtual
    async def test_with_too_many_dead_letters_it_stands_still_until_somebody_looks(self) -> None:
        rig = Rig()
        await rig.register(wanted=SUCCEEDED)
        await rig.happen(*(OperationSucceeded(f"op-{n}") for n in range(DEAD_MAX)))
        await rig.deliveries.begin("one", 1, Place(1), 2)
        for index in range(DEAD_MAX):
            given_up = Attempt(f"2.{index}", "x", 10, 1, 1, 500, "HTTP 500", "dead")
            await rig.deliveries.note("one", given_up, 1, Place(1, index))
        async with rig.living() as webhooks:
            await rig.happen()
            await rig.pass_(HOUR_S)
            assert (standing(rig), rig.receivers.got) == ((0, DEAD_MAX), [])
            assert "stands still until they are sent again, or discarded" in trouble(rig)
            assert await webhooks.discard("one", ["2.0"]) == 1
            await rig.pass_(1)
            assert rig.receivers.ids() == ["3.0"]
            assert await webhooks.discard("one", []) == DEAD_MAX - 1
            assert standing(rig) == (0, 0)

    @virtual
    async def test_a_slow_receiver_holds_up_nobody_else(self) -> None:
        rig = Rig()
        rig.receivers.slow_s[URL] = 10
        async with rig.living():
            await rig.register("one", URL, wanted=SUCCEEDED)
            await rig.register("two", OTHER_URL, wanted=SUCCEEDED)
            for _ in range(20):
                await rig.happen()
            await rig.pass_(1)
            assert len(rig.receivers.ids(OTHER_URL)) == 20
            assert len(rig.receivers.ids(URL)) == 1
            await rig.pass_(200)
        assert rig.receivers.ids(URL) == rig.receivers.ids(OTHER_URL)


class TestWhoIsCalled:
    @virtual
    async def test_who_wants_no_more_is_disabled_and_goes_on_when_enabled(self) -> None:
        rig = Rig()
        rig.receivers.answers[URL].append(GONE)
        async with rig.living():
            await rig.register(wanted=SUCCEEDED)
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
            await rig.register(wanted=SUCCEEDED)
            await rig.happen()
            await rig.pass_(1)
            await rig.do(DisableWebhook("one", "moves"))
            await rig.happen()
            await rig.pass_(100)
        async with rig.living():
            await rig.pass_(100)
            assert rig.receivers.ids() == ["2.0"]
            assert trouble(rig) == ""
            await rig.do(EnableWebhook("one"))
            await rig.pass_(1)
        assert rig.receivers.ids() == ["2.0", "4.0"]

    @virtual
    async def test_one_that_is_removed_is_forgotten_and_its_name_begins_anew(self) -> None:
        rig = Rig()
        rig.receivers.always[URL] = DOWN
        async with rig.living():
            await rig.register(wanted=SUCCEEDED)
            await rig.happen()
            await rig.pass_(1)
            await rig.do(RemoveWebhook("one"))
            await rig.pass_(1)
            assert rig.webhooks.standings == {}
            assert await rig.deliveries.standing("one") is None
            assert list(await rig.deliveries.attempts("one", 9)) == []
            await rig.register("one", OTHER_URL, wanted=SUCCEEDED)
            await rig.happen()
            await rig.pass_(WHOLE_S)
        assert rig.receivers.ids() == ["2.0"]
        assert rig.receivers.ids(OTHER_URL) == ["5.0"]

    @virtual
    async def test_a_name_that_comes_again_while_nobody_looks_begins_anew(self) -> None:
        rig = Rig()
        rig.receivers.always[URL] = DOWN
        async with rig.living():
            await rig.register(wanted=SUCCEEDED)
            await rig.happen()
            await rig.pass_(1)
        await rig.do(RemoveWebhook("one"))
        await rig.register("one", OTHER_URL, wanted=SUCCEEDED)
        async with rig.living():
            await rig.pass_(WHOLE_S)
            assert standing(rig) == (0, 0)
        assert rig.receivers.ids(OTHER_URL) == []

    @virtual
    async def test_with_another_key_nothing_is_sent_until_there_is_a_new_secret(self) -> None:
        rig = Rig()
        await rig.register(wanted=SUCCEEDED)
        rig.signer = Signer(bytes(32))
        async with rig.living():
            await rig.happen()
            await rig.pass_(100)
            assert trouble(rig) == OTHER_KEY
            assert rig.receivers.got == []
            await rig.do(RotateWebhook("one", rig.signer.key_id))
            await rig.pass_(1)
            assert (rig.receivers.ids(), trouble(rig)) == (["2.0"], "")
        assert " " not in rig.receivers.got[0].headers["Webhook-Signature"]

    def test_after_a_rotation_both_secrets_sign_for_a_day(self) -> None:
        run_virtually(self.rotate(), limit_s=2 * OVERLAP_US / 1e6)

    async def rotate(self) -> None:
        rig = Rig()
        async with rig.living():
            await rig.register(wanted=SUCCEEDED)
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
            await rig.register(wanted=SUCCEEDED)
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
                    await rig.register(wanted=SUCCEEDED)
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
        await rig.register(wanted=SUCCEEDED)
        await rig.happen()
        later.deliveries = rig.deliveries
        await later.register(wanted=SUCCEEDED)
        for _ in range(5):
            await later.happen()
        later.receivers.answers[URL].extend([TAKEN, DOWN])
        async with later.living():
            await later.pass_(1)
        async with rig.living():
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
        await rig.register(wanted=SUCCEEDED)
        await rig.pass_(1)
        rig.webhooks._feed.end("the service stops")
        await asyncio.sleep(1)
        await rig.happen()
        await rig.pass_(100)
    assert rig.receivers.got == []
