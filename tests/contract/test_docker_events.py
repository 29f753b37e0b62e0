"""What only the real adapter of the engine's events can show, on a Docker that follows a script."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from events.labels import LABEL_OWNER
from service.adapters.docker_engine import DockerEngine
from service.adapters.docker_events import OPENING_TIMEOUT_S, EngineEvents
from service.errors import EngineRefused, EngineUnavailable
from service.ports import LISTENING
from tests.kit.engine_rigs import OWNER

SOON_S = 30.0
VERSION = "1.41"
SYSTEM_TIME = "2026-01-02T04:04:05.0123456Z"
SINCE = "1767326645.012345"
SILENCE_S = 0.02

Script = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


class ScriptedDocker:
    """Answers as Docker does; `script` writes the stream of events. `pings` counts."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.pings = 0
        self.pinged = asyncio.Condition()
        self.denied = 0
        """A status in place of the stream."""
        self.app = web.Application()
        self.app.router.add_get("/version", self._version)
        self.app.router.add_get("/_ping", self._ping)
        self.app.router.add_get(f"/v{VERSION}/info", self._info)
        self.app.router.add_get(f"/v{VERSION}/events", self._events)

    async def wait_pings(self, count: int) -> None:
        async with asyncio.timeout(SOON_S), self.pinged:
            await self.pinged.wait_for(lambda: self.pings >= count)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"ApiVersion": VERSION})

    async def _info(self, _: web.Request) -> web.Response:
        return web.json_response({"SystemTime": SYSTEM_TIME})

    async def _ping(self, _: web.Request) -> web.Response:
        async with self.pinged:
            self.pings += 1
            self.pinged.notify_all()
        return web.Response(text="OK")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self.denied:
            return web.json_response({"message": "no events for you"}, status=self.denied)
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        await self._script(request, stream)
        return stream


def event(name: str, action: str = "die", **attributes: str) -> bytes:
    """As Docker writes it, with more than we need."""
    actor = {"ID": "0a1b", "Attributes": {"image": "i", **attributes, "name": name}}
    told = {"status": action, "Type": "container", "Action": action, "Actor": actor}
    return json.dumps({**told, "scope": "local", "time": 1, "timeNano": 1}).encode() + b"\n"


def tells(*lines: bytes) -> Script:
    """A script: these lines, and the end."""

    async def script(_: web.Request, stream: web.StreamResponse) -> None:
        for line in lines:
            await stream.write(line)

    return script


