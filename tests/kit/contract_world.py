"""What the contract server knows: replica sets, volumes, operations, and how to misbehave."""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from msgspec import Struct, field

GPUS = 4
PORT_FIRST, PORT_LAST = 40000, 40099
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

BODY = web.RequestKey("body", dict[str, Any])
ENVELOPE = web.ResponseKey("envelope", dict[str, Any])


class Refused(Exception):
    """A refusal of the contract."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Version(Struct):
    """One version of a replica set. `shown` is what its history says beside, or instead."""

    number: int
    verb: str
    body: dict[str, Any]
    gpus: list[str]
    ports: dict[str, int]
    shown: dict[str, Any] = field(default_factory=dict)


class ReplicaSet(Struct):
    """A replica set: its phase, and every version, newest last."""

    phase: str
    versions: list[Version]
    end: dict[str, Any] = field(default_factory=dict)
    """What list and info say besides, or instead, of a container that ended."""


class Operation(Struct):
    """A command that was accepted."""

    id: str
    verb: str
    name: str
    result: dict[str, Any] | None
    polls_left: int
    error: dict[str, Any] | None = None


class World(Struct):
    """Everything that the server knows, and how it is to misbehave."""

    sets: dict[str, ReplicaSet] = field(default_factory=dict)
    deleted: dict[str, ReplicaSet] = field(default_factory=dict)
    volumes: dict[str, list[str]] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)
    keys: dict[str, tuple[int, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    """Those of the same requests."""
    authorizations: list[str] = field(default_factory=list)
    """What they sent as such."""
    files: list[dict[str, Any]] = field(default_factory=list)
    """How the system disks of any two versions differ."""
    files_listed_max: int = 10_000
    explanation: dict[str, Any] = field(default_factory=dict)
    """What is answered to every `explain`."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What became other between any two points of the ledger; nothing when it is empty."""
    not_carried: list[str] = field(default_factory=list)
    polls_to_finish: int = 1
    fails: dict[str, Any] | None = None
    """The error that operations end with."""
    replies_to_lose: int = 0
    slow_downs: int = 0
    """So many requests are answered that they come too fast."""
    foreign: bool = False
    """Answer like some other program that happens to have this port."""
    away: bool = False
    """Docker is out of reach."""
    simulated: bool = True
    quarantined: dict[str, str] = field(default_factory=dict)
    """By UUID why a GPU is not lent."""
    gpus_shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By UUID what the details of a GPU say instead."""
    orphans: list[dict[str, Any]] = field(default_factory=list)
    """What is there and in no record, as the list shows it."""
    usage: list[dict[str, Any]] = field(default_factory=list)
    """Lines of a bill, but for their groups."""
    prices: list[dict[str, Any]] = field(default_factory=list)
    months: dict[str, dict[str, Any]] = field(default_factory=dict)
    month_differs: bool = False
    webhooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    dead_letters: list[dict[str, Any]] = field(default_factory=list)
    """Both of every webhook."""
    ping: dict[str, Any] = field(default_factory=dict)
    """How the next pings are answered otherwise."""
    page: int = 50
    """How many replica sets a page of the list holds."""

    def free_gpus(self) -> list[str]:
        """The UUIDs that nobody has."""
        used = {gpu for each in self.sets.values() for gpu in each.versions[-1].gpus}
        return [uuid for uuid in map(uuid_of, range(GPUS)) if uuid not in used]


def uuid_of(index: int) -> str:
    """The UUID of a made-up GPU."""
    return f"GPU-{index:08d}-0000-0000-0000-000000000000"
