"""Commands about money: the bill of a window, months that are closed, and prices."""

import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import typer

from service.cli import show
from service.cli.addresses import path_of
from service.cli.answers import read
from service.cli.answers_billing import Month, MonthLine, Months, Prices, Usage, UsageLine
from service.cli.arguments import given
from service.cli.failures import NotFound
from service.cli.session import (
    AsJson,
    CaCert,
    Server,
    Session,
    Token,
    command,
    group_options,
    opened,
)

PANEL = "Billing"

Format = Literal["table", "csv", "json"]

RIGHT = ("KEPT", "AMOUNT")
"""The columns of numbers."""

NOTES = {
    "paused": "GPU kept while paused",
    "waiting": "GPU kept until it is started again",
    "no_limit": "no limit",
    "no_size": "size not counted",
    "record_time": "time of the record",
    "clock": "time moved",
}
"""What is to be known of intervals, by the API's word for it."""

From = Annotated[
    str | None,
    typer.Option("--from", metavar="WHEN", help="Begin: 2026-11-01, or an instant in RFC 3339"),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="WHEN", help="End, which is outside; default now")
]
GroupBy = Annotated[
    str,
    typer.Option(
        "--group-by",
        metavar="A,B",
        help="tenant, model, name, revision, gpu, interval, label:KEY; a line for each",
    ),
]
As = Annotated[Format, typer.Option("--format", help="How to print it")]
WhichMonth = Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-11, in UTC")]


def register(app: typer.Typer) -> None:
    """Add both groups to the app; `bill` without a subcommand is the bill."""
    bill = typer.Typer(name="bill", help="Show what was used and what it costs; close months.")
    bill.callback(invoke_without_command=True)(_bill_or_more)
    command(bill, "close")(close)
    command(bill, "month")(month)
    command(bill, "months")(months)
    app.add_typer(bill, rich_help_panel=PANEL)
    price = typer.Typer(name="price", help="Set and list prices.", no_args_is_help=True)
    price.callback()(group_options)
    command(price, "set")(set_price)
    command(price, "ls")(list_prices)
    app.add_typer(price, rich_help_panel=PANEL)


def _bill_or_more(
    ctx: typer.Context,
    begin: From = None,
    to: To = None,
    group_by: GroupBy = "tenant,model",
    form: As = "table",
    server: Server = None,
    token: Token = None,
    ca_cert: CaCert = None,
    as_json: AsJson = False,
) -> None:
    """Show what was used since the begin of this month, or in a window, and what it costs."""
    if ctx.invoked_subcommand is None:
        with opened(ctx) as session:
            session.as_json = session.as_json or form == "json"
            bill(session, begin, to, group_by, form)


def bill(session: Session, begin: str | None, to: str | None, group_by: str, form: Format) -> None:
    """Show usage and its bill."""
    window = {key: text for key, text in (("from", begin), ("to", to)) if text}
    data = session.api.get(path_of("usage"), patient=True, groupBy=group_by, **window)
    found = read(data, Usage)
    session.print(data, _as_csv(found) if form == "csv" else _as_table(found))


def close(session: Session, which: WhichMonth) -> None:
    """Record the totals of a month that is over, for good; again it shows them."""
    try:
        month(session, which)
    except NotFound:
        path = path_of("months", which, "close")
        session.change("POST", path, done=lambda done: _closed(which, done))


def month(session: Session, which: WhichMonth) -> None:
    """Show a closed month, and where the records say otherwise by now."""
    data = session.api.get(path_of("months", which), patient=True)
    found = read(data, Month)
    one = found.month
    pairs = [
        ("month", one.month),
        ("total", _money(one.total, one.currency)),
        ("closed", f"{show.moment(one.closed_time)} by {one.closed_by} (record {one.seq})"),
        ("made from", f"records up to {one.until_seq}"),
    ]
    text = show.details(pairs)
    if found.lines:
        rows = [_month_row(line) for line in found.lines]
        headings = ("TENANT", "METER", "MODEL", "HOURS", "AMOUNT")
        text += "\n" + show.table(headings, rows, right=RIGHT)
    for each in found.differences:
        text += f"differs by now: {_difference(each.closed, each.now)}\n"
    session.print(data, text)


def months(session: Session) -> None:
    """List the months that were closed."""
    data = session.api.get(path_of("months"))
    found = read(data, Months).months
    rows = [
        (one.month, _money(one.total, one.currency), show.moment(one.closed_time), one.closed_by)
        for one in found
    ]
    text = show.table(("MONTH", "TOTAL", "CLOSED", "BY"), rows)
    session.print(data, text if rows else "no month was closed\n")


