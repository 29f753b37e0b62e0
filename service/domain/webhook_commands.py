"""Commands about webhooks."""

from msgspec import Struct

from events.webhooks import Wanted


class RegisterWebhook(Struct, frozen=True, tag=True):
    """Send events to an address from now on."""

    name: str
    url: str
    key_id: str
    """Of the key that secrets are made with here."""
    wanted: Wanted = Wanted()
    after_seq: int | None = None
    """Begin after this record; None is from now on."""


class RotateWebhook(Struct, frozen=True, tag=True):
    """Give a webhook a new secret."""

    name: str
    key_id: str


class DisableWebhook(Struct, frozen=True, tag=True):
    """Send nothing to a webhook until it is enabled. `why` is for people."""

    name: str
    why: str
    registered_seq: int | None = None
    """Only the one that this record registered; None is whoever has the name."""


class EnableWebhook(Struct, frozen=True, tag=True):
    """Go on sending to a webhook that was disabled."""

    name: str


class RemoveWebhook(Struct, frozen=True, tag=True):
    """Forget a webhook, with what is still to be sent to it."""

    name: str


WebhookCommand = RegisterWebhook | RotateWebhook | DisableWebhook | EnableWebhook | RemoveWebhook
