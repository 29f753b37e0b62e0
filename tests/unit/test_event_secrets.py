"""What is hidden in events, and that nothing which could hold a secret was forgotten."""

from collections.abc import Iterator
from typing import Any

import pytest

from events.asyncapi import schemas
from events.operations import OperationAccepted
from events.outcomes import ImageResolved
from events.record import Event, Record
from events.replica_sets import ReplicaSetDeleted, RevisionDeclared
from events.webhooks import WebhookRegistered
from projections.state import State
from service.web.event_secrets import carries_env, hidden_event, hidden_events, marked_keys
from tests.kit.builders import IMAGE, IMAGE_ID, replica_set, revision, spec, state_of

TREATED = {("ContainerSpec", "env"), ("ImageResolved", "env"), ("OperationAccepted", "request")}
"""Where the environment stands, and what a caller asked for; `hidden_event` knows them all."""

DECLARED = RevisionDeclared(
    "foo", 1, "run", spec(env=("A=1", "B=2", "MY_TOKEN=3"), secret_env=("B",)), (), (), "none"
)


def record(*events: Event, kind: str = "replica_set") -> Record:
    return Record("id-1", "n1", kind, "foo", "run", 1, events)


def open_objects(schema: dict[str, Any]) -> Iterator[str]:
    """The fields of a type in which there may be anything, or an environment."""
    for name, field in schema.get("properties", {}).items():
        anything = field.get("type") == "object" and "additionalProperties" not in field
        if "env" in name.split("_") or anything:
            yield name


def test_every_place_of_an_environment_is_known() -> None:
    found = {
        (title, name) for title, schema in schemas().items() for name in open_objects(schema)
    }
    keys_and_results = {("ContainerSpec", "secret_env"), ("OperationSucceeded", "result")}
    assert found - keys_and_results == TREATED


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (DECLARED, ("A=1", "B=***", "MY_TOKEN=***")),
        (ImageResolved("foo", 1, IMAGE, IMAGE_ID, ("PATH=/", "C=4", "API_KEY=5")), None),
    ],
)
def test_marked_and_telling_keys_are_hidden(
    event: Event, expected: tuple[str, ...] | None
) -> None:
    hidden = hidden_event(event, {"C"})
    if expected is None:
        assert isinstance(hidden, ImageResolved)
        assert hidden.env == ("PATH=/", "C=***", "API_KEY=***")
    else:
        assert isinstance(hidden, RevisionDeclared)
        assert hidden.spec.env == expected


def test_what_is_marked_in_any_version_is_hidden_in_every_request() -> None:
    earlier = revision(1, spec=spec(env=("X=1",), secret_env=("X",)))
    state = state_of(replica_set(newest=2), earlier)
    asked = OperationAccepted("id-1", "patch", "replica_set", "foo", {"env": ["X=2", "Y=3"]})
    marked = marked_keys(record(asked), state)
    hidden = hidden_event(asked, marked)
    assert isinstance(hidden, OperationAccepted)
    assert hidden.request == {"env": ["X=***", "Y=3"]}


def test_what_is_marked_within_a_record_counts_for_all_of_it() -> None:
    assert marked_keys(record(DECLARED), State()) == {"B"}


def test_what_carries_nothing_is_left_alone() -> None:
    event = ReplicaSetDeleted("foo")
    assert not carries_env(record(event))
    assert hidden_event(event, {"B"}) is event


def test_where_a_webhook_leads_is_for_admins() -> None:
    """Many an address has what lets one in as a part of its path."""
    registered = WebhookRegistered("ci", "https://hooks.example/T0/hush", "op-1", "key")
    asked = OperationAccepted("id-1", "register", "webhook", "ci", {"url": registered.url})
    hidden = hidden_events(record(asked, registered, kind="webhook"), State())
    assert "hush" not in str(hidden)
    assert str(hidden).count("https://hooks.example/***") == 2
