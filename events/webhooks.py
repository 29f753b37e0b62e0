"""Facts about webhooks: who is told of events by a request of ours, and of which.

No secret is in them: it is made of the installation's key and `secret_id`. `key_id` says of which
key, so that one which is not there any more is known for it.
"""

from msgspec import Struct


class Wanted(Struct, frozen=True, omit_defaults=True):
    """Which events somebody asks for; empty is all."""

    kind: str = ""
    name: str = ""
    tenant: str = ""
    types: tuple[str, ...] = ()
    """Type tags, in order."""


class WebhookRegistered(
    Struct, frozen=True, tag_field="type", tag="webhook.registered.v1", omit_defaults=True
):
    """Events are sent to this address from now on, one by one."""

    name: str
    url: str
    secret_id: str
    """The operation that its secret is made of."""
    key_id: str
    wanted: Wanted = Wanted()
    after_seq: int | None = None
    """The record that it begins after; None is the one that this event stands in."""


class WebhookRotated(
    Struct, frozen=True, tag_field="type", tag="webhook.rotated.v1", omit_defaults=True
):
    """A webhook has a new secret; what is sent is signed with the one before too for a while."""

    name: str
    secret_id: str
    key_id: str
    old_until_us: int = 0
    """Until when the one before counts; 0 when it cannot be made any more."""


class WebhookDisabled(
    Struct, frozen=True, tag_field="type", tag="webhook.disabled.v1", omit_defaults=True
):
    """Nothing is sent to a webhook until it is enabled; its place in the ledger stays."""

    name: str
    why: str


class WebhookEnabled(
    Struct, frozen=True, tag_field="type", tag="webhook.enabled.v1", omit_defaults=True
):
    """A webhook that was disabled goes on from its place."""

    name: str


class WebhookRemoved(
    Struct, frozen=True, tag_field="type", tag="webhook.removed.v1", omit_defaults=True
):
    """A webhook is gone, with what was still to be sent to it."""

    name: str
