"""Texts by chance: what is taken means one thing, and what is stored is read back the same."""

import json
import string
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.codec import UnreadableRecord, decode, encode
from events.record import Event, Record
from events.values import (
    SIZE_BYTES_MAX,
    is_image,
    is_name,
    parse_size,
    show_size,
    split_versioned,
    versioned,
)
from service.web import schemas
from service.web.problems import BadRequest
from service.web.schemas import DiskPaths

BOUNDED = settings(max_examples=200, deadline=None, database=None, derandomize=True)

TEXTS = st.text(max_size=40)
"""Of all scripts; no surrogates, which JSON in UTF-8 has none of."""

DIGITS = st.text(st.characters(categories=["Nd"]), min_size=1, max_size=6)
NEARLY_SIZES = st.builds(
    lambda *parts: "".join(parts),
    DIGITS,
    st.sampled_from(["", ".5", ".", " ", "\u2003"]),
    st.sampled_from(["KB", "mb", "Gb", "TB", "B", "KiB", "\uff2b\uff22", ""]),
)
ASCII = set(string.printable)


@BOUNDED
@given(NEARLY_SIZES | TEXTS)
@example("\uff120GB")
@example("1e9GB")
def test_a_size_is_written_with_ascii_digits_and_is_never_negative(text: str) -> None:
    size = parse_size(text)
    if size is not None:
        assert set(text) <= ASCII
        assert 0 <= size <= SIZE_BYTES_MAX
        assert parse_size(show_size(size)) is not None or size < 1024


@BOUNDED
@given(st.builds("{}-{}".format, st.sampled_from(["foo", "a_b", "9"]), DIGITS) | TEXTS)
@example("bar-1\u0663")
@example("bar-01")
def test_a_version_has_one_spelling(text: str) -> None:
    found = split_versioned(text)
    if found is not None:
        assert versioned(*found) == text
        assert is_name(found[0])


@BOUNDED
@given(st.builds("reg.x:{}/busybox:{}".format, DIGITS, DIGITS) | TEXTS)
@example("reg.x:\u0663/busybox")
def test_names_and_images_are_ascii(text: str) -> None:
    if is_name(text) or is_image(text):
        assert set(text) <= ASCII - set(string.whitespace)


JSON_TREES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        *("imageName", "replicaSetName", "gpuCount", "binds", "env", "cmd", "containerPorts"),
        *("cpus", "memory", "shmSize", "pidsLimit", "labels", "onExit", "maxRetries", "dataDisk"),
        *("fileStorage", "gpuPatch", "volumePatch", "version", "newImageName", "workDir"),
        *("name", "size"),
    ]
)
GOOD: dict[str, Any] = {"imageName": "busybox", "replicaSetName": "foo", "name": "foo", "as": "bug"}
BODIES = st.dictionaries(FIELDS, JSON_TREES | NEARLY_SIZES, max_size=4)


@BOUNDED
@given(BODIES | JSON_TREES, st.binary(max_size=3))
def test_a_body_is_taken_or_refused_and_nothing_else(tree: Any, spoilt: bytes) -> None:
    bodies = [tree, {**GOOD, **tree}] if isinstance(tree, dict) else [tree]
    for body in (json.dumps(one).encode() + spoilt for one in bodies):
        for parse in (
            lambda body: schemas.parse_run(body, DiskPaths()),
            lambda body: schemas.parse_patch("foo", body),
            lambda body: schemas.parse_rollback("foo", body),
            lambda body: schemas.parse_debug("foo", body),
            lambda body: schemas.parse_commit("foo", body),
            lambda body: schemas.parse_execute("foo", body),
            schemas.parse_create_volume,
            lambda body: schemas.parse_resize_volume("foo", body),
        ):
            with suppress(BadRequest):
                command, raw = parse(body)
                # It can be stored, and is stored as it was meant.
                assert msgspec.json.decode(msgspec.json.encode(raw)) == raw
                stored = msgspec.json.encode(command)
                assert msgspec.json.decode(stored, type=type(command)) == command


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_bytes_are_a_record_or_are_said_to_be_none(data: st.DataObject) -> None:
    body = data.draw(st.binary(max_size=200) | JSON_TREES.map(lambda t: json.dumps(t).encode()))
    with suppress(UnreadableRecord):
        decode(body)


@BOUNDED
@given(TEXTS, TEXTS, st.integers(0, 4_000_000_000_000_000), st.dictionaries(TEXTS, JSON_TREES))
def test_what_is_stored_is_read_back(
    text: str, name: str, at_us: int, asked: dict[str, Any]
) -> None:
    asked = msgspec.json.decode(msgspec.json.encode(asked))  # as a caller can have sent it
    accepted = {"type": "operation.accepted.v1", "operation_id": text, "request": asked}
    event = msgspec.convert(
        {**accepted, "verb": "run", "kind": "replica_set", "name": name}, type=Event
    )
    record = Record(text, "n1", "replica_set", name, "run", at_us, (event,), actor=text)
    body = encode(record)
    assert decode(body) == record
    assert encode(decode(body)) == body
    for place in range(0, len(body), max(1, len(body) // 20)):
        spoilt = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        with suppress(UnreadableRecord):
            decode(spoilt)
