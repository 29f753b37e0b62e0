"""One event of a record as a message of its own: CloudEvents 1.0, as subscribers over HTTP get it.

The record that it stands in is told by its extensions; `seq` and `recordid` say which one it is.
"""

import re
from typing import Self

import msgspec
from msgspec import Struct

from events.codec import show_time
from events.record import Event, Record


class EventMessage(Struct, frozen=True, omit_defaults=True):
    """One event, with what its record says of it."""

    id: str
    """Where it stands in the ledger: `<seq>.<index>`. Never given twice by one ledger."""
    source: str
    type: str
    subject: str
    time: str
    timeus: int
    """The same instant, microseconds since the epoch, UTC."""
    verb: str
    seq: int
    """The position of its record in the ledger."""
    recordid: str
    """The id of its record, which is the message's on the stream."""
    data: Event
    actor: str = ""
    tenant: str = ""
    remote: str = ""
    """The address that the command came from."""
    operationid: str = ""
    traceparent: str = ""
    specversion: str = ""
    datacontenttype: str = ""


_EVENT_ID = re.compile(r"([0-9]{1,18})\.([0-9]{1,9})")


class Place(Struct, frozen=True):
    """The place after an event: those of record `seq + 1` up to `index` were seen as well."""

    seq: int
    index: int = -1

    @classmethod
    def of(cls, event_id: str) -> Self:
        """The place after the event with this id. Raises ValueError when it is none."""
        if (parts := _EVENT_ID.fullmatch(event_id)) is None:
            raise ValueError(f"{event_id!r} is no id of an event")
        return cls(int(parts[1]) - 1, int(parts[2]))


_encoder = msgspec.json.Encoder()


def type_of(event: Event) -> str:
    """The type tag that an event is stored with."""
    return str(event.__struct_config__.tag)


def message_of(seq: int, record: Record, index: int, event: Event) -> EventMessage:
    """An event of a record, with its place in the ledger. `event` may be a censored copy."""
    return EventMessage(
        specversion="1.0",
        id=f"{seq}.{index}",
        source=f"/gpuledger/{record.node}",
        type=type_of(event),
        subject=f"{record.kind}/{record.name}",
        time=show_time(record.at_us),
        timeus=record.at_us,
        verb=record.verb,
        seq=seq,
        recordid=record.command_id,
        datacontenttype="application/json",
        data=event,
        actor=record.actor,
        tenant=record.tenant,
        remote=record.remote,
        operationid=record.operation_id,
        traceparent=record.traceparent,
    )


def encode_message(message: EventMessage) -> bytes:
    """As JSON, on one line."""
    return _encoder.encode(message)
