"""`GET /explain` over HTTP: each kind of thing, at any point, and every refusal names its field."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.operations import OperationAccepted
from events.record import Record
from events.webhooks import WebhookRegistered
from service.audit_ports import Refusal
from service.web.past import LEDGER_SEQ
from tests.kit.histories import gpu_uuid, records
from tests.kit.inline_store import InlineStore
from tests.kit.past import explainer_of, past_of, stored
from tests.kit.web_site import Answer, Site

HISTORY = list(records(400, names=3))
END = len(HISTORY)
RUN_SEQ = next(
    seq for seq, record in enumerate(HISTORY, 1) if (record.name, record.verb) == ("set1", "run")
)
RUN_ID = HISTORY[RUN_SEQ - 1].command_id
"""The record that accepted the first `run` of set1, and the operation that it began."""


class ExplainingSite(Site):
    """A site that explains a history."""

    def __init__(self, store: InlineStore) -> None:
        past = past_of(HISTORY, store)
        super().__init__(past=past, present=store, explainer=explainer_of(HISTORY, store, past))

    async def explain(self, what: str, **query: Any) -> Answer:
        params = {name: str(value) for name, value in query.items()}
        return await self.send("GET", f"/api/v1/explain/{what}", params=params)


@pytest.fixture
async def site() -> AsyncIterator[ExplainingSite]:
    async with InlineStore() as store:
        await stored(HISTORY, store)
        async with ExplainingSite(store) as site:
            yield site


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("replicaSet/set1", "set1 is set1-"),
        ("replicaSet/set1@1", "set1-1 was declared by run"),
        ("volume/disk1", "volume disk1 is disk1-"),
        (f"gpu/{gpu_uuid(1)}", "has GPU 1"),
        ("gpu/1", "has GPU 1"),
        ("port/40006", "40006"),
        (f"operation/{RUN_ID}", "run of set1, asked for by ann, succeeded"),
        (f"record/{RUN_SEQ}", "run of set1 was accepted"),
    ],
)
@pytest.mark.parametrize("everything", [0, 1])
async def test_each_kind(site: ExplainingSite, what: str, words: str, everything: int) -> None:
    told = await site.explain(what, all=everything)
    assert told.status == 200, told.json
    assert told.data["seq"] == END
    assert words in told.data["answer"][0]["text"]
    seqs = [link["seq"] for link in told.data["chain"]]
    assert seqs == sorted(seqs)
    for link in told.data["chain"]:
        record = HISTORY[link["seq"] - 1]
        assert (link["kind"], link["name"], link["actor"]) == (
            record.kind,
            record.name,
            record.actor,
        )
        assert link["says"]


async def test_a_link_says_who_asked_and_how_it_ended(site: ExplainingSite) -> None:
    chain = (await site.explain(f"operation/{RUN_ID}")).data["chain"]
    first, last = chain[0], chain[-1]
    assert (first["seq"], first["actor"], first["verb"]) == (RUN_SEQ, "ann", "run")
    assert (first["outcome"], first["endedSeq"], first["cause"]) == ("succeeded", last["seq"], None)
    assert (last["cause"], last["outcome"]) == (RUN_SEQ, "")
    assert {"text": "GPU 1: taken, nobody has it", "seq": None} in first["decidedFrom"]


async def test_as_it_was(site: ExplainingSite) -> None:
    then = await site.explain("replicaSet/set1", at=RUN_SEQ)
    assert then.headers[LEDGER_SEQ] == str(RUN_SEQ)
    assert then.data["seq"] == RUN_SEQ
    assert [link["seq"] for link in then.data["chain"]] == [RUN_SEQ]
    assert then.data["chain"][0]["outcome"] == "goes on"
    assert (await site.explain("replicaSet/set1", at=RUN_SEQ - 1)).status == 404


async def test_a_history_has_as_many_records_as_asked_for(site: ExplainingSite) -> None:
    few = (await site.explain("replicaSet/set1", all=1, limit=2)).data
    whole = (await site.explain("replicaSet/set1", all=1, limit=500)).data
    assert (few["older"], whole["older"]) == (True, False)
    own = [seq for seq, one in enumerate(HISTORY, 1) if one.name == "set1"]
    assert [link["seq"] for link in whole["chain"]] == own


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("replicaSet/nobody", 1016),
        ("replicaSet/set1@99", 1016),
        ("volume/nobody", 1033),
        ("operation/nobody", 1106),
        ("gpu/99", 1000),
        ("port/0", 1000),
        (f"record/{END + 1}", 1000),
        (f"gpu/{'x' * 5_000}", 1000),
    ],
)
async def test_what_is_not_there(site: ExplainingSite, what: str, code: int) -> None:
    refused = await site.explain(what)
    assert (refused.status, refused.code) == (404, code)
    assert refused.data == {"reason": "nothing_to_explain"}
    assert len(refused.json["msg"]) < 200
    assert ("there is no version 99 of set1" in refused.json["msg"]) is ("@" in what)


@pytest.mark.parametrize(
    ("what", "query", "field"),
    [
        ("container/set1", {}, "kind"),
        ("replicaSet/set1", {"limit": 0}, "limit"),
        ("replicaSet/set1", {"limit": 501}, "limit"),
        ("replicaSet/set1", {"all": "yes"}, "all"),
        ("replicaSet/set1", {"at": END + 1}, "at"),
    ],
)
async def test_what_makes_no_sense(
    site: ExplainingSite, what: str, query: dict[str, Any], field: str
) -> None:
    refused = await site.explain(what, **query)
    assert (refused.status, refused.code) == (400, 1000)
    assert refused.data == {"reason": "bad_request", "field": field}


async def test_no_environment_is_told(site: ExplainingSite) -> None:
    """Whatever a viewer asks: what is in an environment may be a secret."""
    for what in ("replicaSet/set1", "replicaSet/set1@1", f"record/{RUN_SEQ}", "gpu/1"):
        told = await site.explain(what, all=1)
        assert b"MODE=train" not in told.body
        assert b"CONTAINER_VERSION=" not in told.body


@pytest.mark.parametrize("url", ["https://ci.example/SeCrEt/4711", "https://ci.example?k=SeCrEt"])
async def test_of_a_webhook_only_the_host_is_told(url: str) -> None:
    """Its address is for admins; whoever may read can ask why of every record and refusal."""
    begun = OperationAccepted("op-1", "register", "webhook", "ci", {"url": url})
    registered = WebhookRegistered("ci", url, "op-1", "key")
    history = (
        Record(
            command_id="op-1",
            operation_id="op-1",
            at_us=1_000_000,
            kind="webhook",
            name="ci",
            verb="register",
            node="n1",
            events=(begun, registered),
            actor="root",
        ),
    )
    refusal = Refusal(
        id="refusal-1",
        at_us=2_000_000,
        seq=1,
        code=1123,
        status=409,
        reason="webhook_exists",
        message="there is a webhook ci already",
        method="POST",
        route="/api/v1/webhooks",
        kind="webhook",
        name="ci",
        verb="register",
        actor="root",
    )
    async with InlineStore() as store:
        await stored(history, store)
        past = past_of(history, store)
        explainer = explainer_of(history, store, past)
        async with Site(past=past, present=store, explainer=explainer) as site:
            await site.audit.chain.keep([refusal])
            viewer = site.grant("viewer")
            for what in ("record/1", "operation/op-1", f"refusal/{refusal.id}"):
                told = await site.send("GET", f"/api/v1/explain/{what}", headers=viewer)
                assert told.status == 200, told.json
                assert b"SeCrEt" not in told.body
                assert b"https://ci.example" in told.body
