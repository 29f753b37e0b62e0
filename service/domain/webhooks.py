"""The rules for webhooks: a name is one of them, and there are only so many."""

from typing import assert_never

from events.operations import OperationSucceeded
from events.record import Event
from events.values import Verb
from events.webhooks import (
    WebhookDisabled,
    WebhookEnabled,
    WebhookRegistered,
    WebhookRemoved,
    WebhookRotated,
)
from projections.state import State
from projections.webhook_book import Webhook
from service.domain.commands import Envelope
from service.domain.guards import Decision, accepted
from service.domain.rejections import Reason, Rejected
from service.domain.webhook_commands import (
    DisableWebhook,
    EnableWebhook,
    RegisterWebhook,
    RemoveWebhook,
    RotateWebhook,
    WebhookCommand,
)

WEBHOOKS_MAX = 64
"""Each has a connection of its own, and takes its turn at every event."""

OVERLAP_US = 24 * 3600 * 1_000_000
"""So long after a rotation what is sent is signed with the secret before, too."""


def decide(state: State, envelope: Envelope, command: WebhookCommand) -> Decision:
    """What a command about a webhook leads to. All but a registration need one that is there."""
    known = state.webhooks.get(command.name)
    if isinstance(command, RegisterWebhook):
        return _register(state, envelope, command)
    if known is None:
        text = f"there is no webhook {command.name}"
        return Rejected(Reason.WEBHOOK_NOT_FOUND, text)
    if isinstance(command, DisableWebhook) and command.registered_seq not in (None, known.seq):
        text = f"webhook {command.name} is another one now"
        return Rejected(Reason.WEBHOOK_NOT_FOUND, text)
    match command:
        case RotateWebhook():
            return _rotate(known, envelope, command)
        case DisableWebhook():
            # Disabled is disabled, for whatever reason: the first one stays.
            events = () if known.disabled else (WebhookDisabled(known.name, command.why),)
            return _done(envelope, "disable", known.name, *events)
        case EnableWebhook():
            enabled = (WebhookEnabled(known.name),) if known.disabled else ()
            return _done(envelope, "enable", known.name, *enabled)
        case RemoveWebhook():
            return _done(envelope, "remove", known.name, WebhookRemoved(known.name))
    assert_never(command)


def _register(state: State, envelope: Envelope, command: RegisterWebhook) -> Decision:
    if command.name in state.webhooks:
        return Rejected(
            Reason.WEBHOOK_EXISTS,
            f"there is a webhook {command.name} already; remove it first, or take another name",
        )
    if len(state.webhooks) >= WEBHOOKS_MAX:
        return Rejected(
            Reason.WEBHOOKS_EXHAUSTED,
            f"there are {WEBHOOKS_MAX} webhooks, which is as many as there may be; remove one",
        )
    event = WebhookRegistered(
        name=command.name,
        url=command.url,
        secret_id=envelope.command_id,
        key_id=command.key_id,
        wanted=command.wanted,
        after_seq=command.after_seq,
    )
    return _done(envelope, "register", command.name, event)


def _rotate(known: Webhook, envelope: Envelope, command: RotateWebhook) -> Decision:
    # With another key the secret before cannot be made any more.
    until_us = envelope.issued_at_us + OVERLAP_US if known.key_id == command.key_id else 0
    event = WebhookRotated(known.name, envelope.command_id, command.key_id, until_us)
    return _done(envelope, "rotate", known.name, event)


def _done(envelope: Envelope, verb: Verb, name: str, *events: Event) -> Decision:
    """Accepted, and done with it."""
    begin = accepted(envelope, verb, name, "webhook")
    return (begin, *events, OperationSucceeded(envelope.command_id))
