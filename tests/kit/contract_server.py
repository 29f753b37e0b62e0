"""The REST contract, served from memory: what a client of the API is tested against.

A full little server with state of its own: it lends GPUs and ports, keeps every version, and
refuses what the contract refuses. It runs in a thread with a loop of its own on a free port.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.kit.contract_routes import Routes
from tests.kit.contract_world import BODY, ENVELOPE, Refused, World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ContractServer:
    """The server, as a context manager. `world` may be looked at and changed at any time."""

    def __init__(self) -> None:
        self.world = World()
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="contract-server")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60), "the server did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        app = web.Application(middlewares=[self._envelope])
        app.add_routes(Routes(self.world).table())
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _envelope(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The envelope around every answer; the idempotency key; a reply lost now and then."""
        body = await request.json() if request.can_read_body else None
        self.world.requests.append((request.method, request.path, body))
        self.world.queries.append(dict(request.query))
        self.world.authorizations.append(request.headers.get("Authorization", ""))
        if self.world.slow_downs:
            self.world.slow_downs -= 1
            answer = {"code": 1113, "msg": "send it again", "data": None}
            return web.json_response(answer, status=429, headers={"Retry-After": "0"})
        if self.world.foreign:
            return web.Response(text="It works!")
        key = request.headers.get("Idempotency-Key", "")
        if key in self.world.keys:
            status, answer = self.world.keys[key]
        else:
            request[BODY] = body or {}
            status, answer = await _answered(request, handler)
            if key:
                self.world.keys[key] = status, answer
        if self.world.replies_to_lose and request.transport is not None:
            self.world.replies_to_lose -= 1
            request.transport.abort()
        return web.json_response(answer, status=status)


async def _answered(request: web.Request, handler: Handler) -> tuple[int, Any]:
    try:
        response = await handler(request)
    except Refused as no:
        return no.status, {"code": no.code, "msg": no.message, "data": {"reason": "refused"}}
    except web.HTTPException as no:
        return no.status, {"code": 1107, "msg": "no such route", "data": None}
    return response.status, response[ENVELOPE]
