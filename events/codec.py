"""Bytes to Record and back: CloudEvents 1.0, structured JSON.

The attributes that CloudEvents knows are `specversion`, `id`, `source`, `type`, `subject`,
`time` and `datacontenttype`; ours are the lower-case extensions (`timeus`, `verb`, ...). The
`type` of a record is the type of its first event. `prevhash` chains the records: it is the hash
of the record before, of all its stored bytes, that one's own `prevhash` among them.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec
from msgspec import Struct

from events.record import Event, Record

RECORD_BYTES_MAX = 512 * 1024
"""A record above this is refused before it is stored; the ledger takes a little more."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class UnreadableRecord(Exception):
    """A stored record that this version cannot read. It names what it could not read."""


class RecordTooLarge(Exception):
    """A record is above RECORD_BYTES_MAX; nothing was stored."""


class Basis(Struct, frozen=True):
    """What a record was decided on, beside the records before it: to decide again, and to explain.

    In the terms of the version that wrote it: no subscriber should build on it.
    """

    command: msgspec.Raw
    facts: msgspec.Raw
    """What the host and the settings were; `{}` when they were as at the record before."""


class Data(Struct, frozen=True, omit_defaults=True):
    """What a record says: its events, all or none."""

    events: tuple[Event, ...]
    basis: Basis | None = None


class CloudEvent(Struct, frozen=True, omit_defaults=True):
    """A record as it is stored."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    timeus: int
    verb: str
    data: Data
    actor: str = ""
    tenant: str = ""
    remote: str = ""
    operationid: str = ""
    traceparent: str = ""
    prevhash: str = ""
    """SHA-256 of the record before, in hexadecimal; empty in the first one, and in those that were
    stored before 0.5.0."""
    specversion: str = ""
    datacontenttype: str = ""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(CloudEvent)


def show_time(at_us: int) -> str:
    """An instant as RFC 3339 in UTC, to the microsecond."""
    second, microsecond = divmod(at_us, 1_000_000)
    return f"{_show_second(second)}.{microsecond:06}Z"


def read_time(text: str) -> int | None:
    """Microseconds since the epoch of an RFC 3339 instant, such as Docker's, cut after the sixth
    place; None of a text that is none, or that does not say from where it counts."""
    if not text:
        return None  # Docker's way to say never; to fail on it costs ten times as much
    try:
        since = datetime.fromisoformat(text) - _EPOCH
    except (ValueError, TypeError, OverflowError):
        return None
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@lru_cache(maxsize=16)
def _show_second(second: int) -> str:
    """Records come many to a second, and the calendar was half of what encoding one cost."""
    return (_EPOCH + timedelta(seconds=second)).isoformat(timespec="seconds")[:-6]


def hash_of(body: bytes) -> str:
    """The hash of a stored record, as the next one bears it."""
    return hashlib.sha256(body).hexdigest()


def message_id_of(command_id: str, digest: str) -> str:
    """What the message is called that holds a record with this hash.

    The command's id alone does not do: decided again after a crash, the same command is another
    record, and what was sent to follow the first must not be taken to follow the second.
    """
    return f"{command_id}:{digest[:16]}"


def encode(record: Record, previous: str = "", basis: Basis | None = None) -> bytes:
    """A record as it is stored after the one whose hash is `previous`. Raises RecordTooLarge."""
    first = record.events[0]
    body = _encoder.encode(
        CloudEvent(
            specversion="1.0",
            id=record.command_id,
            source=f"/gpuledger/{record.node}",
            type=str(first.__struct_config__.tag),
            subject=f"{record.kind}/{record.name}",
            time=show_time(record.at_us),
            timeus=record.at_us,
            verb=record.verb,
            datacontenttype="application/json",
            data=Data(record.events, basis),
            actor=record.actor,
            tenant=record.tenant,
            remote=record.remote,
            operationid=record.operation_id,
            traceparent=record.traceparent,
            prevhash=previous,
        )
    )
    if len(body) > RECORD_BYTES_MAX:
        raise RecordTooLarge(f"the record has {len(body)} bytes, {RECORD_BYTES_MAX} are allowed")
    return body


def decode(body: bytes) -> Record:
    """A stored record. Raises UnreadableRecord, naming the field or the unknown type."""
    return record_of(read(body))


def read(body: bytes) -> CloudEvent:
    """A stored record with its basis and its place in the chain. Raises UnreadableRecord."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableRecord(f"{_claimed_type(body)}: {error}") from error


def record_of(event: CloudEvent) -> Record:
    """What is folded of a stored record."""
    kind, _, name = event.subject.partition("/")
    return Record(
        command_id=event.id,
        node=event.source.rpartition("/")[2],
        kind=kind,
        name=name,
        verb=event.verb,
        at_us=event.timeus,
        events=event.data.events,
        actor=event.actor,
        tenant=event.tenant,
        remote=event.remote,
        operation_id=event.operationid,
        traceparent=event.traceparent,
    )


def _claimed_type(body: bytes) -> str:
    """What the record says of itself, for a message to people."""

    class Claim(Struct):
        type: str = "no type"

    try:
        return msgspec.json.decode(body, type=Claim).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "not a record"
