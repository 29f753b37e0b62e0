"""Usage, prices and months over REST."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from projections.price_book import Month, Price
from projections.usage import Interval
from service.application import usage_reader
from service.domain.billing import HOUR_US, totals_of
from service.domain.billing_commands import CloseMonth, SetPrice
from service.domain.rejections import Reason, Rejected
from tests.kit.usage_log import MONTH, NOVEMBER
from tests.kit.web_site import Site

BEGIN, END = NOVEMBER.begin_us, NOVEMBER.end_us
PRICE = {"meter": "gpu", "price": "2.40", "currency": "EUR", "validFrom": "2026-11-01"}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        site.now_us = BEGIN + 10 * HOUR_US
        site.reads.seq = 100
        yield site


def used(seq: int, begin_h: float, end_h: float | None, **more: Any) -> Interval:
    """A GPU of lab's, from one hour of November to another; closed nine records later."""
    ended = None if end_h is None else BEGIN + round(end_h * HOUR_US)
    given: dict[str, Any] = {"tenant": "lab", "model": "H100", "gpu": "GPU-0", "amount": 1}
    return Interval(
        opened_seq=seq,
        place=0,
        meter="gpu",
        name="foo",
        number=1,
        begun_us=BEGIN + round(begin_h * HOUR_US),
        ended_us=ended,
        closed_seq=None if ended is None else seq + 9,
        **(given | more),
    )


def price(amount: str, begin_h: float = 0) -> Price:
    return Price("gpu", "*", "", BEGIN + round(begin_h * HOUR_US), amount, "EUR", 5)


async def test_usage_since_the_begin_of_the_month_and_what_goes_on(site: Site) -> None:
    site.reads.intervals = [used(3, 1, 2), used(20, 8, None, kept="paused")]
    site.reads.price_rows = [price("2"), price("4", 9)]
    data = (await site.get("/api/v1/usage")).data
    assert data == {
        "begin": "2026-11-01T00:00:00.000000Z",
        "end": "2026-11-01T10:00:00.000000Z",
        "untilSeq": 100,
        "groupBy": [],
        "currency": "EUR",
        "total": "8.000000",
        "lines": [
            {
                "meter": "gpu",
                "unit": "GPU",
                "group": {},
                "exact": str(3 * HOUR_US),
                "seconds": "10800.000000",
                "hours": "3.000000",
                "keptHours": "2.000000",
                "unpricedHours": "0.000000",
                "amount": "8.000000",
                "notes": {"paused": 1},
                "records": [[20, None], [3, 12]],
            }
        ],
    }


async def test_a_window_never_ends_later_than_now(site: Site) -> None:
    site.reads.intervals = [used(3, 9, None)]
    data = (await site.get("/api/v1/usage?from=2026-11-01T09:30:00Z&to=2026-12-01")).data
    assert data["end"] == "2026-11-01T10:00:00.000000Z"
    assert data["lines"][0]["hours"] == "0.500000"
    later = (await site.get("/api/v1/usage?from=2026-12-01")).data
    assert (later["lines"], later["total"]) == ([], None)


async def test_a_window_that_ends_before_it_begins_is_refused(site: Site) -> None:
    refused = await site.get("/api/v1/usage?from=2026-11-02&to=2026-11-01")
    assert (refused.status, refused.code, refused.data["field"]) == (400, 1000, "to")
    assert (await site.get("/api/v1/usage?from=2026-11-02&to=2026-11-02")).status == 200


async def test_groups_and_no_price(site: Site) -> None:
    site.reads.intervals = [used(3, 1, 2), used(4, 1, 3, tenant="ops", labels={"team": "a"})]
    data = (await site.get("/api/v1/usage?groupBy=tenant,model,label:team")).data
    groups = [(line["group"], line["hours"], line["amount"]) for line in data["lines"]]
    assert groups == [
        ({"tenant": "lab", "model": "H100", "label:team": ""}, "1.000000", None),
        ({"tenant": "ops", "model": "H100", "label:team": "a"}, "2.000000", None),
    ]
    assert (data["currency"], data["total"]) == (None, None)


async def test_a_long_bill_is_read_in_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_reader, "PAGE_ROWS", 2)
    site.reads.intervals = [used(n, n / 10, n / 10 + 0.05) for n in range(1, 8)]
    (line,) = (await site.get("/api/v1/usage")).data["lines"]
    assert len(line["records"]) == 7


async def test_what_was_closed_after_the_snapshot_is_not_counted_twice(site: Site) -> None:
    """It was open in the snapshot; a page that is read later shows it ended."""
    site.reads.seq = 10
    site.reads.intervals = [used(3, 1, 2)]
    assert (await site.get("/api/v1/usage")).data["lines"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("from=2026-11-01T00:00:00", "from"),
        ("from=1969-12-31", "from"),
        ("to=2026-02-30", "to"),
        ("groupBy=owner", "groupBy"),
        ("groupBy=label:", "groupBy"),
        ("groupBy=" + ",".join(f"label:{n}" for n in range(9)), "groupBy"),
    ],
)
async def test_queries_that_make_no_sense(site: Site, query: str, field: str) -> None:
    answer = await site.get(f"/api/v1/usage?{query}")
    assert (answer.status, answer.code, answer.data["field"]) == (400, 1000, field)


