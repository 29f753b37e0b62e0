"""Intake: the door through which a caller's command enters, and where its end is awaited."""

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

from msgspec import Struct

from projections.state import Operation
from service.domain.commands import Request
from service.domain.rejections import Rejected
from service.ports import ExecOutcome


class Caller(Struct, frozen=True):
    """Who sends a command, and how."""

    actor: str = "anonymous"
    tenant: str = ""
    remote: str = ""
    """The address that it is sent from."""
    idempotency_key: str = ""
    traceparent: str = ""
    command_id: str = ""
    """For a command without a key; where there is none, one is made."""

    @property
    def operation_id(self) -> str:
        """The operation that the command is: the same key, the same id, for ever."""
        if not self.idempotency_key:
            return self.command_id
        digest = hashlib.sha256(f"{self.tenant}\0{self.idempotency_key}".encode())
        return f"key-{digest.hexdigest()[:32]}"


class Accepted(Struct, frozen=True):
    """The command is stored in the ledger at `seq`; its operation has begun."""

    operation_id: str
    seq: int


class Intake(Protocol):
    """What the web layer asks of the application."""

    async def submit(
        self, command: Request, request: Mapping[str, Any], caller: Caller
    ) -> Accepted | Rejected:
        """Decide on a command and store the decision.

        The same idempotency key with the same request gives the same operation again. Raises
        EngineUnavailable (nothing was stored), LedgerUnavailable (what is stored is not known;
        the same key may be sent again), ServiceBusy (too many commands are waiting).
        """
        ...

    async def caught_up(self) -> None:
        """Return when the read store shows all that was confirmed before this call.

        So that a caller reads its own write. It waits some seconds at most: a read store that
        stands still is for /readyz to tell, and old answers are better than none.
        """
        ...

    async def wait(self, operation_id: str, timeout_s: float) -> Operation | None:
        """The operation once it has ended and the read store shows it.

        None when time is up, and when the service folds no more.
        """
        ...

    def output(self, operation_id: str) -> ExecOutcome | None:
        """What an executed command wrote, while that is still kept in memory."""
        ...
