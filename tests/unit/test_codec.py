"""Records to bytes and back, and what is said of bytes that are no record."""

from dataclasses import dataclass

import msgspec
import pytest

from events.codec import (
    RECORD_BYTES_MAX,
    RecordTooLarge,
    UnreadableRecord,
    decode,
    encode,
    read_time,
    show_time,
)
from events.operations import OperationAccepted
from events.record import Record
from events.resources import GpusLeased
from tests.kit.histories import records


def accepted(request: dict[str, object]) -> Record:
    return Record(
        command_id="c-1",
        node="n1",
        kind="replica_set",
        name="foo",
        verb="run",
        at_us=1_700_000_000_123_456,
        events=(
            OperationAccepted("c-1", "run", "replica_set", "foo", request),
            GpusLeased("foo", 1, ("GPU-a",)),
        ),
        actor="ann",
        tenant="lab",
        operation_id="c-1",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )


def test_every_record_comes_back_as_it_was() -> None:
    for record in records(3_000, names=8):
        assert decode(encode(record)) == record


def test_all_attributes_of_the_record_are_stored() -> None:
    record = accepted({"imageName": "a:1", "gpuCount": 0, "binds": [{"src": "/a", "dest": "/b"}]})
    assert decode(encode(record)) == record


def test_a_stored_record_is_a_cloud_event() -> None:
    stored = msgspec.json.decode(encode(accepted({})))
    assert stored["specversion"] == "1.0"
    assert stored["id"] == "c-1"
    assert stored["source"] == "/gpuledger/n1"
    assert stored["subject"] == "replica_set/foo"
    assert stored["type"] == "operation.accepted.v1"
    assert stored["time"] == show_time(1_700_000_000_123_456) == "2023-11-14T22:13:20.123456Z"
    assert stored["datacontenttype"] == "application/json"
    assert [event["type"] for event in stored["data"]["events"]] == [
        "operation.accepted.v1",
        "gpus.leased.v1",
    ]


def test_an_attribute_or_field_from_a_later_version_is_passed_over() -> None:
    stored = msgspec.json.decode(encode(accepted({})))
    stored["sequencetype"] = "new"
    stored["data"]["events"][1]["priority"] = 7
    assert decode(msgspec.json.encode(stored)) == accepted({})


def test_an_unknown_type_is_named() -> None:
    stored = msgspec.json.decode(encode(accepted({})))
    stored["type"] = stored["data"]["events"][0]["type"] = "operation.teleported.v9"
    with pytest.raises(UnreadableRecord, match=r"operation\.teleported\.v9"):
        decode(msgspec.json.encode(stored))


def test_a_field_of_the_wrong_type_is_named() -> None:
    stored = msgspec.json.decode(encode(accepted({})))
    stored["data"]["events"][1]["revision"] = "one"
    with pytest.raises(UnreadableRecord, match=r"operation\.accepted\.v1.*revision"):
        decode(msgspec.json.encode(stored))


def test_a_record_cut_off_anywhere_is_unreadable() -> None:
    body = encode(accepted({"imageName": "a:1"}))
    for length in range(len(body)):
        with pytest.raises(UnreadableRecord):
            decode(body[:length])


@dataclass
class Bad:
    name: str
    body: bytes


@pytest.mark.parametrize(
    "bad",
    [
        Bad("empty", b""),
        Bad("no JSON", b"\x00\xff garbage"),
        Bad("no object", b"[1, 2, 3]"),
        Bad("null", b"null"),
        Bad("not UTF-8", b'{"id": "\xff\xfe"}'),
        Bad("type is no text", b'{"type": 7}'),
        Bad("deep array", b"[" * 100_000),
        Bad("deep object", b'{"id":' * 100_000),
        Bad("deep request", b'{"type": "x", "data": ' + b'{"events": [' * 50_000),
    ],
    ids=lambda bad: bad.name,
)
def test_what_is_no_record_is_unreadable(bad: Bad) -> None:
    with pytest.raises(UnreadableRecord):
        decode(bad.body)


def test_a_deeply_nested_request_is_unreadable() -> None:
    body = encode(accepted({"imageName": "@"}))
    with pytest.raises(UnreadableRecord):
        decode(body.replace(b'"@"', b"[" * 50_000 + b"]" * 50_000))


def test_the_size_limit_is_exact() -> None:
    room = RECORD_BYTES_MAX - len(encode(accepted({"cmd": ""})))
    assert len(encode(accepted({"cmd": "x" * room}))) == RECORD_BYTES_MAX
    with pytest.raises(RecordTooLarge, match=str(RECORD_BYTES_MAX + 1)):
        encode(accepted({"cmd": "x" * (room + 1)}))


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-01T12:00:00.123456789Z", 1_793_534_400_123_456),
        ("2026-11-01T13:00:00.5+01:00", 1_793_534_400_500_000),
        ("1969-12-31T23:59:59.000001Z", -999_999),
        ("", None),
        ("2026-11-01T12:00:00", None),
        ("soon", None),
    ],
)
def test_an_instant_is_read_to_the_microsecond(text: str, at_us: int | None) -> None:
    assert read_time(text) == at_us
