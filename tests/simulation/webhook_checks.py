"""What receivers are promised, looked for in all that was sent to them (docs/webhooks.md)."""

import asyncio

from msgspec import Struct, field, json

from service.application.webhooks import OTHER_KEY, Webhooks
from service.webhook_ports import Attempt, Deliveries, Delivery, Reply
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.virtual_time import VirtualClock
from tests.simulation.calling_service import CallingService
from tests.simulation.delivery_line import OpenFile
from tests.simulation.receivers import (
    Abroad,
    FileCopied,
    FileLost,
    FilePutBack,
    Happened,
    Noted,
    Posted,
    TakenUp,
)
from tests.simulation.webhook_book import EventKey, Registration, Registrations, signatures

TRIES = 10
WAITS_S = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800)
"""As docs/webhooks.md has them."""

LONGER = 1.25
ASKED_S_MAX = 3600
SHOWN_LINES = 500

GONE_WITHIN_US = 3_000_000_000
"""So long the ledger is never away, or refuses."""

OVERDUE_S = 60.0
"""So late a try may come on a quiet line: others may have their turn before it."""


class Untaken(Struct, frozen=True):
    """An event that was not taken, as it is to be written down."""

    tries: int
    reply: Reply
    first_us: int
    from_us: int
    """It is not sent again before."""
    until_us: int
    """And not much later than this."""


class Account(Struct):
    """What is to be in the file about one registration."""

    name: str
    place: EventKey
    """The last event that was sent for the first time."""
    pending: dict[EventKey, Untaken] = field(default_factory=dict)
    dead: dict[EventKey, Untaken] = field(default_factory=dict)
    lines: list[Attempt] = field(default_factory=list)

    def copy(self) -> "Account":
        """As it is now."""
        return Account(self.name, self.place, dict(self.pending), dict(self.dead), list(self.lines))


