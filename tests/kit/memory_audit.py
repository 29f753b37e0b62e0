"""What an audit stands on, in memory: a book of checkpoints, a key, and the parts on them."""

import base64
import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.application.audit import Audit, AuditReads
from service.application.checkpointing import Checkpointing
from service.application.refusal_chain import RefusalChain
from service.application.refusals import RefusalMetrics, Refusals
from service.audit_ports import Checkpoint
from service.errors import AuditError
from service.ports import Clock, Ledger
from service.telemetry import Metrics
from tests.kit.builders import NODE, OWNER
from tests.kit.memory_refusals import MemoryRefusals


class MemoryBook:
    """The port `CheckpointBook` on a list."""

    def __init__(self) -> None:
        self.kept: list[Checkpoint] = []
        self.elsewhere: list[Checkpoint] = []
        self.unreachable = ""
        """Why the other place cannot be written."""
        self.full = ""
        """Why nothing more can be kept."""

    async def last(self) -> Checkpoint | None:
        """As the port says."""
        return self.kept[-1] if self.kept else None

    async def following(self, seq: int) -> Checkpoint | None:
        """As the port says."""
        behind = (one for one in self.kept if one.seq >= seq)
        return min(behind, key=lambda one: one.seq, default=None)

    async def add(self, checkpoint: Checkpoint) -> None:
        """As the port says."""
        if self.full:
            raise AuditError(self.full)
        self.kept.append(checkpoint)

    async def mirror(self) -> None:
        """As the port says."""
        if self.unreachable:
            raise AuditError(self.unreachable)
        self.elsewhere = list(self.kept)


class MemoryKey:
    """The port `Signer` with a key that is the same in every run."""

    def __init__(self, seed: int = 1) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.public = self._key.public_key()

    @property
    def key_id(self) -> str:
        """As the port says."""
        form = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        return hashlib.sha256(self.public.public_bytes(*form)).hexdigest()[:16]

    @property
    def public_pem(self) -> str:
        """As the port says."""
        form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self.public.public_bytes(*form).decode()

    def signature(self, text: bytes) -> str:
        """As the port says."""
        return base64.b64encode(self._key.sign(text)).decode()


class MemoryAudit:
    """All that the web layer is given for the audit, and what it stands on."""

    def __init__(
        self,
        reads: AuditReads,
        ledger: Ledger,
        clock: Clock,
        confirmed_seq: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self.kept = MemoryRefusals()
        self.book = MemoryBook()
        self.key = MemoryKey()
        self.chain = RefusalChain(self.kept, self.book.last)
        self.refusals = Refusals(
            self.chain, clock, confirmed_seq, RefusalMetrics(metrics.registry)
        )
        self.signing = Checkpointing(
            ledger,
            self.book,
            self.chain,
            self.key,
            clock,
            confirmed_seq,
            NODE,
            OWNER,
            metrics.registry,
        )
        self.audit = Audit(reads, self.kept, ledger, self.signing)
