"""The route that says why: the records behind what is so, in plain words."""

from collections.abc import Iterable
from http import HTTPStatus

from aiohttp import web
from msgspec import Struct

from events.codec import show_time
from events.values import split_at_version
from service.domain.explaining import SUBJECT_KINDS, Explanation, Fact, Link, SubjectKind
from service.domain.explaining_refusals import Refused
from service.domain.rejections import Reason
from service.web import schemas_checks as check
from service.web.context import CONTEXT
from service.web.envelope import answer, refuse
from service.web.past import point_in
from service.web.problems import Code, Problem
from service.web.routes import API, Query, Route, number_in

_REASONS = frozenset(Reason)
"""Those that a rule refuses with, from the state; the others are said by their message alone."""

CHAIN_DEFAULT = 100
CHAIN_MAX = 500

_CODES: dict[SubjectKind, Code] = {
    "replicaSet": Code.INFO_NOT_FOUND,
    "volume": Code.VOLUME_INFO_FAILED,
    "operation": Code.OPERATION_NOT_FOUND,
    "gpu": Code.BAD_REQUEST,
    "port": Code.BAD_REQUEST,
    "record": Code.BAD_REQUEST,
}
"""What is answered where there is no such thing; kinds that the predecessor cannot be asked for
have no code of their own."""

_NAMES: dict[SubjectKind, str] = {
    "replicaSet": "replica set",
    "gpu": "GPU",
    "port": "host port",
}


class FactData(Struct, frozen=True):
    """Something that is so, and the record that it is so by, if one is known."""

    text: str
    seq: int | None


class LinkData(Struct, frozen=True, rename="camel"):
    """A record of the chain. `cause` is the record that it came from; `outcome` is there where
    it accepted a command, with the record that ended it, `endedSeq`."""

    seq: int
    time: str
    actor: str
    tenant: str
    kind: str
    name: str
    verb: str
    says: list[str]
    """A sentence for each of its events."""
    decided_from: list[FactData]
    operation_id: str
    outcome: str
    ended_seq: int | None
    cause: int | None


class ExplanationData(Struct, frozen=True):
    """Why something is so at the record `seq`."""

    seq: int
    answer: list[FactData]
    chain: list[LinkData]
    older: bool
    """There are older records that say something about it, and are not shown."""


async def _explain(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    asked, name = request.match_info["kind"], request.match_info["what"]
    kind = next((kind for kind in SUBJECT_KINDS if kind == asked), None)
    if kind is None:
        raise check.bad("kind", f"must be one of {', '.join(SUBJECT_KINDS)}")
    limit = number_in(request, "limit", CHAIN_DEFAULT, 1, CHAIN_MAX)
    everything = number_in(request, "all", 0, 0, 1) == 1
    seq = await point_in(request, "at") if "at" in request.query else context.past.last_seq
    found = await context.explainer.explain(kind, name, seq, limit, everything=everything)
    if found is None:
        return refuse(_not_there(kind, name))
    return answer(data_of(found, seq))


async def _explain_refusal(request: web.Request) -> web.Response:
    context, refusal_id = request.app[CONTEXT], request.match_info["id"]
    noted = context.refusals.noted(refusal_id) or await context.audit.refusal(refusal_id)
    if noted is None:
        text = f"there is no refusal {check.shown(refusal_id)}, or it is too old"
        return refuse(
            Problem(Code.BAD_REQUEST, HTTPStatus.NOT_FOUND, text, "nothing_to_explain", "id")
        )
    asked = f"{noted.method} {noted.route}"
    if noted.verb:
        asked = f"{noted.verb} of {noted.name or noted.kind.replace('_', ' ')}"
    by = f" by {noted.actor}" if noted.actor else ""
    words = f": {noted.message}" if noted.message else ""
    said = Fact(f"{asked}{by} was refused with code {noted.code}{words}")
    found = Explanation((said,), ())
    if noted.reason in _REASONS:
        refused = Refused(noted.kind, noted.name, Reason(noted.reason), noted.message)
        against = await context.explainer.refusal(refused, noted.seq)
        found = Explanation((said, *against.answer), against.chain, against.older)
    return answer(data_of(found, noted.seq))


def data_of(found: Explanation, seq: int) -> ExplanationData:
    """An explanation as callers see it."""
    chain = [_link(link) for link in found.chain]
    return ExplanationData(seq, _facts(found.answer), chain, found.older)


def _link(link: Link) -> LinkData:
    record = link.record
    return LinkData(
        seq=link.seq,
        time=show_time(record.at_us),
        actor=record.actor,
        tenant=record.tenant,
        kind=record.kind,
        name=record.name,
        verb=record.verb,
        says=list(link.says),
        decided_from=_facts(link.grounds),
        operation_id=record.operation_id,
        outcome=link.outcome,
        ended_seq=link.ended_seq,
        cause=link.cause,
    )


def _facts(facts: Iterable[Fact]) -> list[FactData]:
    return [FactData(fact.text, fact.seq) for fact in facts]


def _not_there(kind: SubjectKind, name: str) -> Problem:
    text = f"there is no {_NAMES.get(kind, kind)} {check.shown(name)}"
    if kind == "replicaSet" and (version := split_at_version(name)) is not None:
        text = f"there is no version {version[1]} of {version[0]}"
    return Problem(_CODES[kind], HTTPStatus.NOT_FOUND, text, "nothing_to_explain")


ROUTES = (
    Route(
        *("GET", f"{API}/explain/refusal/{{id}}", _explain_refusal),
        *("Explain why a request was refused", "Ledger"),
        data=ExplanationData,
        codes=(Code.BAD_REQUEST,),
        now="a refusal says itself at which record it was",
    ),
    Route(
        *("GET", f"{API}/explain/{{kind}}/{{what}}", _explain, "Explain why it is so", "Ledger"),
        data=ExplanationData,
        queries=(
            Query(
                "all",
                "1: the whole history, not only what still matters.",
                "integer",
                least=0,
                most=1,
            ),
            Query(
                "limit",
                f"How many records of a history at most, up to {CHAIN_MAX}; the newest.",
                "integer",
                least=1,
                most=CHAIN_MAX,
            ),
        ),
        codes=(*dict.fromkeys(_CODES.values()),),
    ),
)
