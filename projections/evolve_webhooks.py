"""The fold of webhooks."""

from msgspec.structs import replace

from events.record import Record
from events.webhooks import (
    WebhookDisabled,
    WebhookEnabled,
    WebhookRegistered,
    WebhookRemoved,
    WebhookRotated,
)
from projections.state import Folds, State
from projections.webhook_book import Webhook


def _put(state: State, webhook: Webhook) -> None:
    state.webhooks[webhook.name] = webhook
    state.touched.add(("webhooks", webhook.name, 0))


def _registered(state: State, record: Record, event: WebhookRegistered) -> None:
    webhook = Webhook(
        name=event.name,
        url=event.url,
        secret_id=event.secret_id,
        key_id=event.key_id,
        seq=state.seq,
        after_seq=state.seq if event.after_seq is None else event.after_seq,
        created_us=record.at_us,
        actor=record.actor,
        wanted=event.wanted,
    )
    _put(state, webhook)


def _rotated(state: State, record: Record, event: WebhookRotated) -> None:
    if (known := state.webhooks.get(event.name)) is not None:
        changed = replace(
            known,
            secret_id=event.secret_id,
            key_id=event.key_id,
            old_secret_id=known.secret_id if event.old_until_us else "",
            old_until_us=event.old_until_us,
        )
        _put(state, changed)


def _disabled(state: State, record: Record, event: WebhookDisabled) -> None:
    if (known := state.webhooks.get(event.name)) is not None:
        _put(state, replace(known, disabled=event.why))


def _enabled(state: State, record: Record, event: WebhookEnabled) -> None:
    if (known := state.webhooks.get(event.name)) is not None:
        _put(state, replace(known, disabled=""))


def _removed(state: State, record: Record, event: WebhookRemoved) -> None:
    state.webhooks.pop(event.name, None)
    state.touched.add(("webhooks", event.name, 0))


FOLDS: Folds = {
    WebhookRegistered: _registered,
    WebhookRotated: _rotated,
    WebhookDisabled: _disabled,
    WebhookEnabled: _enabled,
    WebhookRemoved: _removed,
}