async def test_a_price_is_a_command(site: Site) -> None:
    done = await site.send("POST", "/api/v1/prices", json=PRICE)
    assert (done.status, done.data) == (200, None)
    own = {**PRICE, "model": "H100", "tenant": "lab", "validFrom": "2026-11-01T00:00:00+01:00"}
    assert (await site.send("POST", "/api/v1/prices", json=own)).status == 200
    assert [one.command for one in site.intake.submitted] == [
        SetPrice("gpu", "2.40", "EUR", BEGIN),
        SetPrice("gpu", "2.40", "EUR", BEGIN - HOUR_US, "H100", "lab"),
    ]
    site.reads.price_rows = [price("2.40")]
    (row,) = (await site.get("/api/v1/prices")).data["prices"]
    assert row == {
        "meter": "gpu",
        "model": "*",
        "tenant": "",
        "price": "2.40",
        "currency": "EUR",
        "validFrom": "2026-11-01T00:00:00.000000Z",
        "seq": 5,
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"price": "-1"}, "price"),
        ({"price": "1e3"}, "price"),
        ({"price": "0.0000000001"}, "price"),
        ({"currency": "euro"}, "currency"),
        ({"meter": "network"}, "meter"),
        ({"meter": "cpu", "model": "H100"}, "model"),
        ({"model": "x" * 129}, "model"),
        ({"tenant": "a\nb"}, "tenant"),
        ({"validFrom": "soon"}, "validFrom"),
    ],
)
async def test_prices_that_make_no_sense(site: Site, change: dict[str, str], field: str) -> None:
    answer = await site.send("POST", "/api/v1/prices", json=PRICE | change)
    assert (answer.status, answer.code, answer.data["field"]) == (400, 1000, field)


async def test_a_month_is_closed_by_a_command(site: Site) -> None:
    site.intake.results["close"] = {"month": MONTH, "total": "1.000000", "currency": "EUR"}
    done = await site.send("POST", f"/api/v1/months/{MONTH}/close")
    assert (done.status, done.data["total"]) == (200, "1.000000")
    assert site.intake.submitted[0].command == CloseMonth(MONTH)
    site.intake.answers.append(Rejected(Reason.MONTH_CLOSED, "it is closed"))
    again = await site.send("POST", f"/api/v1/months/{MONTH}/close")
    assert (again.status, again.code) == (409, 1120)
    site.intake.answers.append(Rejected(Reason.MONTH_NOT_OVER, "it is not over"))
    early = await site.send("POST", f"/api/v1/months/{MONTH}/close")
    assert (early.status, early.code) == (409, 1119)
    assert (await site.send("POST", "/api/v1/months/2026-13/close")).status == 400


async def test_a_closed_month_says_what_it_was_and_what_differs(site: Site) -> None:
    assert (await site.get(f"/api/v1/months/{MONTH}")).status == 404
    site.now_us = END
    site.reads.intervals = [used(3, 1, 2)]
    site.reads.price_rows = [price("2")]
    bill, seq = await usage_reader.bill_of(site.reads, NOVEMBER, ("tenant", "model"))
    closed = Month(totals_of(MONTH, bill, seq), 101, END, "ann")
    site.reads.month_rows[MONTH] = closed
    data = (await site.get(f"/api/v1/months/{MONTH}")).data
    assert (data["month"]["total"], data["month"]["untilSeq"]) == ("2.000000", 100)
    assert (data["month"]["seq"], data["month"]["closedBy"]) == (101, "ann")
    assert [(o["tenant"], o["hours"], o["amount"]) for o in data["lines"]] == [
        ("lab", "1.000000", "2.000000")
    ]
    assert data["differences"] == []
    site.reads.intervals.append(used(30, 700, 703))
    (found,) = (await site.get(f"/api/v1/months/{MONTH}")).data["differences"]
    assert (found["closed"]["hours"], found["now"]["hours"]) == ("1.000000", "4.000000")
    (row,) = (await site.get("/api/v1/months")).data["months"]
    assert row == data["month"]


async def test_viewers_read_and_admins_change(site: Site) -> None:
    viewer, operator, admin = (site.grant(role) for role in ("viewer", "operator", "admin"))
    for path in ("usage", "prices", "months"):
        assert (await site.send("GET", f"/api/v1/{path}", headers=viewer)).status == 200
    for path, body in (("prices", PRICE), (f"months/{MONTH}/close", None)):
        for headers, status in ((viewer, 403), (operator, 403), (admin, 200)):
            answer = await site.send("POST", f"/api/v1/{path}", headers=headers, json=body)
            assert answer.status == status