def set_price(
    session: Session,
    meter: Annotated[
        str, typer.Argument(metavar="METER", help="gpu, cpu, memory, volume or snapshot")
    ],
    price: Annotated[
        str,
        typer.Argument(metavar="PRICE", help="Of one GPU, core or GB for an hour, such as 2.40"),
    ],
    currency: Annotated[str, typer.Option("--currency", metavar="CODE", help="Such as EUR")],
    valid_from: Annotated[
        str, typer.Option("--from", metavar="WHEN", help="From when on: 2026-11-01, or an instant")
    ],
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Only GPUs of this name")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Only for this tenant")
    ] = None,
) -> None:
    """Set a price, from an instant on."""
    body = given(
        meter=meter,
        price=price,
        currency=currency,
        validFrom=valid_from,
        model=model,
        tenant=tenant,
    )
    who = "".join(f", {text}" for text in (model, tenant and f"tenant {tenant}") if text)
    done = f"{meter}{who} is {price} {currency} an hour from {valid_from} on"
    session.change("POST", path_of("prices"), body, done=lambda _: done)


def list_prices(session: Session) -> None:
    """List the prices, by what they are for and from when on they hold."""
    data = session.api.get(path_of("prices"))
    found = read(data, Prices).prices
    rows = [
        (
            one.meter,
            "any" if one.model == "*" else one.model,
            one.tenant or "any",
            f"{one.price} {one.currency}",
            show.moment(one.valid_from),
        )
        for one in found
    ]
    text = show.table(("METER", "MODEL", "TENANT", "AN HOUR", "FROM"), rows, right=("AN HOUR",))
    session.print(data, text if rows else "no prices are set\n")


def _as_table(found: Usage) -> str:
    headings = [*(group.upper() for group in found.group_by), "METER", "USED", "KEPT", "AMOUNT"]
    width = max((len(_hours(line)) for line in found.lines), default=0)
    rows = [_row(line, found, width) for line in found.lines]
    text = f"{show.moment(found.begin)} to {show.moment(found.end)}\n"
    if rows:
        text += show.table((*headings, "RECORDS", "NOTES"), rows, right=RIGHT)
    else:
        text += "nothing was used\n"
    if found.total is not None:
        text += f"total {_money(found.total, found.currency)}\n"
    return text


def _row(line: UsageLine, found: Usage, width: int) -> Sequence[str]:
    kept = "" if Decimal(line.kept_hours) == 0 else f"{Decimal(line.kept_hours):.3f}"
    notes = (f"{NOTES.get(note, note)} ({count})" for note, count in line.notes.items())
    return (
        *(line.group.get(group, "") for group in found.group_by),
        line.meter,
        f"{_hours(line):>{width}} {line.unit}-hours",
        kept,
        "" if line.amount is None else f"{Decimal(line.amount):.2f}",
        _span(line),
        ", ".join(notes),
    )


def _hours(line: UsageLine) -> str:
    return f"{Decimal(line.hours):.3f}"


def _span(line: UsageLine) -> str:
    """The first and the last of the records, without a last one while it goes on; all of them
    are in the other formats."""
    first = min((begun for begun, _ in line.records), default="")
    ends = [ended for _, ended in line.records if ended is not None]
    last = max(ends) if len(ends) == len(line.records) else ""
    return f"{first}-{last}" if line.records else ""


def _as_csv(found: Usage) -> str:
    import csv

    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    own = "meter unit exact seconds hours kept_hours unpriced_hours amount currency notes records"
    rows.writerow([*found.group_by, *own.split()])
    for line in found.lines:
        notes = ";".join(f"{note}:{count}" for note, count in line.notes.items())
        cited = ";".join("-".join("" if s is None else str(s) for s in p) for p in line.records)
        rows.writerow(
            [
                *(line.group.get(group, "") for group in found.group_by),
                *(line.meter, line.unit, line.exact, line.seconds, line.hours),
                *(line.kept_hours, line.unpriced_hours, line.amount or ""),
                *(found.currency or "", notes, cited),
            ]
        )
    return out.getvalue()


def _closed(which: str, done: dict[str, Any]) -> str:
    total = _money(str(done.get("total", "")), done.get("currency"))
    return f"{which} is closed: {total}"


def _month_row(line: MonthLine) -> Sequence[str]:
    amount = "" if line.amount is None else f"{Decimal(line.amount):.2f}"
    used = f"{Decimal(line.hours):.3f} {line.unit}-hours"
    return line.tenant, line.meter, line.model, used, amount


def _difference(closed: MonthLine, now: MonthLine) -> str:
    who = " ".join(filter(None, (closed.tenant, closed.meter, closed.model)))
    sizes = f"{closed.hours} {closed.unit}-hours then, {now.hours} now"
    return f"{who}: {sizes}; {closed.amount or 'no amount'} then, {now.amount or 'none'} now"


def _money(amount: str, currency: str | None) -> str:
    """To two places, for people; what is not rounded so is in the other formats."""
    return f"{Decimal(amount):.2f} {currency}" if currency else "no prices"