@asynccontextmanager
async def serving(docker: ScriptedDocker, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of it."""
    runner = web.AppRunner(docker.app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, f"{tmp_path}/d.sock").start()
    try:
        yield f"unix://{tmp_path}/d.sock"
    finally:
        await runner.cleanup()


async def told(docker: ScriptedDocker, tmp_path: Path) -> list[str]:
    """All names until the end, which is EngineUnavailable."""
    names: list[str] = []
    async with serving(docker, tmp_path) as url:
        with pytest.raises(EngineUnavailable):
            await asyncio.wait_for(collect(url, names), SOON_S)
    return names


async def collect(url: str, names: list[str]) -> None:
    async for name in EngineEvents(url, owner=OWNER).changes():
        names.append(name)  # noqa: PERF401 - wanted also when it ends by an error


async def test_it_asks_for_what_happened_since_before_it_asked(tmp_path: Path) -> None:
    asked = []

    async def script(request: web.Request, stream: web.StreamResponse) -> None:
        asked.append((request.query["since"], json.loads(request.query["filters"])))

    assert await told(ScriptedDocker(script), tmp_path) == [LISTENING]
    ((since, filters),) = asked
    assert since == SINCE
    assert (filters["type"], filters["label"]) == (["container"], [f"{LABEL_OWNER}={OWNER}"])
    assert "update" not in filters["event"]


async def test_what_came_before_the_end_is_told(tmp_path: Path) -> None:
    lines = tells(event("a"), event("b", "rename", oldName="/old"), event("a", "destroy"))
    names = await told(ScriptedDocker(lines), tmp_path)
    assert names[0] == LISTENING
    assert sorted(set(names[1:])) == ["a", "b", "old"]


async def test_lines_may_be_long_and_come_in_pieces(tmp_path: Path) -> None:
    line = event("a", label="x" * 1_000_000)
    pieces = (line[:10], line[10:200_000], line[200_000:] + event("b")[:5], event("b")[5:])
    assert await told(ScriptedDocker(tells(*pieces)), tmp_path) == [LISTENING, "a", "b"]


@pytest.mark.parametrize("line", [b"nothing of use\n", b'{"Action": "die"}\n'])
async def test_a_line_that_is_none(tmp_path: Path, line: bytes) -> None:
    assert await told(ScriptedDocker(tells(line)), tmp_path) == [LISTENING]


async def test_a_connection_that_is_cut(tmp_path: Path) -> None:
    async def script(request: web.Request, stream: web.StreamResponse) -> None:
        await stream.write(event("a")[:-10])
        assert request.transport is not None
        request.transport.abort()

    assert await told(ScriptedDocker(script), tmp_path) == [LISTENING]


@pytest.mark.parametrize(("status", "error"), [(403, EngineRefused), (503, EngineUnavailable)])
async def test_a_docker_that_denies_its_events(
    tmp_path: Path, status: int, error: type[Exception]
) -> None:
    docker = ScriptedDocker(tells())
    docker.denied = status
    async with serving(docker, tmp_path) as url:
        with pytest.raises(error, match="no events for you"):
            await anext(EngineEvents(url, owner=OWNER).changes())


async def test_silence_is_no_end_while_pings_are_answered(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def script(_: web.Request, stream: web.StreamResponse) -> None:
        await stream.write(event("a")[:20])
        await go_on.wait()
        await stream.write(event("a")[20:])

    docker = ScriptedDocker(script)
    async with serving(docker, tmp_path) as url:
        events = EngineEvents(url, owner=OWNER, silence_s=SILENCE_S)
        async with aclosing(events.changes()) as changes, asyncio.timeout(SOON_S):
            assert await anext(changes) == LISTENING
            await docker.wait_pings(3)
            go_on.set()
            assert await anext(changes) == "a"


async def test_closing_the_engine_ends_it(tmp_path: Path) -> None:
    async def script(_: web.Request, stream: web.StreamResponse) -> None:
        await asyncio.Event().wait()

    async with serving(ScriptedDocker(script), tmp_path) as url:
        engine = DockerEngine(url, owner=OWNER)
        threads = set(threading.enumerate())
        async with aclosing(engine.changes()) as changes, asyncio.timeout(SOON_S):
            assert await anext(changes) == LISTENING
            assert set(threading.enumerate()) <= threads
            await engine.close()
            with pytest.raises(EngineUnavailable):
                await anext(changes)


async def test_an_opening_can_be_called_off(tmp_path: Path) -> None:
    path = f"{tmp_path}/d.sock"
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(path)
        mute.listen()
        mute.setblocking(False)
        opening = asyncio.create_task(first(f"unix://{path}"))
        connection, _ = await asyncio.get_running_loop().sock_accept(mute)
        with connection:
            connection.setblocking(False)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            async with asyncio.timeout(OPENING_TIMEOUT_S / 2):
                while await asyncio.get_running_loop().sock_recv(connection, 1000):
                    pass  # what it had asked; then the end


async def first(url: str) -> str:
    return await anext(EngineEvents(url, owner=OWNER).changes())


async def test_docker_over_tcp(tmp_path: Path) -> None:
    docker = ScriptedDocker(tells(event("a")))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        runner = web.AppRunner(docker.app, shutdown_timeout=0.1)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        url = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        async with aclosing(EngineEvents(url, owner=OWNER).changes()) as changes:
            assert [await anext(changes), await anext(changes)] == [LISTENING, "a"]
        await runner.cleanup()


async def test_docker_need_not_be_there(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable):
        await first(f"unix://{tmp_path}/d.sock")
