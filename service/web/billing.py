"""Routes of money: usage and its bill, prices, and months that are closed."""

import re
from typing import Any

import msgspec
from aiohttp import web

from events.billing import ANY_MODEL, ClosedLine
from events.codec import read_time, show_time
from projections.price_book import Month
from service.application.usage_reader import bill_of
from service.domain import billing
from service.domain.billing import HOUR_US, Bill, Line, Window
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.months import month_of, window_of
from service.web import schemas_billing as schemas
from service.web import schemas_checks as check
from service.web.context import CONTEXT
from service.web.envelope import answer, refuse
from service.web.problems import Action, Code, not_found
from service.web.routes import API, Query, Route
from service.web.submission import submit

GROUPS_MAX = 8
"""So many things can be grouped by at once."""

HOUR_PLACES = 6
SECOND_PLACES = 6
_SECOND_US = 1_000_000
_YEAR_LAST_US = 253_402_300_800_000_000
"""The end of the year 9999."""

_TAG = "Billing"
_SET: Action = ("price", "set")
_CLOSE: Action = ("month", "close")
_MONTH = f"{API}/months/{{month}}"

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_PRICE = re.compile(r"\d{1,12}(\.\d{1,9})?")
_CURRENCY = re.compile(r"[A-Z]{3}")

_body = msgspec.json.Decoder(schemas.PriceBody)


