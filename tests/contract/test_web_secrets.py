"""What is marked as secret later is hidden where it stood before, too: it is the same value."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.operations import OperationAccepted
from events.record import Event, Record
from events.replica_sets import RevisionDeclared
from tests.kit.builders import spec
from tests.kit.inline_store import InlineStore
from tests.kit.logs import fold
from tests.kit.past import past_of, stored
from tests.kit.web_site import Site

OPEN = spec(env=("LICENSE=hunter1", "LANG=C"))
MARKED = spec(env=("LICENSE=hunter1", "LANG=D"), secret_env=("LICENSE",))
GONE = spec(env=("LANG=E",))


def record(number: int, *events: Event) -> Record:
    return Record(
        f"op-{number}", "n1", "replica_set", "foo", "patch", number, events,
        operation_id=f"op-{number}",
    )  # fmt: skip


def declared(number: int, **asked: Any) -> Record:
    what = {1: OPEN, 2: MARKED, 3: GONE}[number]
    before = number - 1 or None
    return record(
        number,
        OperationAccepted(f"op-{number}", "patch", "replica_set", "foo", asked),
        RevisionDeclared("foo", number, "patch", what, (), (), "none", supersedes=before),
    )


HISTORY = (
    declared(1, env=["LICENSE=hunter1", "LANG=C"]),
    declared(2, env=["LANG=D"], secretEnv=["LICENSE=hunter1"]),
    declared(3, env=["LICENSE", "LANG=E"]),
)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with InlineStore() as store:
        await stored(HISTORY, store)
        async with Site(past=past_of(HISTORY, store), present=store) as site:
            site.projector.state = fold(HISTORY)
            yield site


@pytest.mark.parametrize(
    "path",
    [
        *("replicaSet/foo", "replicaSet/foo?at=1", "replicaSet/foo?at=2"),
        *("replicaSet/foo/history", "replicaSet/foo/history?at=1"),
        *("replicaSet/foo/diff?from=1&to=3&files=0", "replicaSet/foo/diff?from=1&to=2&files=0"),
        *("operations/op-1", "operations/op-1?at=1", "operations/op-2"),
        *("changes?from=0&to=1", "changes?from=1&to=3", "changes?from=1&to=2"),
    ],
)
async def test_it_is_hidden_at_every_point(site: Site, path: str) -> None:
    for role in ("viewer", "operator"):
        answer = await site.send("GET", f"/api/v1/{path}", headers=site.grant(role))
        assert answer.status == 200, answer.json
        assert b"hunter" not in answer.body, role
