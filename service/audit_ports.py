"""What is kept for an audit beside the ledger: refusals, and signed checkpoints of the chains."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType

from events.codec import hash_of, message_id_of
from events.subjects import token
from service.ports import Entry, StoredEntry


class Refusal(Struct, frozen=True, tag="refusal.v1", omit_defaults=True):
    """A request that was refused: who asked what, from where, and what was answered.

    Neither a token nor a body is in it: both may hold secrets.
    """

    id: str
    """As the caller was told it, in the header X-Refusal-Id."""
    at_us: int
    """When it was refused first, microseconds since the epoch, UTC."""
    seq: int
    """The last record that the ledger had confirmed by then."""
    code: int
    """The contract's."""
    status: int
    reason: str
    message: str
    method: str
    route: str
    """Its pattern; "unknown" of what is no route."""
    kind: str = ""
    name: str = ""
    verb: str = ""
    actor: str = ""
    tenant: str = ""
    token: str = ""
    """Of a token that was not let in: the first 8 digits of its SHA-256, as `tokens.json` has
    them; only of what looks like one of ours, as others could be guessed by it."""
    remote: str = ""
    request_id: str = ""
    operation_id: str = ""
    """That the command would have got, or has got where the ledger did not confirm."""
    times: int = 1
    """So many were alike and came one after the other: this stands for all of them."""
    place: int = 0
    """Of those of its caller it is so many-th; 0 of one that was stored before 0.6.0."""
    prevhash: str = ""
    """SHA-256 of its caller's refusal before, in hexadecimal; empty in the first one."""
    prev_us: int = 0
    """When that one was refused: so it can be told why it is not there any more."""


class RefusalsLost(Struct, frozen=True, tag="lost.v1", omit_defaults=True):
    """Refusals that are not listed: there were too many, or they could not be kept."""

    at_us: int
    """When the first of them was refused."""
    seq: int
    times: int
    place: int = 0
    """As of a refusal; they are among those of unknown callers."""
    prevhash: str = ""
    prev_us: int = 0


Noted = Refusal | RefusalsLost

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Noted).decode

REFUSALS = "refusals"
"""What the subjects of refusals begin with."""


def decode_noted(body: bytes) -> Noted:
    """What was noted, as it is stored. Raises msgspec.DecodeError and UnicodeDecodeError."""
    noted: Noted = _decode(body)
    return noted


def caller_of(noted: Noted) -> str:
    """Whose it is, as a part of its subject; "" of all who are not known together."""
    return token(noted.actor) if isinstance(noted, Refusal) and noted.actor else ""


def subject_of(noted: Noted) -> str:
    """The subject that it is stored under: one for each known caller, and one for all others."""
    caller = caller_of(noted)
    return f"{REFUSALS}.known.{caller}" if caller else f"{REFUSALS}.unknown"


def name_of(noted: Noted) -> str:
    """What it is called, also where it is sent again."""
    return noted.id if isinstance(noted, Refusal) else f"lost-{noted.at_us}-{noted.times}"


def entry_of(noted: Noted) -> Entry:
    """It as it is to be stored: its message is named by its own hash."""
    body = _encode(noted)
    return Entry(subject_of(noted), message_id_of(name_of(noted), hash_of(body)), body)


class NotedEntry(Struct, frozen=True):
    """What was noted, as it is stored. Numbers only grow, and may have gaps."""

    number: int
    noted: Noted


class RefusalBounds(Struct, frozen=True):
    """What the log of refusals forgets by: always the oldest, and never one in between."""

    per_caller: int
    """Of each known caller, and of all who are not known together."""
    bytes: int
    age_us: int


KEPT = RefusalBounds(50_000, 256 << 20, 400 * 86_400 * 10**6)
"""50,000 of a caller are some 40 MB."""


