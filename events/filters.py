"""Whether somebody wants to be told of an event."""

from events.messages import type_of
from events.record import Event, Record
from events.webhooks import Wanted


def wants_record(wanted: Wanted, record: Record) -> bool:
    """May events of this record be among what is asked for?"""
    return (
        (not wanted.kind or record.kind == wanted.kind)
        and (not wanted.name or record.name == wanted.name)
        and (not wanted.tenant or record.tenant == wanted.tenant)
    )


def wants_event(wanted: Wanted, event: Event) -> bool:
    """Is this event of such a record among it?"""
    return not wanted.types or type_of(event) in wanted.types
