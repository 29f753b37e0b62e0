"""The same hiding for events as for answers: what is marked as secret, or by its key says it is."""

from collections.abc import Collection

from msgspec.structs import replace

from events.operations import OperationAccepted
from events.outcomes import ImageResolved
from events.record import Event, Record
from events.replica_sets import RevisionDeclared
from projections.state import State
from service.web.secrets import hidden_env, hidden_request


def marked_keys(record: Record, state: State) -> Collection[str]:
    """The keys that are marked as secret in any version of what a record is about."""
    marked: set[str] = set()
    for event in record.events:
        if isinstance(event, RevisionDeclared):
            marked.update(event.spec.secret_env)
    replica_set = state.replica_sets.get(record.name) if record.kind == "replica_set" else None
    for number in range(1, replica_set.newest + 1 if replica_set is not None else 1):
        revision = state.revisions.get((record.name, number))
        if revision is not None:
            marked.update(revision.spec.secret_env)
    return marked


def carries_env(record: Record) -> bool:
    """Is there anything in it that could be a secret?"""
    return any(
        isinstance(event, RevisionDeclared | OperationAccepted | ImageResolved)
        for event in record.events
    )


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
    return event
