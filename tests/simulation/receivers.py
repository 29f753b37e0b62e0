"""Receivers of webhooks in a simulation, the line to them, and what was seen to come there."""

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from msgspec import Struct

from projections.projector import Projector
from service.adapters.webhook_client import TIMEOUT_S
from service.application.webhook_signing import Signer
from service.errors import GpuledgerError
from service.webhook_ports import Reply
from tests.kit.virtual_time import VirtualClock
from tests.simulation.line import Line, Patience, Seen

RECEIVER_DELAYS_S = (0.0, 0.001, 0.02, 0.3)
LOST = ("before", "after", "twice")
"""The request never came, or the answer; or the request came twice."""

MOODS = (*["well"] * 4, "erring", "erring", "busy", "slow", "hangs", "away", "gone", "moved")
"""How a receiver may be; `always` 500 is one that never takes anything."""

SLOW_S: Mapping[str, Sequence[float]] = {"slow": (2.0, 6.0), "hangs": (12.0, 45.0)}
"""So long one takes: below and above the patience of the sender."""

ASKED_S = (1, 40, 900, 1_000_000)
"""What one that is busy sends as Retry-After."""


class NoAnswer(GpuledgerError):
    """As the adapter has it, no answer is a reply as well."""


@dataclass
class Posted:
    """A request that one life of the service sent, and what came of it at both ends."""

    life: int
    url: str
    headers: Mapping[str, str]
    body: bytes
    begun_us: int
    folded_seq: int
    """The last record that was folded when it was sent."""
    key_id: str
    """Of the key that this life of the service has."""
    taken: int = 0
    """So often the receiver answered that it has it."""
    heard: Reply | None = None
    heard_us: int = 0

    @property
    def id(self) -> str:
        return self.headers["Webhook-Id"]

    @property
    def name(self) -> str:
        return name_of(self.url)


class Noted(Struct, frozen=True):
    """It was written down what came of a request, or of a ping."""

    life: int
    webhook: str
    id: str


class TakenUp(Struct, frozen=True):
    """Somebody had dead letters sent again, or forgotten; without any, all of them."""

    webhook: str
    ids: tuple[str, ...]
    again: bool
    at_us: int


class FileCopied(Struct, frozen=True):
    """What is in the file now may be there again after a loss of power."""


class FilePutBack(Struct, frozen=True):
    """The file is as it was when it was copied last."""


class FileLost(Struct, frozen=True):
    """The file is gone."""


Happened = Posted | Noted | TakenUp | FileCopied | FilePutBack | FileLost


def address_of(name: str, number: int) -> str:
    """One of the addresses of a webhook of this name."""
    return f"https://{name}.example/secret/{number}"


def name_of(url: str) -> str:
    """The name of the webhook that has this address."""
    return url.removeprefix("https://").partition(".")[0]


@dataclass
class Abroad:
    """What webhooks have that outlives the service: receivers, the key, the file."""

    happened: list[Happened] = field(default_factory=list)
    """All of it, in the order of time."""
    moods: dict[str, str] = field(default_factory=lambda: defaultdict(lambda: "well"))
    """How each receiver is, by its address."""
    signers: dict[str, Signer] = field(default_factory=dict)
    """Those with every key that there was, by its id, the newest last."""
    db: sqlite3.Connection | None = None
    """The file of deliveries; None before there is one."""
    told_seq: int = 0
    """The last record that a client was told of."""
    _copy: bytes | None = None

    def __post_init__(self) -> None:
        self.lose_key()

    def signer(self) -> Signer:
        """What a service that starts now signs with."""
        return next(reversed(self.signers.values()))

    def lose_key(self) -> None:
        """The next start makes a new one."""
        made = Signer(bytes([len(self.signers)]) * 32)
        self.signers[made.key_id] = made

    def copy_file(self) -> None:
        """A loss of power later on may bring this back."""
        if self.db is not None:
            self._copy = self.db.serialize()
            self.happened.append(FileCopied())

    def put_back_file(self) -> bool:
        """The power was lost: what was not synced is not there. Was there anything?"""
        if self.db is None or self._copy is None:
            return False
        self.db.deserialize(self._copy)
        self.happened.append(FilePutBack())
        return True

    def lose_file(self) -> None:
        """Somebody deletes it while the service is away."""
        self.db = self._copy = None
        self.happened.append(FileLost())

    def answer(self, posted: Posted, rng: Random) -> Reply:
        """What the receiver says to a request that has come."""
        match self.moods[posted.url]:
            case "erring" if rng.random() < 0.6:
                return Reply(500, "HTTP 500: out of disk")
            case "always":
                return Reply(500, "HTTP 500")
            case "busy":
                return Reply(503, "HTTP 503", rng.choice(ASKED_S))
            case "moved":
                return Reply(307, "HTTP 307")
            case "gone":
                return Reply(410, "HTTP 410")
        posted.taken += 1
        return Reply(204)


class LineSender:
    """The port `WebhookSender` at the end of a line."""

    def __init__(self, line: Line, abroad: Abroad, seen: Seen, folded: Projector) -> None:
        self._line = line
        self._abroad = abroad
        self._seen = seen
        self._folded = folded
        self._key_id = abroad.signer().key_id
        self._clock = VirtualClock()
        self._busy: Counter[str] = Counter()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """As the port says."""
        await self._line.if_alive()
        begun_us, seq = self._clock.now_us(), self._folded.folded_seq
        posted = Posted(self._line.life, url, dict(headers), body, begun_us, seq, self._key_id)
        self._abroad.happened.append(posted)
        if seq < self._abroad.told_seq:
            self._seen.breaches.append(f"{posted} by a service that does not know what it told")
        # A ping does not wait for its turn.
        name = "" if posted.id.startswith("ping-") else posted.name
        self._busy[name] += 1
        if name and self._busy[name] > 1:
            self._seen.breaches.append(f"{posted}, while another request is under way")
        try:
            posted.heard = await self._send(posted)
        finally:
            self._busy[name] -= 1
        posted.heard_us = self._clock.now_us()
        self._seen.met[f"webhook: answer {posted.heard.status}"] += 1
        return posted.heard

    async def close(self) -> None:
        """As the port says."""

    async def _send(self, posted: Posted) -> Reply:
        line = self._line
        fault = line.rng.choice(LOST) if line.is_bad() else ""
        mood = self._abroad.moods[posted.url]
        if mood == "away" or fault == "before":
            await asyncio.sleep(line.rng.choice(RECEIVER_DELAYS_S))
            await line.if_alive()
            return Reply(0, "connection refused")
        try:
            reply = await line.carry(
                RECEIVER_DELAYS_S,
                lambda: self._arrive(posted, fault),
                hangs_s=line.rng.choice(SLOW_S.get(mood, (0.0,))),
                patience=Patience(TIMEOUT_S, NoAnswer),
            )
        except NoAnswer as error:
            return Reply(0, str(error))
        return Reply(0, "connection reset") if fault == "after" else reply

    async def _arrive(self, posted: Posted, fault: str) -> Reply:
        if fault:
            self._seen.met[f"webhook: {fault}"] += 1
        if fault == "twice":
            self._abroad.answer(posted, self._line.rng)
        return self._abroad.answer(posted, self._line.rng)
