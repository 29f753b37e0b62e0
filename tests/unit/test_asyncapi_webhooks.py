"""Webhooks in the AsyncAPI document: what is really sent is as it says, and is verified by it."""

import base64
import hashlib
import hmac
from typing import Any

import jsonschema_rs

from events.asyncapi_webhooks import SECRET, SIGNATURE, SIGNED
from events.operations import OperationProgressed, OperationSucceeded
from service.application.webhook_signing import Signer
from service.domain.webhook_commands import RotateWebhook
from tests.kit.virtual_time import virtual
from tests.kit.webhook_rig import Rig, Sent
from tests.unit.test_asyncapi import DOCUMENT, found, validator


def trait_of(message: str) -> Any:
    """What a message has in common with the others."""
    (trait,) = DOCUMENT["components"]["messages"][message]["traits"]
    return found(trait["$ref"])


def judge(schema: Any) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


async def sent() -> list[Sent]:
    """Two events, one of them under two secrets, and a ping."""
    rig = Rig()
    async with rig.living() as webhooks:
        await rig.register()
        await rig.happen(OperationProgressed("op-7", "FillDisk", 1, 2), actor="ci")
        await rig.pass_(1)
        await rig.do(RotateWebhook("one", rig.signer.key_id))
        await rig.happen(OperationSucceeded("op-7"))
        await rig.pass_(1)
        await webhooks.ping(rig.state.webhooks["one"])
    return rig.receivers.got


@virtual
async def test_what_is_sent_is_as_the_document_says() -> None:
    got = await sent()
    assert len(got) > 4
    assert " " in got[-1].headers["Webhook-Signature"]
    for one in got:
        name, other = "webhookEvent", "webhookPing"
        if one.payload["type"] == "webhook.ping.v1":
            name, other = other, name
        validator(name).validate(one.payload)
        assert not validator(other).is_valid(one.payload)
        trait = trait_of(name)
        headers = judge(trait["headers"])
        headers.validate(one.headers)
        for header in ("Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"):
            assert not headers.is_valid({k: v for k, v in one.headers.items() if k != header})
            assert not headers.is_valid({**one.headers, header: "?"})
        assert one.headers["Content-Type"] == trait["contentType"]
        of_http = judge(trait["bindings"]["http"]["headers"])
        from_us = {**one.headers, "User-Agent": "gpuledger/1.2.3"}
        of_http.validate(from_us)
        assert not of_http.is_valid({**from_us, "Content-Type": "application/json"})


def test_an_event_of_one_type_is_not_taken_for_another() -> None:
    (example,) = DOCUMENT["components"]["messages"]["webhookEvent"]["examples"]
    wrong = {**example["payload"], "type": "operation.failed.v1"}
    assert not validator("webhookEvent").is_valid(wrong)


def test_who_sends_is_verified_as_it_is_told_there() -> None:
    """The example can be verified, and it is what is told beside the header."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    mac = hmac.digest(key, ".".join(SIGNED).encode(), hashlib.sha256)
    assert f"v1,{base64.b64encode(mac).decode()}" == SIGNATURE
    (reference,) = DOCUMENT["servers"]["receiver"]["security"]
    scheme = found(reference["$ref"])
    assert (scheme["in"], scheme["name"]) == ("header", "Webhook-Signature")
    assert all(text in scheme["description"] for text in (SECRET, SIGNATURE, *SIGNED))
    assert len(Signer(bytes(32)).secret("one", "op-1")) == len(SECRET)


def test_a_request_is_a_post_and_its_answers_are_told() -> None:
    for name, channel in (("postEvent", "webhookEvents"), ("postPing", "webhookPings")):
        operation = DOCUMENT["operations"][name]
        assert operation["action"] == "send"
        assert operation["bindings"]["http"]["method"] == "POST"
        assert operation["channel"]["$ref"] == f"#/channels/{channel}"
        answers = [found(found(one["$ref"])["$ref"]) for one in operation["reply"]["messages"]]
        codes = [answer["bindings"]["http"]["statusCode"] for answer in answers]
        assert codes == [204, 410, 503]
