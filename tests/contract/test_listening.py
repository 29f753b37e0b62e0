"""Connections on which nothing is asked: they end by themselves, those that wait do not."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.bootstrap.listening import is_ours, listen
from service.web.app import make_app
from tests.kit.backups import settings
from tests.kit.web_site import RUN, Site

IDLE_S = 0.2
PATIENCE_S = 10.0
RUN_HEAD = b"POST /api/v1/replicaSet HTTP/1.1\r\nHost: localhost\r\n"
HEAD = b"GET /ping HTTP/1.1\r\nHost: localhost\r\n"


async def connected(
    stack: AsyncExitStack, site: Site, data_dir: Path
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    given = replace(settings(data_dir), host="127.0.0.1", port=0)
    address = await listen(stack, given, make_app(site.context), None, IDLE_S)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    stack.callback(writer.close)
    return reader, writer


@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b"", b""), (b"GET /pi", b""), (HEAD, b""), (HEAD + b"\r\n", b"HTTP/1.1 200 OK")],
)
async def test_one_on_which_nothing_more_is_asked_is_closed(
    tmp_path: Path, sent: bytes, answered: bytes
) -> None:
    async with AsyncExitStack() as stack:
        reader, writer = await connected(stack, Site(), tmp_path)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE_S):
            said = await reader.read()
    assert said.startswith(answered)
    assert bool(said) == bool(answered)


@pytest.fixture
def filtered() -> Iterator[None]:
    """The log of the server as the service has it."""
    logger = logging.getLogger("aiohttp.server")
    logger.addFilter(is_ours)
    yield
    logger.removeFilter(is_ours)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"no HTTP at all\r\n\r\n", 400),
        (RUN_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (RUN_HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone", 401),
    ],
)
async def test_nobody_fills_the_log_with_what_is_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, filtered: None, sent: bytes, status: int
) -> None:
    site = Site()
    site.grant("viewer")
    async with AsyncExitStack() as stack:
        reader, writer = await connected(stack, site, tmp_path)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE_S):
            said = await reader.read()
    assert said.split()[1] == b"%d" % status
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_whoever_waits_for_an_outcome_is_not_idle(tmp_path: Path) -> None:
    site = Site()
    site.intake.held = True
    async with AsyncExitStack() as stack:
        reader, writer = await connected(stack, site, tmp_path)
        body = str(RUN).replace("'", '"').encode()
        writer.write(RUN_HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        async with asyncio.timeout(PATIENCE_S):
            await site.intake.waiting.wait()
            await asyncio.sleep(3 * IDLE_S)  # so long another one would be closed by then
            site.intake.finish("op-1")
            said = await reader.readuntil(b"\r\n")
    assert said == b"HTTP/1.1 200 OK\r\n"
