"""Routes of the audit: who did what, the refused among them, and what proves it."""

import re
from typing import Literal, cast, get_args

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from events.codec import show_time
from service.application.audit import AuditRow, Place, Result, Wanted
from service.application.past import POINT_PATTERN
from service.audit_ports import Checkpoint
from service.errors import LedgerDamaged, NoSuchPoint
from service.ports import StoredEntry
from service.web import schemas_checks as check
from service.web.context import CONTEXT
from service.web.envelope import answer, refuse
from service.web.operations import PAGE_DEFAULT, PAGE_MAX, SEQ_MAX
from service.web.past import point_in
from service.web.problems import Code, ledger_changed
from service.web.routes import API, Query, Route, number_in

_TAG = "Audit"
_PLACE = r"^[0-9]{1,18}\.[0-9]{1,18}$"
_RESULTS: tuple[Result, ...] = get_args(Result)
_FILTER_LENGTH_MAX = 128
_NO_PAST = "it is about all times, from one to another"


class RefusalData(Struct, frozen=True, rename="camel"):
    """What is known of a refusal beside what every row has."""

    id: str
    code: int
    status: int
    method: str
    route: str
    request_id: str
    token: str


class AuditRowData(Struct, frozen=True, rename="camel"):
    """A command of a caller and what came of it, or one that was refused."""

    time: str
    seq: int
    """Its record; of a refusal the last record that there was by then."""
    actor: str
    tenant: str
    remote: str
    kind: str
    name: str
    verb: str
    result: Result
    times: int
    """It stands for so many that were alike."""
    finished_time: str | None
    finished_seq: int | None
    operation_id: str
    reason: str
    message: str
    refusal: RefusalData | None
    number: int | None
    """Of a refusal, among those that are kept."""


class AuditData(Struct, frozen=True, rename={"following": "next"}):
    """A page. It may be short with a narrow filter: it is the last one when `next` is null."""

    first: int
    """The record that `from` means."""
    last: int
    """That `to` means; without it the last one there is."""
    rows: list[AuditRowData]
    following: str | None


class RecordData(Struct, frozen=True, omit_defaults=True):
    """A record as it is stored; what is no UTF-8 stands as `base64` instead of as `body`."""

    seq: int
    subject: str
    id: str
    body: str | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET


class RecordsData(Struct, frozen=True, rename={"following": "next"}):
    """Records in their order. `next` is where to go on after; null at the end."""

    records: list[RecordData]
    following: int | None


class RefusalsData(Struct, frozen=True, rename={"following": "next"}):
    """Refusals as they are stored, `seq` being their number. `next` is where to go on after."""

    refusals: list[RecordData]
    following: int | None


class KeyData(Struct, frozen=True):
    """The key that checkpoints are signed with."""

    key: str
    """As checkpoints name it."""
    algorithm: Literal["Ed25519"]
    pem: str


async def _audit(request: web.Request) -> web.Response:
    limit = number_in(request, "limit", PAGE_DEFAULT, 1, PAGE_MAX)
    wanted = await _wanted(request)
    found = await request.app[CONTEXT].audit.page(wanted, limit, _place(request))
    following = found.following
    text = None if following is None else f"{_end(following.seq)}.{_end(following.number)}"
    last = min(wanted.last_seq, request.app[CONTEXT].past.last_seq)
    return answer(AuditData(wanted.first_seq, last, [*map(_row, found.rows)], text))


async def _wanted(request: web.Request) -> Wanted:
    query, past = request.query, request.app[CONTEXT].past
    given = {name: query.get(name, "") for name in ("actor", "tenant", "name", "verb")}
    for name, text in given.items():
        if len(text) > _FILTER_LENGTH_MAX:
            raise check.bad(name, f"is longer than {_FILTER_LENGTH_MAX} characters")
    first, last, from_us, until_us = 1, SEQ_MAX, None, None
    if "from" in query:
        first = max(1, await point_in(request, "from"))
        if (from_us := past.instant(query["from"])) is not None:
            first += 1  # the point is the last record of before
    if "to" in query:
        last, until_us = await point_in(request, "to"), past.instant(query["to"])
    result = query.get("result")
    if result is not None and result not in _RESULTS:
        raise check.bad("result", f"is one of {', '.join(_RESULTS)}")
    own = number_in(request, "all", 0, 0, 1) == 1
    return Wanted(first, last, from_us, until_us, **given, result=cast(Result, result), own=own)


def _place(request: web.Request) -> Place:
    text = request.query.get("before")
    if text is None:
        return Place()
    if not re.fullmatch(_PLACE, text):
        raise check.bad("before", "is `next` of the page before")
    seq, _dot, number = text.partition(".")
    return Place(int(seq), int(number))


def _end(place: int) -> int:
    """A place as it is shown: no sequence has nineteen digits."""
    return min(place, 10**18 - 1)


def _row(row: AuditRow) -> AuditRowData:
    one = row.refusal
    refusal = None
    if one is not None:
        refusal = RefusalData(
            one.id, one.code, one.status, one.method, one.route, one.request_id, one.token
        )
    return AuditRowData(
        time=show_time(row.at_us),
        seq=row.seq,
        actor=row.actor,
        tenant=row.tenant,
        remote=row.remote,
        kind=row.kind,
        name=row.name,
        verb=row.verb,
        result=row.result,
        times=row.times,
        finished_time=None if row.finished_us is None else show_time(row.finished_us),
        finished_seq=row.finished_seq,
        operation_id=row.operation_id,
        reason=row.reason,
        message=row.message,
        refusal=refusal,
        number=row.number,
    )


