"""The pure parts of webhooks: rules, filters, signatures, and when something is tried again."""

import base64
import hashlib
import hmac
from typing import Any

import pytest

from events.filters import wants_event, wants_record
from events.messages import Place
from events.operations import OperationAccepted, OperationProgressed, OperationSucceeded
from events.record import Record
from events.webhooks import (
    Wanted,
    WebhookDisabled,
    WebhookEnabled,
    WebhookRegistered,
    WebhookRemoved,
    WebhookRotated,
)
from projections.webhook_book import Webhook
from service.application.webhook_schedule import (
    JITTER,
    RETRY_AFTER_S_MAX,
    RETRY_S,
    retry_after_us,
)
from service.application.webhook_signing import Signer
from service.domain.rejections import Reason, Rejected
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RegisterWebhook,
    RemoveWebhook,
    RotateWebhook,
)
from service.domain.webhooks import OVERLAP_US, WEBHOOKS_MAX
from service.web.secrets import hidden_url
from tests.kit.world import World

URL = "https://ci.example/hook"
WANTED = Wanted(kind="volume", types=("volume.deleted.v1",))
REGISTER = RegisterWebhook("one", URL, "key", WANTED)


def facts_of(decision: object) -> list[Any]:
    """What was decided beside its begin and its end."""
    assert isinstance(decision, tuple), decision
    accepted, *facts, ended = decision
    assert isinstance(accepted, OperationAccepted)
    assert accepted.kind == "webhook"
    assert isinstance(ended, OperationSucceeded)
    return facts


def reason(decision: object) -> Reason:
    assert isinstance(decision, Rejected), decision
    return decision.reason


class TestRules:
    def test_one_is_registered_under_a_name_that_is_free(self) -> None:
        world = World()
        assert facts_of(world.send(REGISTER)) == [
            WebhookRegistered("one", URL, "one.1", "key", WANTED)
        ]
        assert reason(world.send(REGISTER)) == Reason.WEBHOOK_EXISTS
        known, seq = world.state.webhooks["one"], world.state.seq
        assert (known.seq, known.after_seq, known.disabled) == (seq, seq, "")
        assert known.secret_ids(0) == ("one.1",)

    def test_one_may_begin_anywhere(self) -> None:
        world = World()
        world.send(RegisterWebhook("one", URL, "key", after_seq=0))
        assert world.state.webhooks["one"].after_seq == 0

    def test_there_are_only_so_many(self) -> None:
        world = World()
        for number in range(WEBHOOKS_MAX):
            facts_of(world.send(RegisterWebhook(f"n{number}", URL, "key")))
        assert reason(world.send(REGISTER)) == Reason.WEBHOOKS_EXHAUSTED
        world.send(RemoveWebhook("n7"))
        facts_of(world.send(REGISTER))

    def test_a_new_secret_leaves_the_old_one_a_day(self) -> None:
        world = World()
        world.send(REGISTER)
        world.now_us = 5
        expected = WebhookRotated("one", "one.2", "key", OVERLAP_US + 5)
        assert facts_of(world.send(RotateWebhook("one", "key"))) == [expected]
        known = world.state.webhooks["one"]
        assert known.secret_ids(OVERLAP_US + 4) == ("one.2", "one.1")
        assert known.secret_ids(OVERLAP_US + 5) == ("one.2",)

    def test_an_old_secret_of_another_key_counts_no_more(self) -> None:
        world = World()
        world.send(REGISTER)
        world.send(RotateWebhook("one", "another"))
        known = world.state.webhooks["one"]
        assert (known.key_id, known.secret_ids(0)) == ("another", ("one.2",))

    def test_disabled_and_enabled_again_also_twice(self) -> None:
        world = World()
        world.send(REGISTER)
        assert facts_of(world.send(EnableWebhook("one"))) == []
        disabled = WebhookDisabled("one", "moves")
        assert facts_of(world.send(DisableWebhook("one", "moves"))) == [disabled]
        assert facts_of(world.send(DisableWebhook("one", "again"))) == []
        assert world.state.webhooks["one"].disabled == "moves"
        assert facts_of(world.send(EnableWebhook("one"))) == [WebhookEnabled("one")]
        assert world.state.webhooks["one"].disabled == ""

    def test_one_that_was_meant_is_disabled_and_no_other_of_its_name(self) -> None:
        world = World()
        world.send(REGISTER)
        seq = world.state.webhooks["one"].seq
        world.send(RemoveWebhook("one"))
        world.send(REGISTER)
        meant = DisableWebhook("one", "410", seq)
        assert reason(world.send(meant)) == Reason.WEBHOOK_NOT_FOUND
        meant = DisableWebhook("one", "410", world.state.webhooks["one"].seq)
        assert facts_of(world.send(meant)) == [WebhookDisabled("one", "410")]

    def test_one_that_is_removed_is_gone_and_its_next_secret_is_another(self) -> None:
        world = World()
        world.send(REGISTER)
        first = world.state.webhooks["one"]
        assert facts_of(world.send(RemoveWebhook("one"))) == [WebhookRemoved("one")]
        assert world.state.webhooks == {}
        world.send(REGISTER)
        assert world.state.webhooks["one"].secret_id != first.secret_id

    @pytest.mark.parametrize(
        "command",
        [
            RotateWebhook("one", "key"),
            DisableWebhook("one", "x"),
            EnableWebhook("one"),
            RemoveWebhook("one"),
        ],
    )
    def test_one_that_is_not_there(self, command: Any) -> None:
        assert reason(World().send(command)) == Reason.WEBHOOK_NOT_FOUND


