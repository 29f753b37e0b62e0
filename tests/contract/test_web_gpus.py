"""GPUs over REST: how they fare, what is counted on, and quarantine by hand."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from projections.gpu_unit import Ailment, Quarantine
from projections.state import ReplicaSet
from service.domain.commands import QuarantineGpu, RestoreGpu
from service.domain.rejections import Reason, Rejected
from tests.kit.builders import revision, unit
from tests.kit.web_site import Site

SINCE_US = 1_700_000_000_000_000
SINCE = "2023-11-14T22:13:20.000000Z"
ILL = Ailment("xid", "XID 79 (the GPU fell off the bus)", SINCE_US, 79)
BY_POLICY = Quarantine(ILL.message, SINCE_US)
ONE = "/api/v1/resources/gpus/GPU-1/quarantine"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        yield site


async def detail_of(site: Site, **changes: Any) -> tuple[int, dict[str, Any]]:
    """What the map and the details say of a GPU."""
    site.reads.gpu_rows = [replace(unit(0), **changes)]
    data = (await site.get("/api/v1/resources/gpus")).data
    return data["gpus"]["gpu-0"], data["details"][0]


async def test_a_healthy_gpu(site: Site) -> None:
    used, detail = await detail_of(site)
    assert used == 0
    assert (detail["health"], detail["quarantine"]) == ("healthy", "nobody")
    assert (detail["why"], detail["since"], detail["ailments"]) == ("", None, [])


async def test_one_in_quarantine_is_not_to_be_counted_on(site: Site) -> None:
    used, detail = await detail_of(site, ailments=(ILL,), quarantine=BY_POLICY)
    assert used == 1
    assert (detail["health"], detail["quarantine"]) == ("sick", "policy")
    assert (detail["why"], detail["since"]) == (ILL.message, SINCE)
    assert detail["ailments"] == [{"cause": "xid", "message": ILL.message, "since": SINCE}]
    by_hand = Quarantine("fan noise", SINCE_US, by_hand=True)
    used, detail = await detail_of(site, quarantine=by_hand)
    assert (used, detail["quarantine"], detail["why"]) == (1, "hand", "fan noise")
    assert detail["health"] == "healthy"


async def test_one_that_is_lent_though_it_is_sick_says_so(site: Site) -> None:
    used, detail = await detail_of(site, ailments=(ILL,))
    assert (used, detail["health"], detail["quarantine"]) == (0, "sick", "nobody")
    assert (detail["why"], detail["since"]) == (ILL.message, SINCE)


async def test_one_with_a_process_of_the_host_on_it(site: Site) -> None:
    used, detail = await detail_of(site, occupants=(4711,))
    assert (used, detail["occupants"]) == (1, [4711])
    assert detail["why"] == "process 4711 of the host is on it"


async def test_who_has_a_sick_gpu_is_told(site: Site) -> None:
    site.reads.sets["foo"] = ReplicaSet("foo", current=1)
    site.reads.versions["foo"] = [revision(1, gpus=(0, 1, 2, 3))]
    site.reads.gpu_rows = [
        unit(0, "foo", 1),
        unit(1, "foo", 1, ailments=(ILL,)),
        unit(2, "foo", 1, present=False),
        unit(3, "bar", 1, ailments=(ILL,)),
    ]
    info = (await site.get("/api/v1/replicaSet/foo")).data["info"]
    assert info["gpusSick"] == ["gpu-1", "gpu-2"]
    (row,) = (await site.get("/api/v1/replicaSet")).data["replicaSets"]
    assert row["gpusSick"] == ["gpu-1", "gpu-2"]
    (line,) = (await site.get("/api/v1/replicaSet/foo/history")).data["history"]
    assert "gpusSick" not in line["status"]


async def test_quarantine_and_restore_are_commands(site: Site) -> None:
    done = await site.send("POST", ONE, json={"why": " fan noise "})
    assert (done.status, done.code, done.data) == (200, 200, None)
    again = await site.send("DELETE", ONE, headers={"Prefer": "respond-async"})
    assert again.status == 202
    sent = [one.command for one in site.intake.submitted]
    assert sent == [QuarantineGpu("GPU-1", "fan noise"), RestoreGpu("GPU-1")]
    shown = (await site.get(f"/api/v1/operations/{again.data['operationId']}")).data
    assert (shown["kind"], shown["verb"], shown["name"]) == ("gpu", "restore", "GPU-1")


@pytest.mark.parametrize(("method", "code"), [("POST", 1115), ("DELETE", 1116)])
async def test_no_such_gpu(site: Site, method: str, code: int) -> None:
    site.intake.answers.append(Rejected(Reason.GPU_NOT_FOUND, "there is no GPU GPU-1"))
    answer = await site.send(method, ONE, json={"why": "x"})
    assert (answer.status, answer.code) == (404, code)
    assert answer.data["reason"] == "gpu_not_found"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "why"),
        ({"why": ""}, "why"),
        ({"why": "   "}, "why"),
        ({"why": "x" * 201}, "why"),
        ({"why": "two\nlines"}, "why"),
        ({"why": 1}, "why"),
        ({"why": "x", "till": "noon"}, "till"),
    ],
)
async def test_a_body_that_makes_no_sense(site: Site, body: dict[str, Any], field: str) -> None:
    answer = await site.send("POST", ONE, json=body)
    assert (answer.status, answer.code, answer.data["field"]) == (400, 1000, field)
    assert site.intake.submitted == []


async def test_a_uuid_that_is_none(site: Site) -> None:
    answer = await site.send("DELETE", ONE.replace("GPU-1", "a%20b"))
    assert (answer.status, answer.data["field"]) == (400, "uuid")
