"""The ports of webhooks: how an event is sent, and what is remembered of what was and is to be.

As those of `service.ports`: a real adapter, a full double in `tests/kit/`, one contract suite.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from events.messages import Place

Outcome = Literal["delivered", "failed", "dead"]
"""What came of an attempt: it was taken; it was not (an event is tried again); it was given up."""


class Reply(Struct, frozen=True):
    """What a receiver answered."""

    status: int
    """Of HTTP; 0 when no answer came."""
    error: str = ""
    """Why it was not taken, for people; empty when it was."""
    retry_after_s: int = 0
    """So long it asks to be left alone."""

    @property
    def taken(self) -> bool:
        """Does the receiver have it?"""
        return 200 <= self.status < 300


class WebhookSender(Protocol):
    """Sends requests to receivers."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send once, and wait for the answer some seconds at most. Never raises for a receiver.

        No redirect is followed; a certificate must be valid.
        """
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...


class Attempt(Struct, frozen=True):
    """One line of the log of a webhook."""

    id: str
    """Of the event, or of a ping."""
    type: str
    number: int
    """Counted from 1, anew when a dead letter is sent again."""
    at_us: int
    duration_us: int
    status: int
    error: str
    outcome: Outcome


class Delivery(Struct, frozen=True):
    """An event that was not taken yet, or was given up: then it is a dead letter."""

    id: str
    type: str
    attempts: int
    first_us: int
    """When it was tried first."""
    due_us: int
    """When it is tried next; of a dead letter when it was given up."""
    status: int
    error: str
    """Both of the last attempt."""


class Standing(Struct, frozen=True):
    """Where a webhook is."""

    place: Place
    """All that is wanted up to here was taken, or is a delivery."""
    pending: int = 0
    """Deliveries that will be tried again."""
    dead: int = 0
    due_us: int | None = None
    """When the first of those pending is to be tried; None when there is none."""
    last: Attempt | None = None


class Deliveries(Protocol):
    """What is to be sent, and what was, by webhook. It outlives the service.

    Every method raises DeliveriesUnavailable. A change is made as a whole or not at all, and those
    before it are kept when it is.
    """

    async def begin(
        self, webhook: str, registered_seq: int, place: Place, last_seq: int
    ) -> Standing:
        """Where a webhook goes on; `place` when it is new here.

        What is known of another registration of the same name is forgotten, and what is after
        `last_seq`, where the ledger ends: it is of another one.
        """
        ...

    async def standing(self, webhook: str) -> Standing | None:
        """Where it is; None when it never began."""
        ...

    async def note(
        self, webhook: str, attempt: Attempt, due_us: int, place: Place | None
    ) -> Standing:
        """Note what came of an attempt, and move to `place`, all at once.

        One that was delivered is a delivery no more; one that failed is due at `due_us`.
        """
        ...

    async def note_ping(
        self, webhook: str, registered_seq: int, attempt: Attempt
    ) -> Standing | None:
        """Write a line into the log of a registration, and nothing else.

        None, and nothing is written, when it did not begin here yet, or another has its name.
        """
        ...

    async def move(self, webhook: str, place: Place) -> None:
        """Nothing that is wanted lies before this place that was not noted."""
        ...

    async def due(self, webhook: str, now_us: int) -> Delivery | None:
        """The delivery that is due first, if it is by now."""
        ...

    async def attempts(self, webhook: str, limit: int) -> Sequence[Attempt]:
        """The log, newest first. The newest few hundred lines of each webhook are kept."""
        ...

    async def dead(self, webhook: str, limit: int) -> Sequence[Delivery]:
        """Dead letters, in the order of the ledger."""
        ...

    async def revive(
        self, webhook: str, ids: Collection[str], now_us: int
    ) -> tuple[int, Standing | None]:
        """Have dead letters (all, when none is named) due now, as if never tried.

        How many, and where it is then; None when it never began.
        """
        ...

    async def discard(
        self, webhook: str, ids: Collection[str]
    ) -> tuple[int, Standing | None]:
        """Forget dead letters (all, when none is named). How many, and the rest as of `revive`."""
        ...

    async def keep(self, webhooks: Collection[str]) -> None:
        """Forget all of every other webhook."""
        ...

    async def close(self) -> None:
        """Let go of the file."""
        ...
