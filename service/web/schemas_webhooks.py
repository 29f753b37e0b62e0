"""What is sent and answered about webhooks."""

from typing import Annotated

from msgspec import Struct

from events.values import NAME_LENGTH_MAX
from service.web.event_filters import WORD_LENGTH_MAX
from service.web.schemas_fields import about
from service.webhook_ports import Outcome

URL_LENGTH_MAX = 2000
TYPES_MAX = 200
IDS_MAX = 1000

EventType = Annotated[str, about("A type of event.", "container.exited.v1", maxLength=128)]
Word = Annotated[str, about("Exactly so; empty is any.", "foo", maxLength=WORD_LENGTH_MAX)]


class WantedBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which events; what is left out is any. The same as of GET /events."""

    kind: Annotated[str, about("What they are about.", "replica_set")] = ""
    name: Word = ""
    tenant: Word = ""
    types: Annotated[
        list[EventType], about("Of one of these types; empty is any.", maxItems=TYPES_MAX)
    ] = []


class WebhookBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Where events are to be sent, and which."""

    webhook_name: Annotated[
        str,
        about(
            "Letters, digits and `_`.",
            "ci",
            minLength=1,
            maxLength=NAME_LENGTH_MAX,
            pattern="^[A-Za-z0-9][A-Za-z0-9_]*$",
        ),
    ]
    url: Annotated[
        str,
        about(
            "Where to POST each event: https, or http on this host.",
            "https://ci.example.com/gpuledger",
            maxLength=URL_LENGTH_MAX,
        ),
    ]
    events: WantedBody = WantedBody()
    after: Annotated[
        int | None,
        about("Begin after this record; 0 is all there ever was; without it, from now on.", 0),
    ] = None
    insecure: Annotated[
        bool, about("Also http to another host: events can be read on their way.", False)
    ] = False


class DisableBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Why nothing is to be sent."""

    why: Annotated[str, about("For people.", "the receiver moves", minLength=1, maxLength=200)]


class DeadLettersBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which dead letters; without any, all."""

    ids: Annotated[
        list[Annotated[str, about("Of an event.", "17.0", maxLength=32)]],
        about("Empty is all.", maxItems=IDS_MAX),
    ] = []


class SecretData(Struct, frozen=True, rename="camel"):
    """What is signed with. It is shown this once."""

    name: str
    secret: str
    """`whsec_`, and the key in base64."""


class AttemptData(Struct, frozen=True, rename="camel"):
    """One request to the receiver."""

    id: str
    """Of the event, or of a ping."""
    type: str
    attempt: int
    time: str
    duration_ms: float
    status: int | None
    """Of HTTP; null when no answer came."""
    error: str
    outcome: Outcome


class DeliveryData(Struct, frozen=True, rename="camel"):
    """Where a webhook is now."""

    place: str
    """All up to this record (`17`) or event (`17.0`) was taken, is pending, or is a dead letter."""
    behind: int
    """So many records of the ledger are after it."""
    pending: int
    dead: int
    next_time: str | None
    """When the first one pending is tried again."""
    last: AttemptData | None
    trouble: str
    """Why it does not get on; empty when it does."""


class WantedData(Struct, frozen=True):
    """Which events; empty is any."""

    kind: str
    name: str
    tenant: str
    types: list[str]


class WebhookData(Struct, frozen=True, rename="camel"):
    """A webhook."""

    name: str
    url: str
    events: WantedData
    enabled: bool
    disabled_why: str | None
    create_time: str
    created_by: str
    seq: int
    """The record that registered it."""
    old_secret_until_time: str | None
    """Until when it is signed with the secret before, too."""
    delivery: DeliveryData | None
    """Null where it was asked for the past, and before its first event."""


class WebhooksData(Struct, frozen=True):
    """The webhooks, by name."""

    webhooks: list[WebhookData]


class AttemptsData(Struct, frozen=True):
    """The log of a webhook, newest first; only the newest lines are kept."""

    deliveries: list[AttemptData]


class DeadLetterData(Struct, frozen=True, rename="camel"):
    """An event that was given up."""

    id: str
    type: str
    attempts: int
    first_time: str
    dead_time: str
    status: int | None
    error: str


class DeadLettersData(Struct, frozen=True, rename="camel"):
    """Dead letters, oldest first."""

    dead_letters: list[DeadLetterData]


class CountData(Struct, frozen=True):
    """To how many it was done."""

    count: int
