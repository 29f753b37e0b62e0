"""What receivers get: each wanted event at least once, whatever they and the service do."""

from events.messages import Place
from events.operations import OperationAccepted, OperationProgressed, OperationSucceeded
from events.replica_sets import RevisionDeclared
from events.webhook_messages import PING_TYPE
from events.webhooks import Wanted
from service.application.webhook_line import DEAD_MAX, PENDING_MAX
from service.application.webhook_schedule import RETRY_S
from service.webhook_ports import Attempt, Reply
from tests.kit.builders import NODE, spec
from tests.kit.virtual_time import virtual
from tests.kit.webhook_rig import DOWN, HOUR_S, OF_SETS, OTHER_URL, URL, Rig

BUSY = Reply(503, "HTTP 503", 900)
WHOLE_S = sum(RETRY_S) * 1.3
"""By then an event that nobody takes is given up."""


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
            await rig.register(wanted=OF_SETS)
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
            await rig.register(wanted=OF_SETS)
            await rig.happen()
            await rig.pass_(1)
            assert rig.trouble() == "the last attempt failed: connection refused"
            await rig.happen()
            await rig.happen()
            await rig.pass_(3)
            assert rig.receivers.ids() == ["2.0", "3.0", "4.0"]
            assert rig.standing() == (2, 0)
            await rig.pass_(60)
            assert rig.standing() == (0, 0)
            assert rig.trouble() == ""
        assert rig.receivers.ids() == ["2.0", "3.0", "4.0", "2.0", "3.0"]
        again_us = rig.receivers.got[3].at_us - rig.receivers.got[0].at_us
        assert 5_000_000 <= again_us <= 6_250_000

    @virtual
    async def test_a_receiver_may_ask_for_more_time(self) -> None:
        rig = Rig()
        rig.receivers.answers[URL].append(BUSY)
        async with rig.living():
            await rig.register(wanted=OF_SETS)
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
            await rig.register(wanted=OF_SETS)
            await rig.happen()
            await rig.happen()
            await rig.pass_(WHOLE_S)
            assert rig.standing() == (0, 2)
            assert rig.receivers.ids().count("2.0") == len(RETRY_S) + 1
            (first, _) = await rig.deliveries.dead("one", 9)
            assert (first.id, first.attempts, first.error) == ("2.0", 10, "connection refused")
            await rig.pass_(HOUR_S)
            assert len(rig.receivers.got) == 2 * (len(RETRY_S) + 1)
            rig.receivers.always.clear()
            assert await webhooks.revive("one", ["3.0", "9.9"]) == 1
            await rig.pass_(1)
            assert rig.receivers.ids()[-1] == "3.0"
            assert rig.standing() == (0, 1)
            assert await webhooks.revive("one", []) == 1
            await rig.pass_(1)
            assert (rig.receivers.ids()[-1], rig.standing()) == ("2.0", (0, 0))

    @virtual
    async def test_only_so_many_are_pending_and_the_ledger_keeps_the_rest(self) -> None:
        rig = Rig()
        rig.receivers.always[URL] = DOWN
        many = tuple(OperationSucceeded(f"op-{n}") for n in range(100))
        async with rig.living():
            await rig.register(wanted=OF_SETS)
            for _ in range(PENDING_MAX // 100 + 2):
                await rig.happen(*many)
            await rig.pass_(4)
            assert rig.standing() == (PENDING_MAX, 0)
            assert rig.webhooks.standings["one"].place.seq == 1 + PENDING_MAX // 100 - 1
            assert "stands still" in rig.trouble()
            rig.receivers.always.clear()
            await rig.pass_(60)
            assert rig.standing() == (0, 0)
        sent = set(rig.receivers.ids())
        assert len(sent) == PENDING_MAX + 200

    @virtual
    async def test_with_too_many_dead_letters_it_stands_still_until_somebody_looks(self) -> None:
        rig = Rig()
        await rig.register(wanted=OF_SETS)
        await rig.happen(*(OperationSucceeded(f"op-{n}") for n in range(DEAD_MAX)))
        await rig.deliveries.begin("one", 1, Place(1), 2)
        for index in range(DEAD_MAX):
            given_up = Attempt(f"2.{index}", "x", 10, 1, 1, 500, "HTTP 500", "dead")
            await rig.deliveries.note("one", given_up, 1, Place(1, index))
        async with rig.living() as webhooks:
            await rig.happen()
            await rig.pass_(HOUR_S)
            assert (rig.standing(), rig.receivers.got) == ((0, DEAD_MAX), [])
            assert "stands still until they are sent again, or discarded" in rig.trouble()
            assert await webhooks.discard("one", ["2.0"]) == 1
            await rig.pass_(1)
            assert rig.receivers.ids() == ["3.0"]
            assert await webhooks.discard("one", []) == DEAD_MAX - 1
            assert rig.standing() == (0, 0)

    @virtual
    async def test_a_receiver_has_one_request_at_a_time(self) -> None:
        rig = Rig()
        rig.receivers.slow_s[URL] = 4
        rig.receivers.always[URL] = DOWN
        async with rig.living():
            await rig.register(wanted=OF_SETS)
            for _ in range(20):
                await rig.happen()
            await rig.pass_(HOUR_S)
        assert len(rig.receivers.got) > 60
        assert rig.receivers.most == 1

    @virtual
    async def test_a_slow_receiver_holds_up_nobody_else(self) -> None:
        rig = Rig()
        rig.receivers.slow_s[URL] = 10
        async with rig.living():
            await rig.register("one", URL, wanted=OF_SETS)
            await rig.register("two", OTHER_URL, wanted=OF_SETS)
            for _ in range(20):
                await rig.happen()
            await rig.pass_(1)
            assert len(rig.receivers.ids(OTHER_URL)) == 20
            assert len(rig.receivers.ids(URL)) == 1
            await rig.pass_(200)
        assert rig.receivers.ids(URL) == rig.receivers.ids(OTHER_URL)
