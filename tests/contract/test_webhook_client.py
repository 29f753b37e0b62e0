"""Requests to receivers on real sockets, and what comes of each; beside them the double."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from service.adapters.webhook_client import ANSWER_BYTES_MAX, SHOWN_LENGTH_MAX, HttpSender
from service.webhook_ports import Reply
from tests.kit.certificates import self_signed
from tests.kit.command_line import nobody
from tests.kit.webhook_rig import MemoryReceivers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def receiver(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on loopback; its address."""
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def sender(timeout_s: float = 5) -> AsyncIterator[HttpSender]:
    made = HttpSender("gpuledger/1", timeout_s)
    try:
        yield made
    finally:
        await made.close()


async def test_the_body_and_headers_arrive_as_they_are() -> None:
    got: list[tuple[bytes, dict[str, str]]] = []

    async def handler(request: web.Request) -> web.Response:
        got.append((await request.read(), dict(request.headers)))
        return web.Response(status=202)

    async with receiver(handler) as url, sender() as one:
        reply = await one.post(url, {"Webhook-Id": "1.0"}, b'{"a": "\xc3\xa4"}')
    assert (reply, reply.taken) == (Reply(202), True)
    ((body, headers),) = got
    assert body == b'{"a": "\xc3\xa4"}'
    assert (headers["Webhook-Id"], headers["User-Agent"]) == ("1.0", "gpuledger/1")


@pytest.mark.parametrize("status", [200, 204, 299])
async def test_what_is_taken(status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status)

    async with receiver(handler) as url, sender() as real:
        double = MemoryReceivers()
        double.always[url] = Reply(status)
        for one in (real, double):
            assert await one.post(url, {"Webhook-Id": "1.0"}, b"{}") == Reply(status)


@pytest.mark.parametrize("status", [301, 307, 400, 410, 500, 503])
async def test_what_is_not(status: int) -> None:
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        headers = {"Location": "/elsewhere", "Retry-After": "30"}
        return web.Response(status=status, text="out\x1b[31m of\nwork", headers=headers)

    async with receiver(handler) as url, sender() as one:
        reply = await one.post(url, {}, b"{}")
    assert reply == Reply(status, f"HTTP {status}: out [31m of work", 30)
    assert (reply.taken, asked) == (False, 1)


async def test_a_long_answer_is_not_read_to_its_end() -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        while True:
            await response.write(b"x" * ANSWER_BYTES_MAX)
            sent += ANSWER_BYTES_MAX

    async with receiver(handler) as url, sender() as one:
        async with asyncio.timeout(60):
            reply = await one.post(url, {}, b"{}")
        assert reply.status == 500
        assert len(reply.error) < SHOWN_LENGTH_MAX + 20
        again = await one.post(url, {}, b"{}")
        assert again.status == 500


async def test_what_is_taken_is_taken_also_when_the_answer_has_no_end() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        await response.write(b"thanks")
        await asyncio.Event().wait()
        raise AssertionError

    async with receiver(handler) as url, sender(2) as one:
        assert await one.post(url, {}, b"{}") == Reply(200)


async def test_one_that_does_not_answer() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with receiver(handler) as url, sender(0.2) as one:
        assert await one.post(url, {}, b"{}") == Reply(0, "no answer within 0.2 s")


async def test_one_that_is_not_there() -> None:
    async with sender() as one:
        reply = await one.post(f"{nobody()}/hook", {}, b"{}")
        assert (reply.status, reply.taken) == (0, False)
        assert reply.error.startswith("cannot connect to 127.0.0.1:")
        assert reply.error.endswith(": Connection refused")
        unknown = await one.post("https://receiver.invalid/hook", {}, b"{}")
        assert unknown.status == 0
        assert unknown.error.startswith("the host receiver.invalid is not known (")


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    asked = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response()

    certificate, key = self_signed(tmp_path, "receiver")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with receiver(handler, context) as url, sender() as one:
        reply = await one.post(url, {}, b"{}")
    assert (reply.status, asked) == (0, 0)
    assert reply.error.startswith("its certificate is not valid: ")
    assert "ssl" not in reply.error.lower()
