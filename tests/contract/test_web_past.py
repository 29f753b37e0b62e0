"""`?at=` over HTTP: the answer as it was, and every refusal names its field."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.codec import show_time
from service.web.past import LEDGER_SEQ
from tests.kit.histories import records
from tests.kit.inline_store import InlineStore
from tests.kit.past import past_of, stored
from tests.kit.web_site import Answer, Site

HISTORY = list(records(400, names=3))
END = len(HISTORY)
RUN_SEQ = next(
    seq for seq, record in enumerate(HISTORY, 1) if (record.name, record.verb) == ("set1", "run")
)
"""The record that accepted the first `run` of set1: its container was not made yet."""

READS = (
    *("replicaSet", "replicaSet/set1", "replicaSet/set1/history", "volumes", "operations"),
    *("resources/gpus", "resources/ports", "operations?name=set1&limit=3"),
)


class PastSite(Site):
    """A site whose present is the end of the history."""

    def __init__(self, store: InlineStore) -> None:
        super().__init__(past=past_of(HISTORY, store), present=store)

    async def at(self, path: str, at: str | int) -> Answer:
        return await self.send("GET", f"/api/v1/{path}", params={"at": str(at)})


@pytest.fixture
async def store() -> AsyncIterator[InlineStore]:
    async with InlineStore() as store:
        await stored(HISTORY, store)
        yield store


@pytest.fixture
async def site(store: InlineStore) -> AsyncIterator[PastSite]:
    async with PastSite(store) as site:
        yield site


def time_of(seq: int) -> str:
    return show_time(HISTORY[seq - 1].at_us)


@pytest.mark.parametrize("path", READS)
async def test_at_the_end_it_is_the_answer_of_today(site: PastSite, path: str) -> None:
    today = await site.get(f"/api/v1/{path}")
    then = await site.at(path, END)
    assert today.status == then.status == 200
    assert then.body == today.body
    assert then.headers[LEDGER_SEQ] == str(END)
    assert LEDGER_SEQ not in today.headers


async def test_before_the_first_record_there_is_nothing(site: PastSite) -> None:
    assert (await site.at("replicaSet", 0)).data["replicaSets"] == []
    assert (await site.at("replicaSet/set1", RUN_SEQ - 1)).status == 404
    before = await site.at("replicaSet", show_time(HISTORY[0].at_us - 1))
    assert (before.headers[LEDGER_SEQ], before.data["replicaSets"]) == ("0", [])


async def test_a_point_in_the_middle_of_an_operation(site: PastSite) -> None:
    rows = (await site.at("replicaSet", RUN_SEQ)).data["replicaSets"]
    (row,) = [row for row in rows if row["name"] == "set1"]
    assert (row["container"], row["operationId"]) == ("absent", HISTORY[RUN_SEQ - 1].command_id)
    operation = (await site.at(f"operations/{row['operationId']}", RUN_SEQ)).data
    assert (operation["state"], operation["steps"]) == ("running", [])
    today = (await site.get(f"/api/v1/operations/{row['operationId']}")).data
    assert today["state"] == "succeeded"
    assert (await site.at(f"operations/{row['operationId']}", RUN_SEQ - 1)).status == 404


async def test_an_instant_is_the_last_record_before_it(site: PastSite) -> None:
    for seq in (1, 2, 77, END):
        assert (await site.at("volumes", time_of(seq))).headers[LEDGER_SEQ] == str(seq)
    local = time_of(77).replace("Z", "+00:00")
    assert (await site.at("volumes", local)).headers[LEDGER_SEQ] == "77"
    just_before = show_time(HISTORY[76].at_us - 1)
    assert (await site.at("volumes", just_before)).headers[LEDGER_SEQ] == "76"


async def test_a_day_is_its_begin_in_utc(site: PastSite) -> None:
    day = time_of(END)[:10]
    begin = await site.at("replicaSet", f"{day}T00:00:00Z")
    whole = await site.at("replicaSet", day)
    assert (whole.status, whole.body) == (200, begin.body)
    assert whole.headers[LEDGER_SEQ] == begin.headers[LEDGER_SEQ]


@pytest.mark.parametrize(
    ("at", "word"),
    [
        ("", "no point"),
        ("yesterday", "no point"),
        ("-1", "no point"),
        ("1e3", "no point"),
        ("2026-1-2", "no point"),
        ("2023-02-30", "no instant"),
        ("2999-01-01", "in the future"),
        ("2026-01-02T03:04:05", "no point"),
        ("2023-02-30T00:00:00Z", "no instant"),
        ("2999-01-01T00:00:00Z", "in the future"),
        (str(END + 1), f"ends at {END}"),
        ("9" * 18, f"ends at {END}"),
    ],
)
async def test_what_is_no_point_is_refused(site: PastSite, at: str, word: str) -> None:
    refused = await site.at("replicaSet", at)
    assert (refused.status, refused.code) == (400, 1000)
    assert refused.data == {"reason": "bad_request", "field": "at"}
    assert word in refused.json["msg"]


async def test_what_looks_at_the_host_has_no_past(site: PastSite) -> None:
    for path in ("node", "orphans", "changes"):
        refused = await site.at(path, 5)
        assert (refused.status, refused.data["field"]) == (400, "at")
    files = await site.send(
        "GET", "/api/v1/replicaSet/set1/diff", params={"from": "1", "to": "1", "at": str(END)}
    )
    assert (files.status, files.data["field"]) == (400, "at")
    assert "files=0" in files.json["msg"]
    specs = await site.send(
        *("GET", "/api/v1/replicaSet/set1/diff"),
        params={"from": "1", "to": "1", "at": str(END), "files": "0"},
    )
    assert (specs.status, specs.headers[LEDGER_SEQ]) == (200, str(END))


async def test_a_command_has_no_past(site: PastSite) -> None:
    refused = await site.send("DELETE", "/api/v1/replicaSet/set1", params={"at": "5"})
    assert (refused.status, refused.data["field"]) == (400, "at")
    assert site.intake.submitted == []


async def test_the_next_request_is_about_now_again(site: PastSite) -> None:
    today = await site.get("/api/v1/replicaSet")
    assert (await site.at("replicaSet", 0)).body != today.body
    assert (await site.get("/api/v1/replicaSet")).body == today.body


class TestChanges:
    async def changes(self, site: PastSite, **points: Any) -> Answer:
        asked = {name.rstrip("_"): str(point) for name, point in points.items()}
        return await site.send("GET", "/api/v1/changes", params=asked)

    async def test_between_two_points(self, site: PastSite) -> None:
        data = (await self.changes(site, from_=RUN_SEQ - 1, to=RUN_SEQ)).data
        assert (data["from"], data["to"]) == (RUN_SEQ - 1, RUN_SEQ)
        assert [(one["name"], one["how"]) for one in data["replicaSets"]] == [("set1", "added")]
        assert [one["how"] for one in data["ports"]] == ["added", "added"]
        (gpu,) = data["gpus"]
        assert gpu["changes"] == [{"field": "holder", "old": "", "new": "set1-1"}]
        assert data["volumes"] == []

    async def test_to_is_now_unless_it_is_given(self, site: PastSite) -> None:
        data = (await self.changes(site, from_=time_of(3))).data
        assert (data["from"], data["to"]) == (3, END)
        assert len(data["replicaSets"]) == 3

    async def test_what_is_no_point_is_refused(self, site: PastSite) -> None:
        for points, field in (
            ({}, "from"),
            ({"from_": "x"}, "from"),
            ({"from_": 1, "to": END + 1}, "to"),
        ):
            refused = await self.changes(site, **points)
            assert (refused.status, refused.data["field"]) == (400, field)


@pytest.mark.parametrize(
    ("method", "path", "field", "known"),
    [
        ("GET", "replicaSet?At=5", "At", "there are limit, after, debugOf, at"),
        ("GET", "operations?at=5&nmae=set1", "nmae", "there are limit, before, name, at"),
        ("GET", "audit/key?x=1", "x", "there are none"),
        ("DELETE", "replicaSet/set1?dryRun=1", "dryRun", "there are none"),
    ],
)
async def test_an_unknown_parameter_is_refused(
    site: PastSite, method: str, path: str, field: str, known: str
) -> None:
    refused = await site.send(method, f"/api/v1/{path}")
    assert (refused.status, refused.code, refused.data["field"]) == (400, 1000, field)
    assert known in refused.json["msg"]
    assert site.intake.submitted == []
