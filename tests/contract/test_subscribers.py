"""Subscribers of the stream: what they can read, and all that they cannot do."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client

from events.codec import encode
from events.record import Record
from events.subjects import subject_of
from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import NatsAddress
from service.adapters.nats_child import NatsChild
from service.application.event_feed import EventFeed
from service.bootstrap.ledger import SUBSCRIBER_FILE, open_ledger
from service.ports import Entry, Ledger
from tests.kit.backups import settings
from tests.kit.event_site import Fold
from tests.kit.histories import records

PAGE = Path(__file__).parents[2] / "docs" / "subscribing.md"
PATIENCE_S = 60.0
REFUSED_S = 0.3
"""A call that is not allowed is answered by silence."""


async def fill(ledger: Ledger, count: int) -> list[Record]:
    """Append so many records of a made-up history."""
    made = list(islice(records(count, 3), count))
    entries = [Entry(subject_of(one), one.command_id, encode(one)) for one in made]
    await ledger.append(entries, 0)
    return made


@asynccontextmanager
async def connected(address: NatsAddress, faults: list[str] | None = None) -> AsyncIterator[Client]:
    async def note(error: Exception) -> None:
        if faults is not None:
            faults.append(str(error))

    client = await nats.connect(
        list(address.servers), user=address.user, password=address.password, error_cb=note
    )
    try:
        yield client
    finally:
        await client.close()


async def asked(
    client: Client, subject: str, body: bytes = b"", within_s: float = REFUSED_S
) -> dict[str, Any] | None:
    """What is answered; None when nobody does."""
    try:
        reply = await client.request(subject, body, timeout=within_s)
    except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
        return None
    return dict(json.loads(reply.data))


async def test_the_example_reads_all_and_goes_on_where_it_was(
    nats_child: NatsChild, nats_ledger: JetStreamLedger, tmp_path: Path
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    (tmp_path / "server.json").write_bytes(msgspec.json.encode(nats_child.subscriber))
    made = await fill(nats_ledger, 40)
    expected = [
        f"{record.kind}/{record.name} {event.__struct_config__.tag}"
        for record in made
        for event in record.events
    ]

    async def run(lines: int) -> list[str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, tmp_path / "example.py", tmp_path / "server.json"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                said = [await process.stdout.readline() for _ in range(lines)]
        finally:
            process.kill()
            await process.wait()
        return [line.decode().strip().partition(" ")[2] for line in said]

    assert await run(len(expected)) == expected
    body = encode(msgspec.structs.replace(made[0], command_id="one-more"))
    await nats_ledger.append([Entry(subject_of(made[0]), "one-more", body)], len(made))
    # What it had not acknowledged when it was killed comes again, but only after half a minute.
    assert await run(1) == expected[:1]


async def test_some_of_it_can_be_pushed(
    nats_child: NatsChild, nats_ledger: JetStreamLedger
) -> None:
    """As `nats sub --all` asks for it: the server finds the stream and throttles itself."""
    made = await fill(nats_ledger, 300)
    wanted = [subject_of(one) for one in made if one.kind == "replica_set" and one.name == "set1"]
    async with connected(nats_child.subscriber) as client:
        pushed = await client.jetstream().subscribe(
            "ledger.*.replica_set.set1.>", flow_control=True, idle_heartbeat=1
        )
        found = [(await pushed.next_msg(timeout=PATIENCE_S)).subject for _ in wanted]
    assert len(wanted) > 50
    assert found == wanted


async def test_the_feed_catches_up_from_a_real_ledger(nats_ledger: JetStreamLedger) -> None:
    made = await fill(nats_ledger, 700)
    projector = Fold()
    for record in made:
        projector.fold(record)
    feed = EventFeed(nats_ledger, projector)
    found: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < len(made):
            found += [fed.record for fed in await feed.after(len(found), 0)]
    assert found == made


async def test_it_cannot_write_or_delete(
    nats_child: NatsChild, nats_ledger: JetStreamLedger
) -> None:
    made = await fill(nats_ledger, 3)
    faults: list[str] = []
    async with connected(nats_child.subscriber, faults) as client:
        info = await asked(client, "$JS.API.STREAM.INFO.LEDGER", within_s=PATIENCE_S)
        assert info is not None
        assert info["state"]["messages"] == 3
        assert await asked(client, subject_of(made[0]), encode(made[0])) is None
        verbs = ("DELETE", "PURGE", "UPDATE", "CREATE", "RESTORE", "MSG.DELETE", "SNAPSHOT")
        for verb in verbs:
            assert await asked(client, f"$JS.API.STREAM.{verb}.LEDGER") is None, verb
        assert await asked(client, "$JS.API.CONSUMER.DELETE.LEDGER.any") is None
        await client.flush()
        assert len([one for one in faults if "permissions violation" in one.lower()]) == 9
    assert await nats_ledger.last_seq() == 3


@pytest.mark.parametrize("verb", ["STREAM.DELETE", "STREAM.PURGE"])
async def test_nor_by_having_records_delivered_to_where_they_are_requests(
    nats_child: NatsChild, nats_ledger: JetStreamLedger, verb: str
) -> None:
    await fill(nats_ledger, 3)
    target = f"$JS.API.{verb}.LEDGER"
    config = {
        "deliver_subject": target,
        "headers_only": True,  # an empty body: what such a request has
        "deliver_policy": "all",
        "ack_policy": "none",
    }
    faults: list[str] = []
    async with connected(nats_child.subscriber, faults) as client:
        await client.subscribe(target)  # interest, or nothing would be delivered
        body = json.dumps({"stream_name": "LEDGER", "config": config}).encode()
        await asked(client, "$JS.API.CONSUMER.CREATE.LEDGER", body)
        await client.flush()
    assert any("permissions violation for subscription" in one.lower() for one in faults)
    assert await nats_ledger.last_seq() == 3


async def test_a_running_service_leaves_the_address_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / SUBSCRIBER_FILE
    async with open_ledger(settings(tmp_path / "data")) as opened:
        await fill(opened.ledger, 2)
        assert path.stat().st_mode & 0o777 == 0o600
        address = msgspec.json.decode(path.read_bytes(), type=NatsAddress)
        assert address.user == "subscriber"
        async with connected(address) as client:
            info = await asked(client, "$JS.API.STREAM.INFO.LEDGER", within_s=PATIENCE_S)
        assert info is not None
        assert info["state"]["messages"] == 2
    assert not path.exists()
