"""`gpuledger webhook`: what is asked for, and how it is shown."""

from collections.abc import Iterator

import pytest

from tests.kit.command_line import Rig
from tests.kit.contract_server import ContractServer
from tests.kit.contract_webhooks import ATTEMPT, DEAD, DELIVERY
from tests.kit.contract_world import CREATED

URL = "https://ci.example/hook"
SINCE = CREATED.strftime("%Y-%m-%d %H:%M:%SZ")


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        rig = Rig(server)
        assert rig("webhook", "add", "ci", URL).exit_code == 0
        yield rig


def said(rig: Rig, *args: str) -> str:
    done = rig("webhook", *args)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_adding_one_prints_its_secret_and_nothing_else(rig: Rig) -> None:
    chosen = ("--kind", "volume", "--name", "bar", "--tenant", "lab", "--type", "a.b.v1,c.d.v1")
    args = ("two", "http://x.example/", *chosen, "--after", "0", "--insecure")
    assert said(rig, "add", *args) == "whsec_two\n"
    assert rig.world.requests[-1] == (
        "POST",
        "/api/v1/webhooks",
        {
            "webhookName": "two",
            "url": "http://x.example/",
            "events": {
                "kind": "volume",
                "name": "bar",
                "tenant": "lab",
                "types": ["a.b.v1", "c.d.v1"],
            },
            "after": 0,
            "insecure": True,
        },
    )
    assert rig.world.requests[0][2] == {"webhookName": "ci", "url": URL}
    assert rig("webhook", "add", "ci", URL).exit_code == 1
    assert rig.data("webhook", "rotate", "ci") == {"name": "ci", "secret": "whsec_ci"}
    assert said(rig, "rotate", "ci") == "whsec_ci\n"


def test_the_list_says_how_they_get_on(rig: Rig) -> None:
    said(rig, "add", "two", URL, "--kind", "volume", "--type", "a.b.v1")
    said(rig, "add", "six", URL)
    said(rig, "disable", "two", "--why", "it moves")
    trouble = {"pending": 3, "dead": 2, "trouble": "the last attempt failed: HTTP 500"}
    rig.world.webhooks["ci"]["delivery"] = {**DELIVERY, **trouble}
    heading, first, second, third = said(rig, "ls").splitlines()
    assert heading.split() == ["NAME", "URL", "EVENTS", "PENDING", "DEAD", "STATE"]
    assert first.split() == ["ci", URL, "all", "3", "2", *str(trouble["trouble"]).split()]
    expected = ["two", URL, "kind=volume", "types=a.b.v1", "0", "0", "disabled:", "it", "moves"]
    assert second.split() == expected
    assert third.split() == ["six", URL, "all", "0", "0", "well"]
    rig.world.webhooks.clear()
    assert said(rig, "ls") == "no webhooks\n"


def test_one_is_shown(rig: Rig) -> None:
    one = rig.world.webhooks["ci"]
    one["delivery"] = {
        **DELIVERY,
        "behind": 1,
        "pending": 2,
        "nextTime": CREATED.isoformat(),
        "last": {**ATTEMPT, "status": None, "error": "no answer within 10 s"},
    }
    one["oldSecretUntilTime"] = CREATED.isoformat()
    lines = [" ".join(line.split()) for line in said(rig, "show", "ci").splitlines()]
    assert lines == [
        "name ci",
        f"url {URL}",
        "events all",
        f"registered {SINCE} by ann (record 5)",
        "state well",
        f"old secret signs too until {SINCE}",
        "place 17.0, 1 record behind",
        f"pending 2, next {SINCE}",
        "dead 0",
        f"last no answer within 10 s at {SINCE}",
    ]
    one["delivery"] = None
    assert "place" not in said(rig, "show", "ci", "--at", "7")
    assert rig.world.queries[-1] == {"at": "7"}


def test_a_ping_says_what_was_answered(rig: Rig) -> None:
    assert said(rig, "ping", "ci") == "delivered, HTTP 204 in 12 ms\n"
    rig.world.ping = {"status": 500, "error": "HTTP 500: broken", "outcome": "failed"}
    failed = rig("webhook", "ping", "ci")
    assert (failed.exit_code, failed.stdout) == (1, "HTTP 500: broken in 12 ms\n")


def test_the_log_and_the_dead_letters(rig: Rig) -> None:
    assert said(rig, "deliveries", "ci") == "nothing was sent\n"
    assert said(rig, "dead", "ci") == "no dead letters\n"
    rig.world.attempts.append(ATTEMPT)
    rig.world.dead_letters += [DEAD, {**DEAD, "id": "9.2"}, {**DEAD, "id": "9.3"}]
    row = said(rig, "deliveries", "ci", "--limit", "7").splitlines()[1]
    told = ["17.0", "container.exited.v1", "2", "delivered", "12", "ms", "204"]
    assert row.split() == [*SINCE.split(), *told]
    assert rig.world.queries[-1] == {"limit": "7"}
    row = said(rig, "dead", "ci").splitlines()[1]
    assert row.split() == ["9.1", DEAD["type"], *SINCE.split(), "10", *DEAD["error"].split()]
    assert said(rig, "redeliver", "ci", "9.2") == "1 dead letter will be sent again\n"
    assert said(rig, "discard", "ci") == "2 dead letters will not be sent any more\n"


def test_one_is_switched_and_removed(rig: Rig) -> None:
    assert said(rig, "disable", "ci") == "ci is disabled\n"
    assert rig.world.webhooks["ci"]["disabledWhy"] == "by hand"
    assert said(rig, "enable", "ci") == "ci is enabled\n"
    assert said(rig, "rm", "ci") == "ci is removed\n"
    assert rig("webhook", "show", "ci").exit_code == 4
