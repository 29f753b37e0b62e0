"""Who is registered, by the records alone, and what each of them is to be sent.

Written from docs/webhooks.md and docs/subscribing.md, not from the service's code.
"""

import base64
import hashlib
import hmac
from bisect import bisect_right
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from events.codec import decode
from events.record import Record
from events.webhooks import (
    Wanted,
    WebhookDisabled,
    WebhookEnabled,
    WebhookRegistered,
    WebhookRemoved,
    WebhookRotated,
)
from service.application.webhook_signing import Signer
from tests.kit.memory_ledger import MemoryLedger

DAY_US = 24 * 3600 * 1_000_000

Change = WebhookRegistered | WebhookRotated | WebhookDisabled | WebhookEnabled | WebhookRemoved

EventKey = tuple[int, int]
"""An event: the record that it stands in, and which one of that it is."""

Secrets = tuple[tuple[str, int | None], ...]


class Registration(Struct, frozen=True):
    """A webhook as it is after some record."""

    name: str
    seq: int
    """Of the record that registered it."""
    after_seq: int
    url: str
    wanted: Wanted
    key_id: str
    secrets: Secrets
    """The operations that secrets were made of, the newest first, and until when each counts."""
    disabled: str = ""


class Registrations:
    """Everybody who was ever registered, and the events of the log as they are to be sent."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._bodies: list[bytes] = []
        self._known: dict[str, list[tuple[int, Registration | None]]] = {}
        self._wanted: dict[int, list[EventKey]] = {}
        self.disabled_by_us: list[tuple[int, Registration]] = []
        """Whom the service disabled itself, and in which record."""

    def read_on(self, ledger: MemoryLedger) -> None:
        """What was stored since the last time."""
        new = ledger.entries[len(self._records) :]
        if new:
            self._wanted.clear()
        for entry in new:
            record = decode(entry.body)
            self._records.append(record)
            self._bodies.append(entry.body)
            for event in record.events:
                if isinstance(event, Change):
                    self._apply(entry.seq, record, event)

    def at(self, name: str, seq: int) -> Registration | None:
        """Who has this name after a record."""
        changes = self._known.get(name, [])
        index = bisect_right(changes, seq, key=lambda change: change[0])
        return changes[index - 1][1] if index else None

    def is_changed(self, name: str, after_seq: int, until_seq: int) -> bool:
        """Was there a record about this name between two?"""
        return any(after_seq < seq <= until_seq for seq, _ in self._known.get(name, []))

    def now(self) -> list[Registration]:
        """Those who are registered at the end of the log."""
        found = (changes[-1][1] for changes in self._known.values())
        return [one for one in found if one is not None]

    def names(self) -> list[str]:
        """Every name that a webhook ever had."""
        return list(self._known)

    def next_wanted(self, one: Registration, place: EventKey) -> EventKey | None:
        """The first event after a place that its filter selects."""
        wanted = self.wanted(one)
        index = bisect_right(wanted, place)
        return wanted[index] if index < len(wanted) else None

    def wanted(self, one: Registration) -> list[EventKey]:
        """All events that were stored since it begins and that its filter selects."""
        if one.seq not in self._wanted:
            self._wanted[one.seq] = [
                (seq, index)
                for seq, record in enumerate(self._records, 1)
                if seq > one.after_seq and _is_about(one.wanted, record)
                for index, event in enumerate(record.events)
                if not one.wanted.types or event.__struct_config__.tag in one.wanted.types
            ]
        return self._wanted[one.seq]

    def message(self, key: EventKey) -> dict[str, Any]:
        """An event as it is sent: the envelope of its record, with this event for its data."""
        seq, index = key
        raw = msgspec.json.decode(self._bodies[seq - 1])
        raw.pop("prevhash", None)
        events = raw.pop("data")["events"]
        return {
            **raw,
            "id": f"{seq}.{index}",
            "type": events[index]["type"],
            "seq": seq,
            "recordid": raw["id"],
            "data": _with_hidden_url(events[index]),
        }

    def size(self, seq: int) -> int:
        """How many events a record has."""
        return len(self._records[seq - 1].events)

    def _apply(self, seq: int, record: Record, event: Change) -> None:
        changes = self._known.setdefault(event.name, [])
        known = changes[-1][1] if changes else None
        changed: Registration | None = None
        match event:
            case WebhookRegistered():
                after_seq = seq if event.after_seq is None else event.after_seq
                secrets: Secrets = ((event.secret_id, None),)
                changed = Registration(
                    event.name, seq, after_seq, event.url, event.wanted, event.key_id, secrets
                )
            case WebhookRotated() if known is not None:
                until_us = record.at_us + DAY_US
                old = ((known.secrets[0][0], until_us),) if event.key_id == known.key_id else ()
                secrets = ((event.secret_id, None), *old)
                changed = replace(known, key_id=event.key_id, secrets=secrets)
            case WebhookDisabled() if known is not None:
                changed = replace(known, disabled=event.why)
                if record.actor == "webhooks":
                    self.disabled_by_us.append((seq, known))
            case WebhookEnabled() if known is not None:
                changed = replace(known, disabled="")
        changes.append((seq, changed))


def signatures(
    signer: Signer, one: Registration, message_id: str, at_us: int, timestamp: str, body: bytes
) -> list[str]:
    """What Standard Webhooks makes of the secrets that count at an instant, as they were shown."""
    found = []
    for secret_id, until_us in one.secrets:
        if until_us is None or at_us < until_us:
            secret = signer.secret(one.name, secret_id)
            key = base64.b64decode(secret.removeprefix("whsec_"))
            signed = f"{message_id}.{timestamp}.".encode() + body
            mac = hmac.digest(key, signed, hashlib.sha256)
            found.append(f"v1,{base64.b64encode(mac).decode()}")
    return found


def _is_about(wanted: Wanted, record: Record) -> bool:
    return (
        wanted.kind in ("", record.kind)
        and wanted.name in ("", record.name)
        and wanted.tenant in ("", record.tenant)
    )


def _with_hidden_url(event: dict[str, Any]) -> dict[str, Any]:
    """Of an address the host is shown: what follows may be the secret of its owner."""
    if "url" not in event:
        return event
    scheme, _, rest = event["url"].partition("://")
    return {**event, "url": f"{scheme}://{rest.partition('/')[0]}/***"}