class RefusalLog(Protocol):
    """Where refusals are kept, apart from the ledger. It forgets the oldest, by size and age.

    What one known caller is refused never pushes out what others were, nor do those who are not
    known push out those who are. Everything raises LedgerUnavailable.
    """

    async def append(self, entries: Sequence[Entry], last_number: int) -> int:
        """Keep them, in order, behind the one with this number; the number of the last of them.

        When it raises, some of the first may be kept; also when another one is the last there.
        """
        ...

    async def ends(self) -> tuple[int, Sequence[StoredEntry]]:
        """The number of the last one, and the newest of each caller that has any."""
        ...

    async def before(self, number: int | None, limit: int) -> Sequence[NotedEntry]:
        """The newest with a smaller number (of all, without one), newest first.

        Raises LedgerDamaged too, when one cannot be read.
        """
        ...

    async def after(self, number: int, limit: int) -> Sequence[StoredEntry]:
        """The oldest with a greater number, oldest first, as they are stored."""
        ...


class RefusalHead(Struct, frozen=True, omit_defaults=True):
    """That a caller's refusals were those that end with this one."""

    caller: str
    last: int
    """Its place."""
    hash: str
    """SHA-256 of it, in hexadecimal: by the chain, of all those before."""
    at_us: int
    """When it was refused."""
    first: int = 1
    """From this place on; in an export those of before are not there."""


class Checkpoint(Struct, frozen=True):
    """That the ledger of an installation had this record at this place."""

    node: str
    owner: str
    seq: int
    hash: str
    """SHA-256 of the record at `seq`, in hexadecimal: by the chain, of all those before."""
    at: str
    """When it was signed, RFC 3339 in UTC."""
    count: int
    """How many this installation has signed, this one included: who took one away left a gap."""
    key: str
    """The first 16 digits of the public key's SHA-256."""
    signature: str = ""
    """Ed25519, in base64, over `signed_text`."""
    refusals: tuple[RefusalHead, ...] | UnsetType = UNSET
    """Of each caller that has any; not there in what was signed before 0.6.0."""

    def signed_text(self) -> bytes:
        """What is signed: the checkpoint as JSON in one line, with an empty signature."""
        return _encode(msgspec.structs.replace(self, signature=""))


class Signer(Protocol):
    """The key of an installation. It does not leave it."""

    @property
    def key_id(self) -> str:
        """The first 16 digits of the public key's SHA-256."""
        ...

    @property
    def public_pem(self) -> str:
        """The public key, PEM."""
        ...

    def signature(self, text: bytes) -> str:
        """Ed25519, in base64."""
        ...


class CheckpointBook(Protocol):
    """Where an installation's checkpoints are kept: in one place, and perhaps in another."""

    async def last(self) -> Checkpoint | None:
        """The newest one here. Raises AuditError when what is there cannot be read."""
        ...

    async def following(self, seq: int) -> Checkpoint | None:
        """The first one here at or behind a record. Raises AuditError."""
        ...

    async def add(self, checkpoint: Checkpoint) -> None:
        """Keep one, on disk when this returns. Raises AuditError."""
        ...

    async def mirror(self) -> None:
        """Bring the other place up to date, if there is one. Raises AuditError that names it."""
        ...


class Fault(Struct, frozen=True):
    """The first record that is not as it was written, or that is not there."""

    seq: int
    """0 where that is not known."""
    what: str


class RefusalsVerified(Struct, frozen=True):
    """What was found of refusals. Without a fault each with a hash is proven by those behind it."""

    refusals: int
    unchained: int
    """From before 0.6.0: nothing proves them."""
    forgotten: int
    """That were there, and that the log forgot by its limits."""
    vouched: int
    """That a checkpoint proves; of the others the last of each caller only its own hash does."""
    fault: str = ""


class Verified(Struct, frozen=True):
    """What was found. Without a fault every record with a hash is proven by those behind it."""

    records: int
    unchained: int
    """From before 0.5.0: nothing proves them."""
    last_seq: int
    checkpoints: int
    """That were compared."""
    vouched_seq: int
    """The last record that a checkpoint proves; what is behind it only its own hash does."""
    fault: Fault | None = None
    refusals: RefusalsVerified | None = None
    """None where there is no log of them."""

    @property
    def is_well(self) -> bool:
        """Is all as it was written?"""
        return self.fault is None and (self.refusals is None or not self.refusals.fault)
