"""The same hiding for events as for answers: what is marked as secret, or by its key says it is."""

from collections.abc import Collection

from msgspec.structs import replace

from events.messages import encode_message, message_of
from events.operations import OperationAccepted
from events.outcomes import ImageResolved
from events.record import Event, Record
from events.replica_sets import RevisionDeclared
from events.webhooks import WebhookRegistered
from projections.state import State
from service.application.event_feed import Fed
from service.web.secrets import hidden_env, hidden_request, hidden_url


def marked_keys(record: Record, state: State) -> Collection[str]:
    """The keys that are marked as secret in any version of what a record is about."""
    marked = marked_in(state, record.name) if record.kind == "replica_set" else set()
    for event in record.events:
        if isinstance(event, RevisionDeclared):
            marked.update(event.spec.secret_env)
    return marked


def marked_in(state: State, name: str) -> set[str]:
    """The keys that are marked as secret in any version of a replica set.

    Of the state of now they are for the past too: what is secret by now was shown before, and is
    the same value.
    """
    replica_set = state.replica_sets.get(name)
    marked: set[str] = set()
    for number in range(1, replica_set.newest + 1 if replica_set is not None else 1):
        revision = state.revisions.get((name, number))
        if revision is not None:
            marked.update(revision.spec.secret_env)
    return marked


def carries_env(record: Record) -> bool:
    """Is there anything in it that could be a secret?"""
    return any(
        isinstance(
            event, RevisionDeclared | OperationAccepted | ImageResolved | WebhookRegistered
        )
        for event in record.events
    )


def hidden_events(record: Record, state: State) -> tuple[Event, ...]:
    """The events of a record as those who are no admins may see them."""
    if not carries_env(record):
        return record.events
    marked = marked_keys(record, state)
    return tuple(hidden_event(event, marked) for event in record.events)


def hidden_body(fed: Fed, state: State, index: int) -> bytes:
    """An event of a record as webhooks get it: secrets are hidden, whoever registered them."""
    event = hidden_events(fed.record, state)[index]
    return encode_message(message_of(fed.seq, fed.record, index, event))


def hidden_event(event: Event, marked: Collection[str]) -> Event:
    """An event as those who are no admins may see it."""
    match event:
        case RevisionDeclared():
            env = tuple(hidden_env(event.spec.env, {*marked, *event.spec.secret_env}))
            return replace(event, spec=replace(event.spec, env=env))
        case OperationAccepted():
            return replace(event, request=hidden_request(event.request, marked))
        case ImageResolved():
            return replace(event, env=tuple(hidden_env(event.env, marked)))
        case WebhookRegistered():
            return replace(event, url=hidden_url(event.url))
    return event
