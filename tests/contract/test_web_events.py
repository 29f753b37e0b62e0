"""GET /events on a real socket: what is sent, to whom, from where on, and for how long."""

import asyncio
import logging
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from events.operations import OperationAccepted, OperationProgressed, OperationSucceeded
from events.outcomes import ImageResolved
from events.replica_sets import RevisionDeclared
from service.application.event_feed import KEPT_RECORDS, READERS_MAX
from service.web.context import StreamTimes
from tests.kit.builders import IMAGE, IMAGE_ID, spec
from tests.kit.event_site import EVENTS, EventSite, Message, event_site
from tests.kit.histories import records

IMPATIENT = StreamTimes(heartbeat_s=0.05, write_s=2.0)
"""Not so that a pause of this process cuts off who reads."""


def succeeded(number: int = 1, **changes: Any) -> OperationSucceeded:
    return OperationSucceeded(f"op-{number}", **changes)


def places(messages: list[Message]) -> list[str]:
    return [one.id for one in messages]


async def all_of(site: EventSite, query: str = "", **options: Any) -> list[Message]:
    """The events that there are."""
    join = "&" if query else "?"
    async with site.stream(f"{query}{join}after=0&follow=0", **options) as stream:
        return await stream.all()


class TestWhatIsSent:
    async def test_an_event_is_a_message_with_its_place_type_and_envelope(self) -> None:
        async with event_site() as site:
            await site.happen(
                OperationAccepted("id-1", "pause", "replica_set", "foo", {}),
                OperationProgressed("id-1", "FillDisk", 1, 2),
                verb="pause",
                actor="ci",
                tenant="lab",
                operation_id="id-1",
            )
            accepted, progressed = await all_of(site)
        assert (accepted.id, progressed.id) == ("1.0", "1.1")
        assert accepted.event == "operation.accepted.v1"
        assert progressed.payload == {
            "id": "1.1",
            "source": "/gpuledger/n1",
            "type": "operation.progressed.v1",
            "subject": "replica_set/foo",
            "time": "1970-01-01T00:00:00.000001Z",
            "timeus": 1,
            "verb": "pause",
            "seq": 1,
            "recordid": "id-1",
            "data": {
                "type": "operation.progressed.v1",
                "operation_id": "id-1",
                "step": "FillDisk",
                "done_bytes": 1,
                "total_bytes": 2,
            },
            "actor": "ci",
            "tenant": "lab",
            "operationid": "id-1",
            "specversion": "1.0",
            "datacontenttype": "application/json",
        }

    async def test_the_stream_says_what_it_is(self) -> None:
        async with event_site() as site, site.stream("?follow=0") as stream:
            await stream.all()
            headers = stream.response.headers
        assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Request-Id"]
        assert stream.retry == 2000

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", ["1.0", "2.0", "2.1", "3.0", "4.0"]),
            ("?name=foo", ["1.0", "2.0", "2.1"]),
            ("?kind=volume", ["4.0"]),
            ("?tenant=lab", ["3.0"]),
            ("?type=operation.succeeded.v1", ["1.0", "2.1", "3.0", "4.0"]),
            ("?type=operation.succeeded.v1,operation.progressed.v1&name=foo", None),
            ("?type=operation.progressed.v1", ["2.0"]),
            ("?name=nobody", []),
        ],
    )
    async def test_what_is_asked_for(self, query: str, expected: list[str] | None) -> None:
        async with event_site() as site:
            await site.happen(succeeded())
            await site.happen(OperationProgressed("id-1", "FillDisk", 1, 2), succeeded())
            await site.happen(succeeded(), name="bar", tenant="lab")
            await site.happen(succeeded(), name="foo2", kind="volume")
            found = places(await all_of(site, query))
        assert found == (["1.0", "2.0", "2.1"] if expected is None else expected)

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            *(("?type=no.such.v1", "type"), ("?kind=cat", "kind"), ("?follow=2", "follow")),
            *(("?after=x", "after"), ("?after=-1", "after"), ("?after=1.2.3", "after")),
            *(("?at=1&follow=0", "at"), ("?kinds=volume&follow=0", "kinds")),
            *(("?after=3&follow=0", "after"), (f"?name={'x' * 300}", "name"), ("?after=", "after")),
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, query: str, field: str) -> None:
        async with event_site() as site:
            await site.happen(succeeded())
            await site.happen(succeeded())
            answer = await site.get(f"{EVENTS}{query}")
        assert (answer.status, answer.code, answer.data["field"]) == (400, 1000, field)


