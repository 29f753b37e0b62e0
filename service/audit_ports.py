"""What is kept for an audit beside the ledger: refusals, and signed checkpoints of the chain."""

from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec import Struct


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


class RefusalsLost(Struct, frozen=True, tag="lost.v1"):
    """Refusals that are not listed: there were too many, or they could not be kept."""

    at_us: int
    """When the first of them was refused."""
    seq: int
    times: int


Noted = Refusal | RefusalsLost


class NotedEntry(Struct, frozen=True):
    """What was noted, as it is stored. Numbers only grow, and may have gaps."""

    number: int
    noted: Noted


class RefusalLog(Protocol):
    """Where refusals are kept, apart from the ledger. It forgets the oldest, by size and age.

    What one known caller is refused never pushes out what others were, nor do those who are not
    known push out those who are. Everything raises LedgerUnavailable.
    """

    async def append(self, noted: Sequence[Noted]) -> None:
        """Keep them, in order. When it raises, some may be kept."""
        ...

    async def before(self, number: int | None, limit: int) -> Sequence[NotedEntry]:
        """The newest with a smaller number (of all, without one), newest first.

        Raises LedgerDamaged too, when one cannot be read.
        """
        ...


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

    def signed_text(self) -> bytes:
        """What is signed: the checkpoint as JSON in one line, with an empty signature."""
        return _encode(msgspec.structs.replace(self, signature=""))


_encode = msgspec.json.Encoder().encode


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