async def _usage(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    now_us = context.now_us()
    this_month = f"{month_of(now_us)}-01"
    begin_us = _instant(request.query.get("from", this_month), "from")
    end_us = min(_instant(request.query.get("to", show_time(now_us)), "to"), now_us)
    if "to" in request.query and _instant(request.query["to"], "to") < begin_us:
        raise check.bad("to", "is before from; the window begins at from and ends at to")
    groups = _groups(request.query.get("groupBy", ""))
    await context.intake.caught_up()
    window = Window(begin_us, max(begin_us, end_us))
    bill, until_seq = await bill_of(context.present, window, groups)
    return answer(_bill_data(bill, until_seq))


async def _prices(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    await context.intake.caught_up()
    rows = [
        schemas.PriceData(
            meter=price.meter,
            model=price.model,
            tenant=price.tenant,
            price=price.price,
            currency=price.currency,
            valid_from=show_time(price.valid_from_us),
            seq=price.seq,
        )
        for price in await context.reads.prices()
    ]
    return answer(schemas.PricesData(rows))


async def _set_price(request: web.Request) -> web.Response:
    asked = check.decode(_body, await request.read())
    if not _PRICE.fullmatch(asked.price):
        raise check.bad("price", "must be a decimal number such as 2.40, with nine places at most")
    if not _CURRENCY.fullmatch(asked.currency):
        raise check.bad("currency", "must be three capital letters, such as EUR")
    if asked.model and asked.meter != "gpu":
        raise check.bad("model", f"is of GPUs; {asked.meter} has none")
    for name, text, most in (
        ("model", asked.model, schemas.MODEL_LENGTH_MAX),
        ("tenant", asked.tenant, schemas.TENANT_LENGTH_MAX),
    ):
        if text and (len(text) > most or not text.isprintable()):
            raise check.bad(name, f"must be a line of text, up to {most} characters")
    command = SetPrice(
        name=asked.meter,
        price=asked.price,
        currency=asked.currency,
        valid_from_us=_instant(asked.valid_from, "validFrom"),
        model=asked.model or ANY_MODEL,
        tenant=asked.tenant or "",
    )
    return await submit(request, _SET, command, msgspec.to_builtins(asked))


async def _months(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    await context.intake.caught_up()
    months = await context.reads.months()
    return answer(schemas.MonthsData([_summary(month) for month in months]))


async def _month(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    name, window = _month_of(request)
    await context.intake.caught_up()
    closed = await context.reads.month(name)
    if closed is None:
        text = f"{name} was not closed"
        return refuse(not_found(Code.MONTH_NOT_FOUND, text, "month_not_found"))
    bill, until_seq = await bill_of(context.present, window, billing.CLOSED_BY)
    now = billing.totals_of(name, bill, until_seq)
    return answer(
        schemas.MonthData(
            month=_summary(closed),
            lines=[_month_line(line) for line in closed.totals.lines],
            differences=[
                schemas.MonthDifference(_month_line(old), _month_line(new))
                for old, new in billing.differences(closed.totals, now)
            ],
        )
    )


async def _close_month(request: web.Request) -> web.Response:
    name, _ = _month_of(request)
    return await submit(request, _CLOSE, CloseMonth(name), {})


def _month_of(request: web.Request) -> tuple[str, Window]:
    text = request.match_info["month"]
    window = window_of(text)
    if window is None:
        raise check.bad("month", f"is {check.shown(text)}; a month looks like 2026-11")
    return text, window


def _instant(text: str, field: str) -> int:
    """Microseconds of an instant, or of the begin of a day. Raises BadRequest."""
    at_us = read_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    if at_us is None or not 0 <= at_us < _YEAR_LAST_US:
        raise check.bad(
            field, f"is {check.shown(text)}; allowed: 2026-11-01, or 2026-11-01T12:00:00Z"
        )
    return at_us


def _groups(text: str) -> tuple[str, ...]:
    groups = tuple(dict.fromkeys(group for group in text.split(",") if group))
    wrong = [group for group in groups if not billing.is_group(group)]
    if wrong or len(groups) > GROUPS_MAX:
        allowed = ", ".join((*billing.GROUPS, f"{billing.LABEL}KEY"))
        raise check.bad("groupBy", f"can be up to {GROUPS_MAX} of {allowed}, with commas between")
    return groups


def _bill_data(bill: Bill, until_seq: int) -> schemas.UsageData:
    currency = bill.prices.currency or None
    return schemas.UsageData(
        begin=show_time(bill.window.begin_us),
        end=show_time(bill.window.end_us),
        until_seq=until_seq,
        group_by=list(bill.group_by),
        currency=currency,
        total=billing.show_money(bill.money()) if currency else None,
        lines=[_line(line, bill.group_by) for line in bill.lines()],
    )


def _line(line: Line, group_by: tuple[str, ...]) -> schemas.UsageLine:
    return schemas.UsageLine(
        meter=line.meter,
        unit=billing.UNITS[line.meter],
        group=dict(zip(group_by, line.keys, strict=True)),
        exact=str(line.usage),
        seconds=billing.show_usage(line.usage, line.meter, _SECOND_US, SECOND_PLACES),
        hours=_hours(line.usage, line),
        kept_hours=_hours(line.kept, line),
        unpriced_hours=_hours(line.usage - line.priced, line),
        amount=billing.show_money(line.money) if line.priced else None,
        notes=line.notes,
        records=line.records,
    )


def _hours(usage: int, line: Line | ClosedLine) -> str:
    return billing.show_usage(usage, line.meter, HOUR_US, HOUR_PLACES)


def _summary(month: Month) -> schemas.MonthSummary:
    return schemas.MonthSummary(
        month=month.name,
        total=month.totals.total,
        currency=month.totals.currency or None,
        closed_time=show_time(month.at_us),
        closed_by=month.actor,
        seq=month.seq,
        until_seq=month.totals.until_seq,
    )


def _month_line(line: ClosedLine) -> schemas.MonthLine:
    return schemas.MonthLine(
        tenant=line.tenant,
        meter=line.meter,
        model=line.model,
        unit=billing.UNITS[line.meter],
        exact=line.usage,
        hours=_hours(int(line.usage), line),
        amount=line.amount or None,
    )


def _route(method: str, path: str, handler: Any, summary: str, data: Any, **more: Any) -> Route:
    return Route(method, path, handler, summary, _TAG, data, **more)


ROUTES = (
    _route(
        *("GET", f"{API}/usage", _usage, "Show usage and its bill", schemas.UsageData),
        queries=(
            Query("from", "Begin: an instant or a date in UTC; else that of this month."),
            Query("to", "End, outside the window: an instant or a date in UTC; else now."),
            Query(
                "groupBy",
                f"Lines for each of {', '.join(billing.GROUPS)} or {billing.LABEL}KEY, with commas"
                " between; else one a meter.",
            ),
        ),
        codes=(Code.BAD_REQUEST,),
        now="it names its window itself, as from and to",
    ),
    _route("GET", f"{API}/prices", _prices, "List the prices", schemas.PricesData),
    _route(
        *("POST", f"{API}/prices", _set_price, "Set a price from an instant on", None),
        body=schemas.PriceBody,
        action=_SET,
        codes=(Code.MONTH_CLOSED,),
        role="admin",
    ),
    _route("GET", f"{API}/months", _months, "List the closed months", schemas.MonthsData),
    _route(
        *("GET", _MONTH, _month, "Show a closed month, and what would be other", schemas.MonthData),
        codes=(Code.BAD_REQUEST, Code.MONTH_NOT_FOUND),
        now="it is compared with what is known now",
    ),
    _route(
        *("POST", f"{_MONTH}/close", _close_month, "Close a month that is over"),
        schemas.MonthClosedData,
        action=_CLOSE,
        codes=(Code.BAD_REQUEST, Code.MONTH_CLOSED),
        role="admin",
    ),
)