class TestGoingOn:
    async def test_without_a_word_it_begins_now(self) -> None:
        async with event_site() as site:
            await site.happen(succeeded())
            async with site.stream() as stream:
                assert await stream.begin() == "1"
                await site.happen(succeeded())
                assert (await stream.next()).id == "2.0"

    async def test_who_comes_back_misses_nothing_and_gets_nothing_twice(self) -> None:
        """After any event, also one in the midst of a record, and by either way to say so."""
        async with event_site() as site:
            for record in records(40, 3):
                await site.append(record)
            everything = places(await all_of(site))
            assert len(everything) > 60
            for cut, last in enumerate(everything):
                async with site.stream(f"?after={last}&follow=0") as stream:
                    assert places(await stream.all()) == everything[cut + 1 :]
            headers = {"Last-Event-ID": everything[30]}
            async with site.stream("?after=0&follow=0", headers=headers) as stream:
                assert places(await stream.all()) == everything[31:]

    async def test_a_record_is_a_place_as_well(self) -> None:
        async with event_site() as site:
            await site.happen(succeeded(), succeeded())
            await site.happen(succeeded())
            async with site.stream("?after=1&follow=0") as stream:
                assert places(await stream.all()) == ["2.0"]

    async def test_what_is_long_ago_is_read_from_the_ledger_and_joins_what_is_new(self) -> None:
        count = 3 * KEPT_RECORDS
        async with event_site() as site:
            await site.append(*records(count, 5))
            async with site.stream("?after=0") as stream:
                messages = stream.messages()
                async with asyncio.timeout(60):
                    first = await anext(messages)
                    await site.happen(succeeded())
                    found = [first.payload["seq"]]
                    while found[-1] <= count:
                        found.append((await anext(messages)).payload["seq"])
        assert sorted(set(found)) == list(range(1, count + 2))
        assert found == sorted(found)

    async def test_silence_tells_the_place(self) -> None:
        """So that what is not wanted is not looked through again after a lost connection."""
        async with event_site(stream_times=IMPATIENT) as site, site.stream("?name=bar") as stream:
            await site.happen(succeeded())
            await site.happen(succeeded())
            async with asyncio.timeout(60):
                while await stream.response.content.readline() != b"id: 2\n":
                    pass

    async def test_the_end_of_the_service_is_the_end(self) -> None:
        async with event_site() as site, site.stream() as stream:
            await site.happen(succeeded())
            assert (await stream.next()).id == "1.0"
            async with asyncio.timeout(60):
                await site.stop_serving()
            assert await stream.all() == []
        assert stream.comments == ["the service stops"]


