"""`gpuledger bill` and `gpuledger price`: what is asked for, and how it is shown."""

import csv
import io
from collections.abc import Iterator

import pytest

from tests.kit.command_line import Rig
from tests.kit.contract_billing import LINE
from tests.kit.contract_server import ContractServer


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ContractServer() as server:
        yield Rig(server)


WINDOW = ("--from", "2026-11-01", "--to", "2026-12-01")


def test_a_bill_as_a_table(rig: Rig) -> None:
    paused = {**LINE, "keptHours": "0.250000", "notes": {"paused": 1}, "amount": None}
    rig.world.usage = [LINE, paused]
    shown = rig("bill", *WINDOW, "--group-by", "tenant,label:team")
    assert shown.exit_code == 0, shown.output
    assert rig.world.queries[-1] == {
        "from": "2026-11-01",
        "to": "2026-12-01",
        "groupBy": "tenant,label:team",
    }
    _window, headings, first, second, total = shown.stdout.splitlines()
    assert " ".join(headings.split()) == "TENANT LABEL:TEAM METER USED KEPT AMOUNT RECORDS NOTES"
    assert first.split() == ["lab", "lab", "gpu", "1.000", "GPU-hours", "-", "2.68", "3-", "-"]
    assert second.endswith("0.250       -  3-       GPU kept while paused (1)")
    assert total == "total 2.68 EUR"


def test_numbers_stand_below_each_other_and_what_has_ended_says_so(rig: Rig) -> None:
    large = {**LINE, "hours": "1234.5", "amount": "1234.5", "records": [[3, 17]]}
    rig.world.usage = [LINE, large]
    _window, _headings, first, second, _total = rig("bill").stdout.splitlines()
    assert first.endswith("    1.000 GPU-hours     -     2.68  3-       -")
    assert second.endswith(" 1234.500 GPU-hours     -  1234.50  3-17     -")


def test_without_usage_and_prices(rig: Rig) -> None:
    shown = rig("bill")
    assert shown.stdout.splitlines()[1:] == ["nothing was used"]
    assert rig.world.queries[-1] == {"groupBy": "tenant,model"}


def test_a_bill_as_csv_cites_every_record(rig: Rig) -> None:
    rig.world.usage = [{**LINE, "notes": {"paused": 2, "clock": 1}}]
    text = rig("bill", "--group-by", "tenant", "--format", "csv").stdout
    (row,) = csv.DictReader(io.StringIO(text))
    assert row == {
        "tenant": "lab",
        "meter": "gpu",
        "unit": "GPU",
        "exact": "3600000000",
        "seconds": "3600.000000",
        "hours": "1.000000",
        "kept_hours": "0.000000",
        "unpriced_hours": "0.000000",
        "amount": "2.675000",
        "currency": "EUR",
        "notes": "paused:2;clock:1",
        "records": "3-17;20-",
    }


def test_a_bill_as_json_is_the_answer(rig: Rig) -> None:
    rig.world.usage = [LINE]
    for args in (("bill", "--format", "json"), ("bill", "--json")):
        assert '"exact": "3600000000"' in rig(*args).stdout


def test_a_format_that_nobody_knows(rig: Rig) -> None:
    assert rig("bill", "--format", "xml").exit_code == 2


def test_prices_are_set_and_listed(rig: Rig) -> None:
    assert rig("price", "ls").stdout == "no prices are set\n"
    args = ("gpu", "2.40", "--currency", "EUR", "--from", "2026-11-01", "--model", "H100")
    done = rig("price", "set", *args)
    told = "gpu, H100 is 2.40 EUR an hour from 2026-11-01 on\n"
    assert (done.exit_code, done.stdout) == (0, told)
    _method, _path, body = rig.world.requests[-1]
    assert body == {
        "meter": "gpu",
        "price": "2.40",
        "currency": "EUR",
        "validFrom": "2026-11-01",
        "model": "H100",
    }
    _heading, row = rig("price", "ls").stdout.splitlines()
    assert row.split()[:5] == ["gpu", "H100", "any", "2.40", "EUR"]


def test_a_month_is_closed_once_and_shown_when_asked_again(rig: Rig) -> None:
    assert rig("bill", "months").stdout == "no month was closed\n"
    assert rig("bill", "month", "2026-11").exit_code == 4
    assert rig("bill", "close", "2026-11").stdout == "2026-11 is closed: 2.68 EUR\n"
    again = rig("bill", "close", "2026-11")
    assert again.exit_code == 0
    assert "closed     2026-01-02 03:04:05Z by ann (record 21)" in again.stdout
    assert "differs" not in again.stdout
    assert rig("bill", "months").stdout.splitlines()[1].split()[:3] == ["2026-11", "2.68", "EUR"]


def test_a_closed_month_says_where_the_records_differ_by_now(rig: Rig) -> None:
    rig("bill", "close", "2026-11")
    rig.world.month_differs = True
    last = rig("bill", "close", "2026-11").stdout.splitlines()[-1]
    assert last.startswith("differs by now: lab gpu H100: 1.000000 GPU-hours then, 2.000000 now")
