"""The AsyncAPI document: sound in itself, and what was ever stored is as its schemas say."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from events.asyncapi import EVENTS, document, tag_of
from events.codec import decode
from events.messages import encode_message, message_of
from events.subjects import subject_of

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document("1.2.3")))
WEBHOOK_MESSAGES = {"webhookEvent", "webhookPing", "webhookTaken", "webhookGone", "webhookNotTaken"}
LEDGERS = sorted((Path(__file__).parents[1] / "replay" / "ledgers").glob("*.jsonl"))


def every(value: Any, key: str) -> Iterator[Any]:
    """Every value under `key`, anywhere in the document."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for item in value.values():
            yield from every(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from every(item, key)


def found(reference: str) -> Any:
    """What a reference within the document leads to."""
    value: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        value = value[part]
    return value


@cache
def validator(message: str) -> jsonschema_rs.Draft202012Validator:
    """What judges the payload of a message."""
    payload = DOCUMENT["components"]["messages"][message]["payload"]
    return jsonschema_rs.Draft202012Validator({**payload, "components": DOCUMENT["components"]})


def test_it_has_what_asyncapi_3_asks_for() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"]["title"]
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert {"host", "protocol"} <= DOCUMENT["servers"]["nats"].keys()
    for channel in DOCUMENT["channels"].values():
        declared = set(re.findall(r"\{(\w+)\}", channel["address"]))
        assert declared == channel.get("parameters", {}).keys()
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        messages = {one["$ref"] for one in operation["messages"]}
        assert messages
        assert all(one.startswith(f"{operation['channel']['$ref']}/") for one in messages)
    for kind in DOCUMENT["components"].values():
        assert all(re.fullmatch(r"[\w.-]+", name) for name in kind)


def test_every_reference_leads_somewhere() -> None:
    references = set(every(DOCUMENT, "$ref"))
    assert len(references) > len(EVENTS)
    assert all(found(reference) for reference in references)


def test_every_event_is_a_message_of_its_own() -> None:
    tags = {tag_of(event) for event in EVENTS}
    assert DOCUMENT["channels"]["events"]["messages"].keys() == tags
    others = {"record", *WEBHOOK_MESSAGES}
    assert tags == DOCUMENT["components"]["messages"].keys() - others


def test_the_address_of_records_is_their_subject() -> None:
    pattern = re.sub(r"\{\w+\}", r"[A-Za-z0-9_-]+", DOCUMENT["channels"]["records"]["address"])
    for line in LEDGERS[0].read_bytes().splitlines():
        assert re.fullmatch(pattern, subject_of(decode(line)))


def test_the_examples_are_as_their_schemas_say() -> None:
    messages = DOCUMENT["components"]["messages"]
    shown = [name for name in messages if messages[name].get("examples")]
    assert {"record", "webhookEvent", "webhookPing"} <= set(shown)
    for name in shown:
        for example in messages[name]["examples"]:
            validator(name).validate(example["payload"])


def test_what_tells_types_apart_is_named_as_asyncapi_names_it() -> None:
    """It says so differently from OpenAPI; its own JSON Schema takes the document so."""
    assert set(every(DOCUMENT, "discriminator")) == {"type"}


def test_the_schemas_are_json_schema() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


@pytest.mark.parametrize("ledger", LEDGERS, ids=lambda path: path.stem)
def test_what_was_ever_stored_is_as_the_schemas_say(ledger: Path) -> None:
    of_record = validator("record")
    of_event = {tag_of(event): validator(tag_of(event)) for event in EVENTS}
    for seq, line in enumerate(ledger.read_bytes().splitlines(), 1):
        of_record.validate(msgspec.json.decode(line))
        record = decode(line)
        for index, event in enumerate(record.events):
            message = msgspec.json.decode(encode_message(message_of(seq, record, index, event)))
            of_event[message["type"]].validate(message)


def test_what_is_no_such_event_is_seen_to_be_none() -> None:
    message = DOCUMENT["components"]["messages"]["operation.accepted.v1"]["examples"][0]["payload"]
    judge = validator("operation.accepted.v1")
    for wrong in (
        {**message, "type": "operation.failed.v1"},
        {**message, "data": {**message["data"], "type": "operation.failed.v1"}},
        {**message, "data": {**message["data"], "name": 7}},
        {key: value for key, value in message.items() if key != "seq"},
    ):
        assert not judge.is_valid(wrong)
    assert judge.is_valid({**message, "later": 1, "data": {**message["data"], "later": 1}})
