"""What is sent to webhooks beside events, and the headers of all that is."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

PING_TYPE = "webhook.ping.v1"
"""The type of what a ping sends. It is no event: it stands in no ledger."""

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


class WebhookHeaders(Struct, frozen=True):
    """What https://www.standardwebhooks.com has every request bear."""

    id: Annotated[
        str,
        Meta(
            description="The event's `id`, its place in the log, or `ping-` and an id: the same at"
            " every try. Keep those you have seen, with the `source` if several services send to"
            " you.",
            pattern=r"^([0-9]+\.[0-9]+|ping-.+)$",
            examples=["17.0"],
        ),
    ] = field(name="Webhook-Id")
    timestamp: Annotated[
        str,
        Meta(
            description="When this try was sent, seconds since the epoch. Refuse one that is five"
            " minutes off.",
            pattern="^[0-9]+$",
            examples=["1700000000"],
        ),
    ] = field(name="Webhook-Timestamp")
    signature: Annotated[
        str,
        Meta(
            description="`v1,` and the base64 of the HMAC-SHA256 over `id.timestamp.body`. For a"
            " day after a rotation there are two, with a blank between: one of them has to be"
            " right.",
            pattern="^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)?$",
            examples=["v1,fD40ELc66+SqlfSd9yvK4dPcTpTot/jar4c2GI7o89E="],
        ),
    ] = field(name="Webhook-Signature")

    def as_dict(self) -> dict[str, str]:
        """By their names in HTTP."""
        found: dict[str, str] = msgspec.to_builtins(self)
        return found


class Ping(Struct, frozen=True, tag_field="type", tag=PING_TYPE):
    """Somebody asks whether a webhook's receiver is there."""

    name: str
    """Of the webhook."""


class PingMessage(Struct, frozen=True):
    """A ping as it is sent: CloudEvents 1.0, as an event, but of no record."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    data: Ping
