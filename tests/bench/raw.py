"""Appends to JetStream and nothing else: what the service is held against.

The same server with the same configuration (synced before every acknowledgement), the same
stream, a record of the same size, and the same headers: an id, and the sequence that must be the
last one. Its client is the leanest that we have. Prints a `Load` as JSON.
"""

import argparse
import asyncio
import sys
from pathlib import Path
from time import perf_counter

import msgspec
import uvloop
from nats.aio.msg import Msg

from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import NatsConnection
from service.adapters.jetstream_reader import MESSAGE_ID
from service.adapters.nats_child import NatsChild
from tests.bench.load import WARM_UP_S, Load, summed_up

SUBJECT = "ledger.bench.replica_set.set123.execute"
EXPECTED_SEQ = "Nats-Expected-Last-Sequence"


class _Appender:
    """Keeps so many appends in flight, each with the sequence that it will get."""

    def __init__(self, connection: NatsConnection, last_seq: int, body: bytes) -> None:
        self._connection = connection
        self._last_seq = last_seq
        self._body = body
        self._latencies_s: list[float] = []
        self._accepted = 0

    async def run(self, in_flight: int, seconds: float) -> Load:
        """Append for so long; the figures."""
        self._begins_at = perf_counter() + WARM_UP_S
        self._ends_at = self._begins_at + seconds
        await asyncio.gather(*(self._append_in_turn() for _ in range(in_flight)))
        return summed_up(self._accepted, self._latencies_s, seconds)

    async def _append_in_turn(self) -> None:
        while True:
            expected = self._last_seq
            self._last_seq += 1
            # As long as an operation's id is.
            headers = {MESSAGE_ID: f"{expected:036}", EXPECTED_SEQ: str(expected)}
            sent_at = perf_counter()
            reply = await (await self._connection.send(SUBJECT, self._body, headers))
            now = perf_counter()
            _check(reply, expected + 1)
            self._accepted += 1
            if self._begins_at <= sent_at and now <= self._ends_at:
                self._latencies_s.append(now - sent_at)
            if now >= self._ends_at:
                return


def _check(reply: Msg | None, seq: int) -> None:
    answer = msgspec.json.decode(reply.data) if reply is not None else {}
    if answer.get("seq") != seq:
        raise RuntimeError(f"expected {seq} to be acknowledged: {answer}")


async def _append(data_dir: Path, in_flight: int, seconds: float, size_bytes: int) -> Load:
    async with NatsChild(data_dir) as child:
        async with JetStreamLedger(child.service, child.admin) as ledger:
            last_seq = await ledger.last_seq()
        async with NatsConnection.open(child.service) as connection:
            return await _Appender(connection, last_seq, b"x" * size_bytes).run(in_flight, seconds)


def main() -> None:
    """Append, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    given = parser.parse_args()
    load = uvloop.run(_append(given.data_dir, given.in_flight, given.seconds, given.bytes))
    sys.stdout.buffer.write(msgspec.json.encode(load))


if __name__ == "__main__":
    main()
