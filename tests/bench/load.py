"""The load: clients with a kept-alive connection each, one request in flight on each.

In a process of its own, and with no HTTP library: with one, the load would cost more than what
it is put on, and both share few cores. Prints a `Load` as JSON.
"""

import argparse
import asyncio
import re
import sys
from functools import partial
from time import perf_counter
from typing import cast

import msgspec
import uvloop

WARM_UP_S = 0.3
ANSWER_TIMEOUT_S = 30.0

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Load(msgspec.Struct, frozen=True):
    """What came of it. Latencies are in milliseconds."""

    accepted: int
    """In all: also while it warmed up, and after the time was over."""
    per_second: float
    p50_ms: float
    p99_ms: float


def summed_up(accepted: int, latencies_s: list[float], seconds: float) -> Load:
    """The figures of a run that was timed for so long."""
    ranked = sorted(latencies_s)
    return Load(
        accepted=accepted,
        per_second=len(ranked) / seconds,
        p50_ms=1_000 * ranked[len(ranked) // 2],
        p99_ms=1_000 * ranked[len(ranked) * 99 // 100],
    )


class _Run:
    """What the clients of a run share."""

    def __init__(self, seconds: float) -> None:
        self.begins_at = perf_counter() + WARM_UP_S
        self.ends_at = self.begins_at + seconds
        self.accepted = 0
        self.latencies_s: list[float] = []
        self.failure = ""


class _Client(asyncio.Protocol):
    """Sends the next request when the answer to the one before is there."""

    def __init__(self, run: _Run, requests: list[bytes]) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._run = run
        self._requests = requests
        self._next = 0
        self._answer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or length is None or len(body) < int(length[1]):
            return
        now = perf_counter()
        run = self._run
        if not self._answer.startswith(b"HTTP/1.1 202"):
            run.failure = self._answer.decode(errors="replace")
        else:
            run.accepted += 1
            if run.begins_at <= self._sent_at and now <= run.ends_at:
                run.latencies_s.append(now - self._sent_at)
        self._answer = b""
        if now >= run.ends_at or run.failure:
            self._end()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self._run.failure = self._run.failure or f"the connection was lost: {error}"
            self.ended.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._sent_at = perf_counter()
        self._transport.write(request)

    def _end(self) -> None:
        self.ended.set_result(None)
        assert self._transport is not None
        self._transport.close()


async def _load(port: int, clients: int, seconds: float, requests: list[bytes]) -> _Run:
    loop = asyncio.get_running_loop()
    run = _Run(seconds)
    ends = []
    for number in range(clients):
        make = partial(_Client, run, requests[number::clients])
        _, client = await loop.create_connection(make, "127.0.0.1", port)
        ends.append(client.ended)
    async with asyncio.timeout(WARM_UP_S + seconds + ANSWER_TIMEOUT_S):
        await asyncio.gather(*ends)
    return run


def execute_request(name: str) -> bytes:
    """`execute` of something that ends at once, answered when it is recorded."""
    body = b'{"cmd":["true"]}'
    head = (
        f"POST /api/v1/replicaSet/{name}/execute HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\nPrefer: respond-async\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main() -> None:
    """Put the load on, and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--names", required=True)
    given = parser.parse_args()
    requests = [execute_request(name) for name in given.names.split(",")]
    run = uvloop.run(_load(given.port, given.clients, given.seconds, requests))
    if run.failure:
        sys.exit(run.failure)
    load = summed_up(run.accepted, run.latencies_s, given.seconds)
    sys.stdout.buffer.write(msgspec.json.encode(load))


if __name__ == "__main__":
    main()