class Auditor:
    """Follows all that happened; what must not happen is an AssertionError."""

    def __init__(self, ledger: MemoryLedger, abroad: Abroad) -> None:
        self.registrations = Registrations()
        self._ledger = ledger
        self._abroad = abroad
        self._followed = 0
        self._accounts: dict[int, Account] = {}
        self._copy: dict[int, Account] = {}
        self._sent: dict[tuple[int, str, str], tuple[Posted, Registration]] = {}
        self._bodies: dict[str, bytes] = {}
        self._taken: dict[int, dict[EventKey, list[Posted]]] = {}
        self._discarded: set[tuple[int, EventKey]] = set()
        self._asked: dict[int, list[Posted]] = {}

    def follow(self) -> None:
        """All that happened since the last time."""
        self.registrations.read_on(self._ledger)
        for one in self._abroad.happened[self._followed :]:
            self._look(one)
        self._followed = len(self._abroad.happened)
        for seq, known in self.registrations.disabled_by_us:
            asked = self._asked.get(known.seq, [])
            assert any(p.heard and p.heard.status == 410 for p in asked), (
                f"record {seq} disables {known}, which never answered 410"
            )

    def _look(self, one: Happened) -> None:
        match one:
            case Posted():
                self._posted(one)
            case Noted():
                self._noted(one)
            case TakenUp():
                self._taken_up(one)
            case FileCopied():
                self._copy = {seq: account.copy() for seq, account in self._accounts.items()}
            case FilePutBack():
                self._accounts = {seq: account.copy() for seq, account in self._copy.items()}
            case FileLost():
                self._accounts, self._copy = {}, {}

    def _account(self, one: Registration) -> Account:
        if one.seq not in self._accounts:
            self._accounts[one.seq] = Account(one.name, (one.after_seq + 1, -1))
        return self._accounts[one.seq]

    # -- what was sent ------------------------------------------------------------------------

    def _posted(self, one: Posted) -> None:
        known = self.registrations.at(one.name, one.folded_seq)
        assert known is not None, f"{one} to somebody who is not registered"
        assert known.url == one.url, f"{one}, where {known} has another address"
        assert known.key_id == one.key_id, f"{one}, where {known} has a secret of another key"
        self._check_headers(one, known)
        self._sent[one.life, one.name, one.id] = one, known
        if one.id.startswith("ping-"):
            assert json.decode(one.body)["data"]["name"] == one.name
            return
        assert not known.disabled, f"{one}, where {known} is disabled"
        key = _key(one.id)
        assert key[0] <= one.folded_seq, f"{one} before it was folded"
        self._check_body(one, key)
        self._taken.setdefault(known.seq, {}).setdefault(key, []).append(one)
        asked = self._asked.setdefault(known.seq, [])
        if asked:
            self._check_wanted(asked[-1], one, known)
        asked.append(one)
        account = self._account(known)
        if (untaken := account.pending.get(key)) is not None:
            assert one.begun_us >= untaken.from_us, f"{one} too soon after {untaken}"
            return
        following = self.registrations.next_wanted(known, account.place)
        assert key == following, f"{one}, where {following} is next, after {account.place}"

    def _check_wanted(self, before: Posted, one: Posted, known: Registration) -> None:
        """Whoever wants no more is left alone until he is enabled; when that could not be
        recorded at once, it is at the next try."""
        gone = before.heard is not None and before.heard.status == 410
        if gone and one.begun_us - before.heard_us > GONE_WITHIN_US:
            changed = self.registrations.is_changed(known.name, before.folded_seq, one.folded_seq)
            assert changed, f"{one}, where {before} was answered 410"

    def _check_headers(self, one: Posted, known: Registration) -> None:
        headers = one.headers
        timestamp = headers["Webhook-Timestamp"]
        assert timestamp == str(one.begun_us // 1_000_000), f"{one} bears another time"
        content_type = headers["Content-Type"]
        assert content_type == "application/cloudevents+json; charset=utf-8", f"{one} is no event"
        signer = self._abroad.signers[one.key_id]
        expected = signatures(signer, known, one.id, one.begun_us, timestamp, one.body)
        assert headers["Webhook-Signature"].split() == expected, f"{one}: {expected} is right"

    def _check_body(self, one: Posted, key: EventKey) -> None:
        """The same id is the same body, and that is the event."""
        if one.id not in self._bodies:
            assert key[1] < self.registrations.size(key[0])
            assert json.decode(one.body) == self.registrations.message(key)
            self._bodies[one.id] = one.body
        assert self._bodies[one.id] == one.body

    # -- what was written down ----------------------------------------------------------------

    def _noted(self, one: Noted) -> None:
        posted, known = self._sent[one.life, one.webhook, one.id]
        assert posted.heard is not None
        account, reply = self._account(known), posted.heard
        if one.id.startswith("ping-"):
            outcome = "delivered" if reply.taken else "failed"
            account.lines.append(_line(posted, reply, 1, outcome))
            return
        key = _key(one.id)
        before = account.pending.pop(key, None)
        if before is None:
            account.place = key
        number = before.tries + 1 if before is not None else 1
        outcome = "delivered" if reply.taken else "failed"
        if not reply.taken:
            first_us = before.first_us if before is not None else posted.begun_us
            if number == TRIES:
                outcome = "dead"
                account.dead[key] = Untaken(number, reply, first_us, 0, posted.heard_us)
            else:
                wait_s = max(WAITS_S[number - 1], min(reply.retry_after_s, ASKED_S_MAX))
                from_us = posted.heard_us + round(wait_s * 1e6)
                until_us = posted.heard_us + round(wait_s * LONGER * 1e6)
                account.pending[key] = Untaken(number, reply, first_us, from_us, until_us)
        account.lines.append(_line(posted, reply, number, outcome))

    def _taken_up(self, one: TakenUp) -> None:
        of_name = [seq for seq, known in self._accounts.items() if known.name == one.webhook]
        newest = max(of_name, default=0)
        if not newest:
            return
        account = self._accounts[newest]
        for key in [_key(i) for i in one.ids] or list(account.dead):
            letter = account.dead.pop(key, None)
            if letter is None:
                continue
            if one.again:
                again = Untaken(0, letter.reply, letter.first_us, one.at_us, one.at_us)
                account.pending[key] = again
            else:
                self._discarded.add((newest, key))

    # -- at rest ------------------------------------------------------------------------------

    async def check_at_rest(self, service: CallingService, within_s: float) -> None:
        """The service is left in peace: it has soon sent what it could, knows where everything is,
        and says so."""
        until_s = VirtualClock().monotonic_s() + within_s
        while self._is_behind(service.webhooks.signer.key_id):
            assert VirtualClock().monotonic_s() < until_s, "somebody is not told of all"
            await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)  # the last of it is written down
        self.follow()
        webhooks, file = service.webhooks, OpenFile(self._abroad)
        for known in self.registrations.now():
            await self._check_file(webhooks, file, known)
            account = self._account(known)
            if not known.disabled and known.key_id == webhooks.signer.key_id:
                self._check_sent(known, account)
            self._check_told(service, known, account)
        names = {one.name for one in self.registrations.now()}
        assert webhooks.standings.keys() <= names
        for name in set(self.registrations.names()) - names:
            assert await file.standing(name) is None, f"{name} is removed"
            assert not await file.attempts(name, 1), f"{name} is removed"

    def _check_sent(self, known: Registration, account: Account) -> None:
        """None was lost, and none is late."""
        left = self.registrations.next_wanted(known, account.place)
        assert left is None, f"{left} was not sent to {known}, which is at {account.place}"
        taken = self._taken.get(known.seq, {})
        for key in self.registrations.wanted(known):
            assert (
                any(posted.taken for posted in taken.get(key, ()))
                or key in account.pending
                or key in account.dead
                or (known.seq, key) in self._discarded
            ), f"{key} was never taken by {known}, and is no dead letter"
        now_us = VirtualClock().now_us()
        for key, untaken in account.pending.items():
            assert now_us < untaken.until_us + OVERDUE_S * 1e6, f"{key} of {known}: {untaken}"
        last = account.lines[-1] if account.lines else None
        if last is not None and last.outcome == "failed" and not last.id.startswith("ping-"):
            assert last.status != 410, f"{known} is enabled: {last}"

    async def _check_file(self, webhooks: Webhooks, file: Deliveries, known: Registration) -> None:
        """What can be asked of the service is what happened."""
        account = self._account(known)
        standing = await file.standing(known.name)
        assert standing is not None, f"{known} never began"
        counts = standing.pending, standing.dead
        assert counts == (len(account.pending), len(account.dead)), f"{known}: {account}"
        shown = webhooks.standings[known.name]
        assert (shown.pending, shown.dead) == counts, f"{known}: {shown}"
        lines = await file.attempts(known.name, SHOWN_LINES)
        assert list(lines) == account.lines[-SHOWN_LINES:][::-1], (
            f"{known}: {list(lines)[:5]} is the log, and {account.lines[-5:][::-1]} was sent"
        )
        letters = await file.dead(known.name, SHOWN_LINES)
        assert [_letter(one) for one in letters] == [
            (key, one.tries, one.first_us, one.until_us, one.reply.status, one.reply.error)
            for key, one in sorted(account.dead.items())
        ]
        assert all(one.error for one in letters)

    def _check_told(
        self, service: CallingService, known: Registration, account: Account
    ) -> None:
        """Whoever looks is told why one does not get on."""
        shown = service.state.webhooks[known.name]
        assert shown.disabled == known.disabled
        expected = ""
        if known.key_id != service.webhooks.signer.key_id:
            expected = OTHER_KEY
        elif not known.disabled and account.lines and account.lines[-1].error:
            expected = f"the last attempt failed: {account.lines[-1].error}"
        trouble = service.webhooks.trouble(shown)
        assert trouble == expected, f"{known}: {trouble!r} is said, and {expected!r} is so"

    def _is_behind(self, key_id: str) -> bool:
        """Is there an event that was not sent yet to somebody who gets any?"""
        self.follow()
        return any(
            self.registrations.next_wanted(one, self._account(one).place) is not None
            for one in self.registrations.now()
            if not one.disabled and one.key_id == key_id
        )

    def left(self, key_id: str) -> int:
        """How many events wait to be sent again to those who get any."""
        return sum(
            len(self._account(one).pending)
            for one in self.registrations.now()
            if not one.disabled and one.key_id == key_id
        )


def _key(event_id: str) -> EventKey:
    seq, _, index = event_id.partition(".")
    return int(seq), int(index)


def _line(posted: Posted, reply: Reply, number: int, outcome: str) -> Attempt:
    """The line of the log that a request is to have."""
    return Attempt(
        posted.id,
        json.decode(posted.body)["type"],
        number,
        posted.begun_us,
        posted.heard_us - posted.begun_us,
        reply.status,
        reply.error,
        outcome,  # type: ignore[arg-type]
    )


def _letter(one: Delivery) -> tuple[EventKey, int, int, int, int, str]:
    return _key(one.id), one.attempts, one.first_us, one.due_us, one.status, one.error
