"""Readers of events: so many connections, each counting what comes.

In a process of its own, and with no HTTP library. Prints "ready" when all of them listen, and
after the time a `Heard` as JSON.
"""

import argparse
import asyncio
import re
import sys
from time import time
from typing import cast

import msgspec
import uvloop

READY = "ready"
_BEGUN = b"retry: "
_EVENT = b"\nevent: "
_ISSUED = re.compile(rb'"timeus":(\d+),')
"""When its command was issued, by the same clock. What is cut in two by a read is not counted."""


class Heard(msgspec.Struct, frozen=True):
    """What came. The delays, in milliseconds, are from the issue of a command to its arrival."""

    delivered: int
    p50_ms: float
    p99_ms: float


class _Reader(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.begun = asyncio.get_running_loop().create_future()
        self.delivered = 0
        self.delays_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        cast(asyncio.Transport, transport).write(
            b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        now = time()
        if not self.begun.done() and _BEGUN in data:
            self.begun.set_result(None)
        self.delivered += data.count(_EVENT)
        self.delays_s += [now - int(issued) / 1e6 for issued in _ISSUED.findall(data)]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_exception(ConnectionError(f"refused: {error}"))


async def _listen(port: int, readers: int, seconds: float) -> Heard:
    loop = asyncio.get_running_loop()
    listening = []
    for _ in range(readers):
        transport, reader = await loop.create_connection(_Reader, "127.0.0.1", port)
        listening.append((transport, reader))
    await asyncio.gather(*(reader.begun for _, reader in listening))
    print(READY, flush=True)
    await asyncio.sleep(seconds)
    for transport, _ in listening:
        transport.close()
    delays = sorted(delay for _, reader in listening for delay in reader.delays_s)
    return Heard(
        delivered=sum(reader.delivered for _, reader in listening),
        p50_ms=1_000 * delays[len(delays) // 2],
        p99_ms=1_000 * delays[len(delays) * 99 // 100],
    )


def main() -> None:
    """Listen, and print what came."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--readers", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    heard = uvloop.run(_listen(given.port, given.readers, given.seconds))
    sys.stdout.write(msgspec.json.encode(heard).decode())


if __name__ == "__main__":
    main()
