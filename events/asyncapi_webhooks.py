"""Webhooks in the AsyncAPI document: what is sent, and how to know that it is ours.

A channel for each kind of thing that is posted; the answers to it are in the same channel.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from events.webhook_messages import CONTENT_TYPE, PING_TYPE, Ping, PingMessage, WebhookHeaders

_BINDING = "0.3.0"
_SIGNATURE = "webhookSignature"

SECRET = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
SIGNED = ("17.0", "1700000000", '{"a":1}')
SIGNATURE = "v1,fD40ELc66+SqlfSd9yvK4dPcTpTot/jar4c2GI7o89E="
"""Something to try a verification with: id, timestamp and body, signed with a secret."""

_VERIFYING = f"""\
Signed as https://www.standardwebhooks.com has it; its libraries verify it. The key is the base64
behind `whsec_` of the secret that was shown at the registration, or at the last rotation. Take the
body as it came, byte for byte, and make the HMAC-SHA256 over the Webhook-Id, a dot, the
Webhook-Timestamp, a dot, and the body. Its base64 behind `v1,` has to be one of those in
Webhook-Signature, which blanks part; compare in constant time. Then look whether the timestamp is
of the last five minutes. For example, `{SECRET}` with the id `{SIGNED[0]}`, the timestamp
`{SIGNED[1]}` and the body `{SIGNED[2]}` makes `{SIGNATURE}`."""

_PROMISE = """\
At least once, until it is answered 2xx; what comes again has the same Webhook-Id. One request at a
time for each webhook, in the order of the log; an event that was not taken is sent again later, up
to ten times within 16 hours or more, and those after it go on. Secrets are hidden."""

_ANSWERS: dict[str, tuple[int, str]] = {
    "webhookTaken": (204, "It was taken; any 2xx says so. The body is not looked at."),
    "webhookGone": (410, "Do not come again: the webhook is disabled until somebody enables it."),
    "webhookNotTaken": (
        503,
        "It is sent again, after 5 s at first and 8 h at last. Any other status says the same,"
        " redirects too, and so does no answer within 10 s.",
    ),
}
"""The messages of an answer, with a status that stands for those that mean the same."""

_RETRY_AFTER = {
    "type": "object",
    "properties": {
        "Retry-After": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "Seconds, up to an hour: it does not come again before.",
        }
    },
}


def servers() -> dict[str, Any]:
    """Where webhooks are received."""
    return {
        "receiver": {
            "host": "{host}",
            "protocol": "https",
            "description": "Yours: the address that a webhook was registered with. Plain http is"
            " for receivers on the service's own host, or where a registration allows it.",
            "variables": {"host": {"default": "ci.example.com"}},
            "security": [{"$ref": f"#/components/securitySchemes/{_SIGNATURE}"}],
        }
    }


def channels() -> dict[str, Any]:
    """One for each kind of thing that is posted."""
    return {
        "webhookEvents": _channel("Events, each a request to a webhook", "webhookEvent"),
        "webhookPings": _channel("A test message to a webhook", "webhookPing"),
    }


def operations() -> dict[str, Any]:
    """What is sent, and what may be answered."""
    return {
        "postEvent": _operation(
            "webhookEvents", "webhookEvent", "An event that a webhook's filter selects.", _PROMISE
        ),
        "postPing": _operation(
            "webhookPings",
            "webhookPing",
            "Somebody asks whether the receiver is there.",
            "Once, when somebody asks for it. It is no event, and a 410 to it disables nothing.",
        ),
    }


def messages(tags: Iterable[str], example: dict[str, Any]) -> dict[str, Any]:
    """What is posted and what is answered. An event is one of those with these `tags`; `example`
    is one."""
    payloads = [{"$ref": f"#/components/messages/{tag}/payload"} for tag in tags]
    found: dict[str, Any] = {
        "webhookEvent": {
            "name": "webhookEvent",
            "title": "An event, as webhooks get it",
            "payload": {"oneOf": payloads},
            "examples": [{"name": "event", "payload": example}],
        },
        "webhookPing": {
            "name": PING_TYPE,
            "title": "A ping",
            "payload": {
                "allOf": [
                    {"$ref": f"#/components/schemas/{PingMessage.__name__}"},
                    {"properties": {"type": {"const": PING_TYPE}}},
                ]
            },
            "examples": [{"name": "ping", "payload": msgspec.to_builtins(_ping())}],
        },
    }
    for message in found.values():
        message["traits"] = [{"$ref": "#/components/messageTraits/webhook"}]
    for name, (status, about) in _ANSWERS.items():
        binding: dict[str, Any] = {"statusCode": status, "bindingVersion": _BINDING}
        if name == "webhookNotTaken":
            binding["headers"] = _RETRY_AFTER
        found[name] = {"name": name, "summary": about, "bindings": {"http": binding}}
    return found


def traits() -> dict[str, Any]:
    """What all messages to webhooks have in common."""
    return {
        "webhook": {
            "contentType": CONTENT_TYPE,
            "headers": {"$ref": f"#/components/schemas/{WebhookHeaders.__name__}"},
            "correlationId": {
                "location": "$message.header#/Webhook-Id",
                "description": "The same at every try: what came already is known by it.",
            },
            "bindings": {
                "http": {
                    "headers": {
                        "type": "object",
                        "properties": {
                            "Content-Type": {"const": CONTENT_TYPE},
                            "User-Agent": {"type": "string", "pattern": "^gpuledger/"},
                        },
                        "required": ["Content-Type", "User-Agent"],
                    },
                    "bindingVersion": _BINDING,
                }
            },
        }
    }


def security() -> dict[str, Any]:
    """How a receiver knows who sends."""
    return {
        _SIGNATURE: {
            "type": "httpApiKey",
            "name": "Webhook-Signature",
            "in": "header",
            "description": _VERIFYING,
        }
    }


TYPES: tuple[type[Any], ...] = (WebhookHeaders, PingMessage)
"""What is described beside events."""


def _channel(title: str, message: str) -> dict[str, Any]:
    names = (message, *_ANSWERS)
    return {
        "address": "/{path}",
        "title": title,
        "servers": [{"$ref": "#/servers/receiver"}],
        "parameters": {"path": {"description": "Of the address that it was registered with."}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def _operation(channel: str, message: str, summary: str, description: str) -> dict[str, Any]:
    def listed(*names: str) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names]

    return {
        "action": "send",
        "summary": summary,
        "description": description,
        "channel": {"$ref": f"#/channels/{channel}"},
        "security": [{"$ref": f"#/components/securitySchemes/{_SIGNATURE}"}],
        "bindings": {"http": {"method": "POST", "bindingVersion": _BINDING}},
        "messages": listed(message),
        "reply": {"channel": {"$ref": f"#/channels/{channel}"}, "messages": listed(*_ANSWERS)},
    }


def _ping() -> PingMessage:
    return PingMessage(
        specversion="1.0",
        id="ping-0197a1b2-0000-7000-8000-000000000002",
        source="/gpuledger/gpu-1",
        type=PING_TYPE,
        subject="webhook/ci",
        time="2026-05-28T20:26:40.000000Z",
        datacontenttype="application/json",
        data=Ping("ci"),
    )