class TestWhoReads:
    async def test_secrets_are_for_admins(self) -> None:
        env = ("PLAIN=1", "MARKED=hush", "DB_PASSWORD=hush")
        body = {"env": ["PLAIN=1", "MARKED=hush"], "secretEnv": ["OTHER=hush"]}
        declared = spec(env=env, secret_env=("MARKED",))
        async with event_site() as site:
            viewer, admin = site.grant("viewer"), site.grant("admin")
            await site.happen(
                OperationAccepted("id-1", "run", "replica_set", "foo", body),
                RevisionDeclared("foo", 1, "run", declared, (), (), "none"),
            )
            await site.happen(ImageResolved("foo", 1, IMAGE, IMAGE_ID, ("API_KEY=hush",)))
            # Marked by the version before.
            again = {"env": ["MARKED=hush", "PLAIN=2"]}
            await site.happen(OperationAccepted("id-3", "patch", "replica_set", "foo", again))
            for _ in range(2):  # from what was made for the one before, too
                hidden = "".join(one.data for one in await all_of(site, headers=viewer))
                shown = "".join(one.data for one in await all_of(site, headers=admin))
                assert "hush" not in hidden
                assert shown.count("hush") == 6
                assert hidden.count("***") == 6
                assert "PLAIN=2" in hidden

    async def test_a_token_that_is_revoked_reads_no_further(self) -> None:
        async with event_site(stream_times=StreamTimes(admitted_s=0)) as site:
            site.grant("admin", "another")
            headers = site.grant("viewer")
            async with site.stream(headers=headers) as stream:
                await site.happen(succeeded())
                assert (await stream.next()).id == "1.0"
                del site.tokens.grants[headers["Authorization"].removeprefix("Bearer ")]
                await site.happen(succeeded())
                assert await stream.all() == []
            assert stream.comments == ["the token is not valid any more"]

    async def test_the_first_token_ends_what_was_read_without_one(self) -> None:
        times = StreamTimes(admitted_s=0)
        async with event_site(stream_times=times) as site, site.stream() as stream:
            await site.happen(succeeded())
            assert (await stream.next()).id == "1.0"
            site.grant("viewer")
            await site.happen(succeeded())
            assert await stream.all() == []

    async def test_a_stream_is_no_request_that_waits(self) -> None:
        async with event_site(waiting_limit=1) as site, site.stream(), site.stream():
            assert (await site.get("/api/v1/node")).status == 200

    async def test_who_goes_away_is_forgotten(self) -> None:
        async with event_site() as site:
            async with site.stream():
                assert site.context.feed.readers == 1
            await site.readers_are(0)

    async def test_too_many_readers_are_told_to_come_again(self) -> None:
        async with event_site() as site:
            with ExitStack() as stack:
                for number in range(READERS_MAX):
                    stack.enter_context(site.context.feed.reader(f"caller {number}"))
                answer = await site.get(EVENTS)
                assert (answer.status, answer.code) == (503, 500)
            async with site.stream("?follow=0") as stream:
                await stream.all()

    async def test_one_caller_leaves_as_many_places_to_the_others(self) -> None:
        async with event_site() as site:
            feed = site.context.feed
            with ExitStack() as stack:
                for _ in range(READERS_MAX // 2):
                    stack.enter_context(feed.reader("127.0.0.1"))
                answer = await site.get(EVENTS)
                assert (answer.status, answer.code) == (503, 500)
                assert b"1000 of them this caller's" in answer.body
                stack.enter_context(feed.reader("another"))
                assert feed.readers == READERS_MAX // 2 + 1
            assert feed.readers == 0

    async def test_who_takes_nothing_is_cut_off(self, caplog: pytest.LogCaptureFixture) -> None:
        """The others go on, and nothing piles up for him."""
        caplog.set_level(logging.INFO)
        async with event_site(stream_times=IMPATIENT) as site:
            big = OperationProgressed("op-1", "FillDisk", 1, 2, "x" * 100_000)
            with socket.socket() as idle:
                idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                idle.connect(("127.0.0.1", site.port))
                idle.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await site.readers_are(1)
                async with site.stream() as stream:
                    # More than may wait for him, and less than the kernel would keep by itself.
                    for seq in range(1, 11):
                        await site.happen(big)
                        assert (await stream.next()).id == f"{seq}.0"
                    await site.readers_are(1)
                    await site.happen(big)
                    assert (await stream.next()).id == "11.0"
                    assert site.connections == 1
        assert "cut off" in caplog.text

    async def test_head_is_only_asked_what_it_is(self) -> None:
        async with event_site() as site:
            answer = await site.send("HEAD", EVENTS)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