async def _records(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    last = context.past.last_seq
    after = number_in(request, "after", 0, 0, SEQ_MAX)
    until = min(number_in(request, "until", last, 0, SEQ_MAX), last)
    if after >= until:
        return answer(RecordsData([], None))
    found = await context.audit.records(after, until)
    end = found[-1].seq if found else until
    return answer(RecordsData([_record(one) for one in found], end if end < until else None))


async def _refusals(request: web.Request) -> web.Response:
    after = number_in(request, "after", 0, 0, SEQ_MAX)
    until = number_in(request, "until", SEQ_MAX, 0, SEQ_MAX)
    found = await request.app[CONTEXT].audit.refusals(after, PAGE_MAX)
    shown = [_record(one) for one in found if one.seq <= until]
    goes_on = bool(found) and found[-1].seq < until
    return answer(RefusalsData(shown, found[-1].seq if goes_on else None))


def _record(entry: StoredEntry) -> RecordData:
    try:
        text = entry.body.decode()
    except UnicodeDecodeError:
        return RecordData(entry.seq, entry.subject, entry.message_id, base64=entry.body)
    return RecordData(entry.seq, entry.subject, entry.message_id, text)


async def _checkpoint(request: web.Request) -> web.Response:
    seq = number_in(request, "seq", 0, 1, SEQ_MAX) or None
    given = [name for name in ("firstRefusal", "lastRefusal") if name in request.query]
    if len(given) == 1:
        raise check.bad(given[0], "is given with the other one, or not at all")
    first = number_in(request, "firstRefusal", 1, 1, SEQ_MAX)
    last = number_in(request, "lastRefusal", 0, 0, SEQ_MAX)
    refusals = (first, last) if given else None
    try:
        return answer(await request.app[CONTEXT].audit.signing.sign(seq, refusals))
    except NoSuchPoint as error:
        raise check.bad("seq", str(error)) from error
    except LedgerDamaged as error:
        return refuse(ledger_changed(error))


async def _key(request: web.Request) -> web.Response:
    signer = request.app[CONTEXT].audit.signing.signer
    return answer(KeyData(signer.key_id, "Ed25519", signer.public_pem))


def _whole(name: str, about: str, least: int, most: int = SEQ_MAX) -> Query:
    return Query(name, about, "integer", least=least, most=most)


ROUTES = (
    Route(
        *("GET", f"{API}/audit", _audit, "List who did what, and what was refused", _TAG),
        data=AuditData,
        queries=(
            Query("from", "From a seq or an instant (RFC 3339) on.", pattern=POINT_PATTERN),
            Query("to", "Up to a seq or an instant.", pattern=POINT_PATTERN),
            Query("actor", "Only what this token asked for."),
            Query("tenant", "Only of this tenant."),
            Query("name", "Only about this replica set, volume, GPU or month."),
            Query("verb", "Only of this verb, such as run."),
            Query("result", f"Only of {', '.join(_RESULTS)}.", pattern=f"^({'|'.join(_RESULTS)})$"),
            _whole("all", "1: also what the service did of its own accord.", 0, 1),
            _whole("limit", f"How many at most, up to {PAGE_MAX}.", 1, PAGE_MAX),
            Query("before", "`next` of the page before.", pattern=_PLACE),
        ),
        codes=(Code.BAD_REQUEST, Code.LEDGER_UNAVAILABLE),
        role="admin",
        now=_NO_PAST,
    ),
    Route(
        *("GET", f"{API}/audit/records", _records, "Show records as they are stored", _TAG),
        data=RecordsData,
        queries=(
            _whole("after", "Those behind this seq.", 0),
            _whole("until", "Up to this seq; without it to the end.", 0),
        ),
        codes=(Code.BAD_REQUEST, Code.LEDGER_UNAVAILABLE),
        role="admin",
        now=_NO_PAST,
    ),
    Route(
        *("GET", f"{API}/audit/refusals", _refusals, "Show refusals as they are stored", _TAG),
        data=RefusalsData,
        queries=(
            _whole("after", "Those behind this number.", 0),
            _whole("until", "Up to this number; without it to the end.", 0),
        ),
        codes=(Code.BAD_REQUEST, Code.LEDGER_UNAVAILABLE),
        role="admin",
        now=_NO_PAST,
    ),
    Route(
        *("GET", f"{API}/audit/checkpoint", _checkpoint, "Sign what the ledger holds", _TAG),
        data=Checkpoint,
        queries=(
            _whole("seq", "Up to this record; without it to the end.", 1),
            _whole("firstRefusal", "Of the refusals only those from this number on.", 1),
            _whole("lastRefusal", "Up to this number.", 0),
        ),
        codes=(
            *(Code.BAD_REQUEST, Code.LEDGER_UNAVAILABLE),
            *(Code.AUDIT_UNAVAILABLE, Code.LEDGER_CHANGED),
        ),
        role="admin",
        now="it is signed now",
    ),
    Route(
        *("GET", f"{API}/audit/key", _key, "Show the public key of checkpoints", _TAG),
        data=KeyData,
        now="it is the key of now",
    ),
)
