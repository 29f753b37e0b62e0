"""The basis of a record: what `decide` was given beside the state, kept with what it answered.

Pure. With it and the records before, every decision can be taken again and explained.
"""

import msgspec

from events.codec import Basis, CloudEvent, UnreadableRecord
from events.record import acceptance
from service.domain.commands import Command, Envelope, Facts

NO_OTHER_FACTS = msgspec.Raw(b"{}")
"""What a record has whose facts are those of the record before."""

_encoder = msgspec.json.Encoder()
_facts = msgspec.json.Decoder(Facts)
_command = msgspec.json.Decoder[Command](Command)


def basis_of(envelope: Envelope) -> Basis:
    """Command and facts of an envelope; the rest of it the record has itself."""
    return Basis(
        msgspec.Raw(_encoder.encode(envelope.command)), msgspec.Raw(_encoder.encode(envelope.facts))
    )


def facts_of(event: CloudEvent, before: Facts | None) -> Facts | None:
    """The facts that a record was decided on; `before` are those of the record before it.

    None when no record up to this one has any. Raises UnreadableRecord.
    """
    if event.data.basis is None or bytes(event.data.basis.facts) == bytes(NO_OTHER_FACTS):
        return before
    try:
        return _facts.decode(event.data.basis.facts)
    except msgspec.DecodeError as error:
        raise UnreadableRecord(f"the facts of {event.type}: {error}") from error


def command_of(event: CloudEvent) -> Command | None:
    """The command that a record was decided on; None of one from before 0.5.0.

    Raises UnreadableRecord.
    """
    if event.data.basis is None:
        return None
    try:
        command: Command = _command.decode(event.data.basis.command)
    except msgspec.DecodeError as error:
        raise UnreadableRecord(f"the command of {event.type}: {error}") from error
    return command


def envelope_of(event: CloudEvent, command: Command, facts: Facts) -> Envelope:
    """The envelope that a record was decided on, as it was."""
    accepted = acceptance(event.data.events)
    return Envelope(
        command_id=event.id,
        issued_at_us=event.timeus,
        command=command,
        facts=facts,
        actor=event.actor,
        tenant=event.tenant,
        remote=event.remote,
        request=accepted.request if accepted else {},
        fingerprint=accepted.fingerprint if accepted else "",
        traceparent=event.traceparent,
    )
