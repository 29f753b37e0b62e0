"""Webhooks over REST: what is asked for, what is answered, and who may."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.messages import Place
from events.webhooks import Wanted
from projections.webhook_book import Webhook
from service.application.webhooks import OTHER_KEY
from service.domain.rejections import Reason, Rejected
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RegisterWebhook,
    RemoveWebhook,
    RotateWebhook,
)
from service.webhook_ports import Attempt, Reply
from tests.kit.web_site import Site

ALL = "/api/v1/webhooks"
ONE = f"{ALL}/one"
URL = "https://ci.example/hook"
BODY = {"webhookName": "one", "url": URL}
SINCE_US = 1_700_000_000_000_000
SINCE = "2023-11-14T22:13:20.000000Z"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        yield site


def webhook(site: Site, **changes: Any) -> Webhook:
    known = {"secret_id": "op-1", "key_id": site.webhooks.signer.key_id, "seq": 5, "after_seq": 5}
    given = {"name": "one", "url": URL, "created_us": SINCE_US, "actor": "ci", **known, **changes}
    return Webhook(**given)


async def failed(site: Site, *ids: str, outcome: Any = "dead") -> None:
    """It is registered, and these events were not taken."""
    site.reads.webhook_rows["one"] = site.projector.state.webhooks["one"] = webhook(site)
    deliveries = site.webhooks.deliveries
    await deliveries.begin("one", 5, Place(5), 1000)
    for one in ids:
        attempt = Attempt(one, "volume.deleted.v1", 10, SINCE_US, 1500, 500, "HTTP 500", outcome)
        await deliveries.note("one", attempt, SINCE_US, Place.of(one))


async def test_a_registration_is_a_command_and_its_answer_has_the_secret(site: Site) -> None:
    events = {"kind": "volume", "types": ["volume.deleted.v1", "volume.deleted.v1"]}
    body = {**BODY, "events": events, "after": 0}
    done = await site.send("POST", ALL, json=body)
    secret = site.webhooks.signer.secret("one", "op-1")
    assert (done.status, done.data) == (200, {"name": "one", "secret": secret})
    (submitted,) = site.intake.submitted
    wanted = Wanted(kind="volume", types=("volume.deleted.v1",))
    key_id = site.webhooks.signer.key_id
    assert submitted.command == RegisterWebhook("one", URL, key_id, wanted, 0)
    assert submitted.request["url"] == URL
    assert secret not in str(submitted)


async def test_the_same_key_gives_the_same_secret_again(site: Site) -> None:
    """A reply that was lost is asked for again."""
    headers = {"Idempotency-Key": "k"}
    first = await site.send("POST", ALL, json=BODY, headers=headers)
    again = await site.send("POST", ALL, json=BODY, headers=headers)
    assert first.data == again.data


async def test_whoever_does_not_wait_is_not_shown_the_secret(site: Site) -> None:
    done = await site.send("POST", ALL, json=BODY, headers={"Prefer": "respond-async"})
    assert done.status == 202
    assert "whsec_" not in done.body.decode()
    told = await site.get(f"/api/v1/operations/{done.data['operationId']}")
    assert "whsec_" not in told.body.decode()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"webhookName": "a-b"}, "webhookName"),
        ({"webhookName": ""}, "webhookName"),
        ({"url": "ftp://x.example/"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://x.example:99999/"}, "url"),
        ({"url": "https://x.example:0/"}, "url"),
        ({"url": "https://[x/"}, "url"),
        ({"url": "https://me:pw@x.example/"}, "url"),
        ({"url": "https://x.example/#f"}, "url"),
        ({"url": "https://x.example/ y"}, "url"),
        ({"url": "https://x.example/" + "y" * 2000}, "url"),
        ({"url": "http://x.example/"}, "url"),
        ({"after": 1}, "after"),
        ({"after": -1}, "after"),
        ({"events": {"kind": "cat"}}, "events.kind"),
        ({"events": {"name": "x" * 300}}, "events.name"),
        ({"events": {"tenant": "x" * 300}}, "events.tenant"),
        ({"events": {"types": ["no.such.v1"]}}, "events.types"),
        ({"secret": "mine"}, "secret"),
    ],
)
async def test_what_makes_no_sense(site: Site, change: dict[str, Any], field: str) -> None:
    answer = await site.send("POST", ALL, json=BODY | change)
    assert (answer.status, answer.data["field"]) == (400, field)
    assert site.intake.submitted == []


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://127.0.0.1:8000/x"},
        {"url": "http://localhost/x"},
        {"url": "http://[::1]:8000"},
        {"url": "http://x.example/", "insecure": True},
    ],
)
async def test_where_http_is_enough(site: Site, change: dict[str, Any]) -> None:
    assert (await site.send("POST", ALL, json=BODY | change)).status == 200


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (Reason.WEBHOOK_EXISTS, 409, 1123),
        (Reason.WEBHOOKS_EXHAUSTED, 409, 1122),
    ],
)
async def test_what_is_refused(site: Site, reason: Reason, status: int, code: int) -> None:
    site.intake.answers.append(Rejected(reason, "no"))
    answer = await site.send("POST", ALL, json=BODY)
    assert (answer.status, answer.code, answer.data["reason"]) == (status, code, reason)


async def test_the_commands_of_one(site: Site) -> None:
    done = await site.send("POST", f"{ONE}/rotate")
    assert done.data == {"name": "one", "secret": site.webhooks.signer.secret("one", "op-1")}
    await site.send("POST", f"{ONE}/disable", json={"why": "it moves"})
    await site.send("POST", f"{ONE}/enable")
    await site.send("DELETE", ONE)
    assert [one.command for one in site.intake.submitted] == [
        RotateWebhook("one", site.webhooks.signer.key_id),
        DisableWebhook("one", "it moves"),
        EnableWebhook("one"),
        RemoveWebhook("one"),
    ]
    site.intake.answers.append(Rejected(Reason.WEBHOOK_NOT_FOUND, "there is no webhook one"))
    missing = await site.send("DELETE", ONE)
    assert (missing.status, missing.code) == (404, 1124)
    assert (await site.send("POST", f"{ONE}/disable", json={"why": " "})).status == 400


async def test_one_is_shown_with_where_it_is(site: Site) -> None:
    await failed(site, "9.1", outcome="failed")
    wanted = Wanted(tenant="lab")
    changed = webhook(site, wanted=wanted, old_until_us=SINCE_US, disabled="moves")
    site.reads.webhook_rows["one"] = changed
    shown = (await site.get(ONE)).data
    assert (await site.get(ALL)).data == {"webhooks": [shown]}
    attempt = {
        "id": "9.1",
        "type": "volume.deleted.v1",
        "attempt": 10,
        "time": SINCE,
        "durationMs": 1.5,
        "status": 500,
        "error": "HTTP 500",
        "outcome": "failed",
    }
    assert shown == {
        "name": "one",
        "url": URL,
        "events": {"kind": "", "name": "", "tenant": "lab", "types": []},
        "enabled": False,
        "disabledWhy": "moves",
        "createTime": SINCE,
        "createdBy": "ci",
        "seq": 5,
        "oldSecretUntilTime": SINCE,
        "delivery": {
            "place": "9.1",
            "behind": 0,
            "pending": 1,
            "dead": 0,
            "nextTime": SINCE,
            "last": attempt,
            "trouble": "",
        },
    }
    assert (await site.get(f"{ONE}/deliveries")).data == {"deliveries": [attempt]}


async def test_one_that_never_began_and_one_of_another_key(site: Site) -> None:
    site.reads.webhook_rows["one"] = webhook(site)
    assert (await site.get(ONE)).data["delivery"] is None
    await failed(site)
    site.reads.webhook_rows["one"] = webhook(site, key_id="other")
    assert (await site.get(ONE)).data["delivery"]["trouble"] == OTHER_KEY
    refused = await site.send("POST", f"{ONE}/ping")
    assert (refused.status, refused.code) == (409, 1122)


async def test_the_past_has_registrations_and_no_deliveries(site: Site) -> None:
    assert (await site.get(f"{ALL}?at=0")).data == {"webhooks": []}
    assert (await site.get(f"{ONE}?at=0")).status == 404
    for path in ("deliveries", "deadLetters"):
        assert (await site.get(f"{ONE}/{path}?at=0")).data["field"] == "at"


async def test_dead_letters_are_listed_sent_again_and_discarded(site: Site) -> None:
    await failed(site, "7.0", "8.0", "9.0")
    found = (await site.get(f"{ONE}/deadLetters?limit=2")).data["deadLetters"]
    assert [one["id"] for one in found] == ["7.0", "8.0"]
    assert found[0] == {
        "id": "7.0",
        "type": "volume.deleted.v1",
        "attempts": 10,
        "firstTime": SINCE,
        "deadTime": SINCE,
        "status": 500,
        "error": "HTTP 500",
    }
    again = await site.send("POST", f"{ONE}/deadLetters/redeliver", json={"ids": ["8.0"]})
    assert again.data == {"count": 1}
    discarded = await site.send("POST", f"{ONE}/deadLetters/discard", json={})
    assert discarded.data == {"count": 2}
    none = await site.send("POST", f"{ONE}/deadLetters/redeliver", json={"ids": ["8.0"]})
    assert (none.status, none.data["reason"]) == (404, "dead_letter_not_found")
    wrong = await site.send("POST", f"{ONE}/deadLetters/redeliver", json={"ids": ["x"]})
    assert (wrong.status, wrong.data["field"]) == (400, "ids")


async def test_a_ping_is_sent_now_and_its_answer_told(site: Site) -> None:
    await failed(site)
    site.receivers.answers[URL].append(Reply(500, "HTTP 500: broken"))
    answer = await site.send("POST", f"{ONE}/ping")
    assert answer.status == 200
    assert (answer.data["status"], answer.data["outcome"]) == (500, "failed")
    assert (await site.send("POST", f"{ONE}/ping")).data["outcome"] == "delivered"
    sent = site.receivers.got[-1]
    assert sent.payload["subject"] == "webhook/one"
    assert len((await site.get(f"{ONE}/deliveries")).data["deliveries"]) == 2


@pytest.mark.parametrize("path", ["", "/deliveries", "/deadLetters"])
async def test_one_that_is_not_there(site: Site, path: str) -> None:
    answer = await site.get(f"{ONE}{path}")
    assert (answer.status, answer.code) == (404, 1124)
    assert (await site.get(f"{ALL}/a-b{path}")).status == 400


async def test_all_of_it_is_for_admins(site: Site) -> None:
    await failed(site, "7.0")
    reads = ("", "/one", "/one/deliveries", "/one/deadLetters")
    calls = [
        *(("GET", path, None) for path in reads),
        ("POST", "", BODY),
        *(("POST", f"/one/{verb}", None) for verb in ("rotate", "enable", "ping")),
        ("POST", "/one/disable", {"why": "x"}),
        *(("POST", f"/one/deadLetters/{verb}", {}) for verb in ("redeliver", "discard")),
        ("DELETE", "/one", None),
    ]
    for role, status in (("viewer", 403), ("operator", 403), ("admin", 200)):
        headers = site.grant(role)  # type: ignore[arg-type]
        for method, path, body in calls:
            answer = await site.send(method, f"{ALL}{path}", json=body, headers=headers)
            assert answer.status == status, (role, method, path)
