"""Orphans over REST: what is there and in no record, and how to be rid of it."""

from collections.abc import AsyncIterator

import pytest

from service.application.orphans import Found
from service.domain.orphan_commands import RemoveOrphan, Thing
from service.domain.orphans import Orphan
from service.domain.rejections import Reason, Rejected
from tests.kit.web_site import Site

SINCE_US = 1_700_000_000_000_000
LIST = "/api/v1/orphans"
THING = Thing("image-foo-1-op", "image", "gpuledger/snapshot:foo-1-op", "o", size_bytes=7)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site() as site:
        yield site


async def test_the_list_says_what_and_since_when_and_until_when(site: Site) -> None:
    disk = Thing("volume_disk-old", "volume_disk", "old", "o")
    site.found = Found(
        (Orphan(THING, "why", SINCE_US, SINCE_US + 1_000_000), Orphan(disk, "why", SINCE_US, 0)),
        {"container": "no answer"},
    )
    data = (await site.get(LIST)).data
    assert data["orphans"][0] == {
        "id": "image-foo-1-op",
        "kind": "image",
        "name": "gpuledger/snapshot:foo-1-op",
        "why": "why",
        "sizeBytes": 7,
        "sinceTime": "2023-11-14T22:13:20.000000Z",
        "removalTime": "2023-11-14T22:13:21.000000Z",
    }
    second = data["orphans"][1]
    assert (second["removalTime"], second["sizeBytes"]) == (None, None)
    assert data["unseen"] == [{"kind": "container", "why": "no answer"}]


async def test_a_removal_is_a_command(site: Site) -> None:
    site.intake.results["remove"] = {"kind": "image", "name": THING.name}
    done = await site.send("DELETE", f"{LIST}/{THING.id}")
    assert (done.status, done.data) == (200, {"kind": "image", "name": THING.name})
    assert [one.command for one in site.intake.submitted] == [RemoveOrphan(THING.id)]


async def test_one_that_is_none(site: Site) -> None:
    site.intake.answers.append(Rejected(Reason.ORPHAN_NOT_FOUND, "there is no orphan x-1"))
    answer = await site.send("DELETE", f"{LIST}/x-1")
    assert (answer.status, answer.code) == (404, 1117)
    assert answer.data["reason"] == "orphan_not_found"


@pytest.mark.parametrize("orphan_id", ["old", "a%20-b", "a-%2E%2E%2Fb", "a-" + "b" * 256])
async def test_an_id_that_is_none(site: Site, orphan_id: str) -> None:
    answer = await site.send("DELETE", f"{LIST}/{orphan_id}")
    assert (answer.status, answer.data["field"]) == (400, "id")
    assert site.intake.submitted == []


async def test_who_may(site: Site) -> None:
    for role, status in (("viewer", 403), ("operator", 403), ("admin", 200)):
        headers = site.grant(role)  # type: ignore[arg-type]
        assert (await site.send("GET", LIST, headers=headers)).status == 200
        assert (await site.send("DELETE", f"{LIST}/a-b", headers=headers)).status == status
