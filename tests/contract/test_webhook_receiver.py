"""The receiver in docs/webhooks.md, run as it stands there: it takes what is ours and fresh."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from msgspec.structs import replace

from projections.webhook_book import Webhook
from service.adapters.webhook_client import HttpSender
from service.application.webhook_signing import Signer
from tests.kit.host_ports import free_port
from tests.kit.service_process import eventually

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
NO_OTHER: Mapping[str, str] = {}
BODY = b'{"type":"container.exited.v1"}'


def example() -> str:
    """The only program of the page."""
    (found,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


@contextmanager
def running(secret: str) -> Iterator[tuple[int, IO[str]]]:
    """The port that the program will listen on, and what it prints."""
    port = free_port()
    env = {**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-c", example()],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield port, process.stdout
        finally:
            process.kill()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_it_takes_what_is_ours_and_fresh_and_nothing_else() -> None:
    signer, now_us = Signer(bytes(range(32))), time.time_ns() // 1000
    old_until_us = now_us + 1_000_000_000
    rotated = Webhook(
        *("one", "", "op-2", "", 1, 1, 1, ""), old_secret_id="op-1", old_until_us=old_until_us
    )
    sender = HttpSender("gpuledger/1")
    with running(signer.secret("one", "op-1")) as (port, printed):
        await asyncio.to_thread(eventually, lambda: is_open(port))

        async def status(
            webhook: Webhook, at_us: int, body: bytes = BODY, other: Mapping[str, str] = NO_OTHER
        ) -> int:
            headers = {**signer.headers(webhook, "17.0", at_us, BODY), **other}
            return (await sender.post(f"http://127.0.0.1:{port}/", headers, body)).status

        ours = replace(rotated, secret_id="op-1", old_secret_id="")
        assert await status(ours, now_us) == 204
        assert await status(rotated, now_us) == 204
        assert await status(replace(rotated, old_secret_id=""), now_us) == 401
        assert await status(ours, now_us, BODY + b" ") == 401
        assert await status(ours, now_us, BODY, {"Webhook-Id": "18.0"}) == 401
        assert await status(ours, now_us, BODY, {"Webhook-Timestamp": "x"}) == 401
        for minutes in (-6, 6):
            assert await status(ours, now_us + minutes * 60_000_000) == 401
        assert [printed.readline() for _ in range(2)] == ["17.0 container.exited.v1\n"] * 2
    await sender.close()