class TestFilters:
    RECORD = Record(
        "id-1", "n1", "volume", "foo", "run", 1, (OperationSucceeded("x"),), tenant="lab"
    )

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (Wanted(), True),
            (Wanted(kind="volume", name="foo", tenant="lab"), True),
            (Wanted(kind="gpu"), False),
            (Wanted(name="fo"), False),
            (Wanted(tenant="other"), False),
        ],
    )
    def test_records(self, wanted: Wanted, expected: bool) -> None:
        assert wants_record(wanted, self.RECORD) is expected

    def test_events(self) -> None:
        wanted = Wanted(types=("operation.progressed.v1",))
        assert wants_event(wanted, OperationProgressed("x", "y", 1, 2))
        assert not wants_event(wanted, OperationSucceeded("x"))
        assert wants_event(Wanted(), OperationSucceeded("x"))

    def test_the_id_of_an_event_is_a_place(self) -> None:
        assert Place.of("17.2") == Place(16, 2)
        for text in ("17", "ping-1", ".1", "1.", "1.2.3", "-1.0", "\u0661.0"):
            with pytest.raises(ValueError, match="no id"):
                Place.of(text)


class TestSignatures:
    HOOK = Webhook("one", URL, "op-2", "key", 1, 1, 1, "ci", old_secret_id="op-1", old_until_us=9)

    def test_it_is_as_the_standard_has_it(self) -> None:
        signer, body, at_us = Signer(b"k" * 32), b'{"a":1}', 1_700_000_000_999_999
        headers = signer.headers(self.HOOK, "17.0", at_us, body)
        assert (headers["Webhook-Id"], headers["Webhook-Timestamp"]) == ("17.0", "1700000000")
        prefix, _, encoded = signer.secret("one", "op-2").partition("_")
        assert prefix == "whsec"
        secret = base64.b64decode(encoded, validate=True)
        assert len(secret) == 32
        mac = hmac.new(secret, b'17.0.1700000000.{"a":1}', hashlib.sha256)
        expected = base64.b64encode(mac.digest()).decode()
        assert headers["Webhook-Signature"] == f"v1,{expected}"

    def test_both_secrets_sign_while_both_count(self) -> None:
        signer = Signer(b"k" * 32)
        new, old = signer.headers(self.HOOK, "1.0", 8, b"")["Webhook-Signature"].split()
        assert new != old
        assert signer.headers(self.HOOK, "1.0", 9, b"")["Webhook-Signature"] == new

    def test_every_webhook_operation_and_key_has_its_own_secret(self) -> None:
        signer = Signer(b"k" * 32)
        secrets = {
            signer.secret("one", "op-1"),
            signer.secret("two", "op-1"),
            signer.secret("one", "op-2"),
            Signer(b"l" * 32).secret("one", "op-1"),
        }
        assert len(secrets) == 4
        assert signer.key_id != Signer(b"l" * 32).key_id


class TestSchedule:
    def test_it_waits_longer_and_longer_and_ends(self) -> None:
        waits = [retry_after_us("one", "1.0", number + 1) for number in range(len(RETRY_S))]
        for wait_us, seconds in zip(waits, RETRY_S, strict=True):
            assert wait_us is not None
            assert seconds * 1e6 <= wait_us <= seconds * 1e6 * (1 + JITTER)
        assert retry_after_us("one", "1.0", len(RETRY_S) + 1) is None

    def test_what_failed_together_does_not_come_back_together(self) -> None:
        waits = {retry_after_us("one", f"{seq}.0", 1) for seq in range(100)}
        assert len(waits) == 100
        assert retry_after_us("one", "1.0", 1) == retry_after_us("one", "1.0", 1)

    def test_a_receiver_may_ask_for_more_but_not_for_ever(self) -> None:
        first = retry_after_us("one", "1.0", 1, asked_s=60)
        longest = retry_after_us("one", "1.0", 1, asked_s=10**9)
        assert first is not None
        assert longest is not None
        assert first >= 60e6
        assert longest <= RETRY_AFTER_S_MAX * 1e6 * (1 + JITTER)
        last = retry_after_us("one", "1.0", len(RETRY_S), asked_s=1)
        assert last is not None
        assert last >= RETRY_S[-1] * 1e6


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/T0/secret", "https://hooks.example/***"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80/***"),
        ("https://x.example?token=1", "https://x.example/***"),
    ],
)
def test_what_others_see_of_an_address(url: str, shown: str) -> None:
    assert hidden_url(url) == shown
