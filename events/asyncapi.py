"""The AsyncAPI 3 document of what is stored, made from the very types that are stored.

The stream of records on the NATS server, the same events one by one over HTTP, and what is posted
to webhooks.
"""

from typing import Any, get_args

import msgspec

from events import asyncapi_webhooks as webhooks
from events.codec import CloudEvent, encode
from events.messages import EventMessage, encode_message, message_of
from events.operations import OperationAccepted, OperationSucceeded
from events.record import Event, Record

EVENTS: tuple[type[Any], ...] = get_args(Event)
"""Every type of event that there ever was."""

_REFS = "#/components/schemas/{name}"
_CLOUD_EVENTS = "application/cloudevents+json"

_INTRODUCTION = """\
gpuledger's log: every decision is one record, of one or more events, all or none. A record's
`seq` is its place in the log: it begins at 1, has no gaps and is never given twice. Messages come
in the order of the log, at least once; `id` tells those that came already. A type tag is for
ever: what it says never changes its meaning, its fields never change theirs, and what is added is
optional. Whoever reads it has to pass over fields and types that it does not know."""

_SUBJECT_PARTS = {
    "node": "The name of the host; what a subject's part cannot hold is an underscore.",
    "kind": "What it is about: `replica_set`, `volume`, `gpu`, `orphan`, `price`, `month`,"
    " `webhook` or `node`.",
    "name": "Which one; what a subject's part cannot hold is an underscore.",
    "verb": "What was asked (`run`, `patch`, ...), or what was recorded: `outcome`, `progress`,"
    " `observe`, `report`, `retry`, `expire`, `register`.",
}


def document(version: str) -> dict[str, Any]:
    """The document, ready for JSON."""
    tags = [tag_of(event) for event in EVENTS]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "gpuledger",
            "version": version,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": _CLOUD_EVENTS,
        "servers": {**_servers(), **webhooks.servers()},
        "channels": {
            "records": {
                "address": "ledger.{node}.{kind}.{name}.{verb}",
                "title": "Records, on the stream LEDGER",
                "servers": [{"$ref": "#/servers/nats"}],
                "parameters": {
                    name: {"description": about} for name, about in _SUBJECT_PARTS.items()
                },
                "messages": {"record": {"$ref": "#/components/messages/record"}},
            },
            "events": {
                "address": "/api/v1/events",
                "title": "Events one by one, as server-sent events",
                "servers": [{"$ref": "#/servers/http"}],
                "messages": {tag: {"$ref": f"#/components/messages/{tag}"} for tag in tags},
            },
            **webhooks.channels(),
        },
        "operations": {
            "storeRecord": {
                "action": "send",
                "summary": "A decision was stored.",
                "channel": {"$ref": "#/channels/records"},
                "messages": [{"$ref": "#/channels/records/messages/record"}],
            },
            "sendEvent": {
                "action": "send",
                "summary": "An event of a record that is stored and folded.",
                "channel": {"$ref": "#/channels/events"},
                "bindings": {"http": {"method": "GET", "bindingVersion": "0.3.0"}},
                "messages": [{"$ref": f"#/channels/events/messages/{tag}"} for tag in tags],
            },
            **webhooks.operations(),
        },
        "components": {
            "messages": _messages(),
            "messageTraits": webhooks.traits(),
            "schemas": schemas(),
            "securitySchemes": webhooks.security(),
        },
    }


def schemas() -> dict[str, Any]:
    """JSON Schema (2020-12) of a stored record, of a message, of every event, of what webhooks get
    besides, and of their parts, by the names of their classes."""
    _, components = msgspec.json.schema_components(
        (CloudEvent, EventMessage, *EVENTS, *webhooks.TYPES), ref_template=_REFS
    )
    found: dict[str, Any] = _with_plain_discriminators(components)
    return found


def _with_plain_discriminators(value: Any) -> Any:
    """Schemas with the name of the field that tells types apart, as AsyncAPI wants it: OpenAPI,
    for which they are made, wants an object with that name in it."""
    if isinstance(value, list):
        return [_with_plain_discriminators(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: item["propertyName"]
        if key == "discriminator" and isinstance(item, dict) and "propertyName" in item
        else _with_plain_discriminators(item)
        for key, item in value.items()
    }


def tag_of(event: type[Any]) -> str:
    """The type tag that events of a class are stored with."""
    return str(event.__struct_config__.tag)


def _servers() -> dict[str, Any]:
    return {
        "nats": {
            "host": "{host}",
            "protocol": "nats",
            "description": "The server that holds the ledger. Subscribers have a user of their own"
            " there, who may read and not write.",
            "variables": {"host": {"default": "127.0.0.1:4222"}},
            "security": [{"type": "userPassword"}],
        },
        "http": {
            "host": "{host}",
            "protocol": "http",
            "description": "The service itself; values of the environment that are secret are"
            " shown to admins only.",
            "variables": {"host": {"default": "127.0.0.1:2378"}},
            "security": [{"type": "http", "scheme": "bearer"}],
        },
    }


def _messages() -> dict[str, Any]:
    record = _example()
    example = {"name": "run", "payload": msgspec.json.decode(encode(record))}
    found: dict[str, Any] = {
        "record": {
            "name": "record",
            "title": "A record",
            "summary": "One decision, with its events in `data.events`; its `type` is that of the"
            " first. The header Nats-Msg-Id is its `id`, a colon and the beginning of its SHA-256.",
            "contentType": _CLOUD_EVENTS,
            "payload": {"$ref": _REFS.format(name=CloudEvent.__name__)},
            "examples": [example],
        }
    }
    examples = {
        type(event): msgspec.json.decode(encode_message(message_of(7, record, index, event)))
        for index, event in enumerate(record.events)
    }
    for event in EVENTS:
        message: dict[str, Any] = {
            "name": tag_of(event),
            "title": event.__name__,
            "summary": " ".join((event.__doc__ or "").split()),
            "contentType": _CLOUD_EVENTS,
            "payload": {
                "allOf": [
                    {"$ref": _REFS.format(name=EventMessage.__name__)},
                    {
                        "properties": {
                            "type": {"const": tag_of(event)},
                            "data": {"$ref": _REFS.format(name=event.__name__)},
                        }
                    },
                ]
            },
        }
        if event in examples:
            message["examples"] = [{"name": "example", "payload": examples[event]}]
        found[tag_of(event)] = message
    example_event = examples[type(record.events[0])]
    return {**found, **webhooks.messages(map(tag_of, EVENTS), example_event)}


def _example() -> Record:
    """A record such as there may be one."""
    operation_id = "0197a1b2-0000-7000-8000-000000000001"
    return Record(
        command_id=operation_id,
        node="gpu-1",
        kind="replica_set",
        name="foo",
        verb="pause",
        at_us=1_780_000_000_000_000,
        events=(
            OperationAccepted(operation_id, "pause", "replica_set", "foo", {}),
            OperationSucceeded(operation_id),
        ),
        actor="ci",
        operation_id=operation_id,
    )
