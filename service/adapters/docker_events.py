"""What happens to our containers, read from Docker's stream of events.

With aiohttp, and not with docker-py as all else: a stream that may be silent for days would hold
a thread all that time, and a thread that waits for an answer cannot be called off. Here closing
is at once, whatever Docker does.

What the stream does not promise (engines 20.10 to 29), and what is done about it:

- Docker sends its headers *before* it begins to listen for us, so what happens between the two
  would be lost. Asked with `since`, an instant of Docker's own clock, it gives that out of its
  memory of the last 256 events.
- It drops events that are not taken from it: 1,024 wait, the next one for 100 ms. So a task
  takes them at once, and what our caller has not taken yet is kept once per container.
- When the daemon goes, the stream just ends, and when it hangs, nothing comes. So silence is
  not believed for long: a ping has to be answered.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp
import msgspec
import requests
from docker.utils import parse_host
from msgspec import Struct
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from events.labels import LABEL_OWNER
from service.adapters.docker_errors import reason_of
from service.errors import EngineRefused, EngineUnavailable
from service.ports import LISTENING

SILENCE_S = 4.0
"""So long nothing may come before Docker is asked whether it is still there."""
PING_TIMEOUT_S = 4.0
OPENING_TIMEOUT_S = 8.0

ACTIONS = ("start", "die", "stop", "kill", "oom", "pause", "unpause", "rename", "destroy")

_UNIX = "http+unix://"
_ROUNDING = timedelta(microseconds=1)
"""So much later than it was Docker's instant may be read: it has nanoseconds."""

FOREIGN_ERRORS = (aiohttp.ClientError, msgspec.DecodeError, OSError)
"""What reading the stream lets through; a time limit that is over is an OSError too."""


class _Attributes(Struct):
    name: str
    old_name: str = msgspec.field(name="oldName", default="")
    """With a slash before it. Only a rename has one; a label may look like it."""


class _Actor(Struct, rename="pascal"):
    attributes: _Attributes


class _Event(Struct, rename="pascal"):
    """A line of GET /events, as far as we need it."""

    action: str
    actor: _Actor


class _Version(Struct, rename="pascal"):
    api_version: str


class _Info(Struct, rename="pascal"):
    system_time: datetime


class _Denial(Struct):
    message: str


class EngineEvents:
    """`changes` of the port `ContainerEngine`, on a Docker engine at `base_url`.

    `base_url` as docker-py takes it: a unix socket, tcp, http or https. `owner` is what the owner
    label of our containers says. After `silence_s` without an event it has to answer a ping.
    """

    def __init__(self, base_url: str | None, *, owner: str, silence_s: float = SILENCE_S) -> None:
        self._url = str(parse_host(base_url))
        self._owner = owner
        self._silence_s = silence_s
        self._readers: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """End all that is read; who waits for a change gets EngineUnavailable."""
        for reader in self._readers:
            reader.cancel()

    async def changes(self) -> AsyncGenerator[str, None]:
        """As the port says. EngineRefused when Docker, or a proxy of it, denies its events."""
        heard = _Heard()
        reader = asyncio.create_task(self._read(heard))
        self._readers.add(reader)
        reader.add_done_callback(lambda _: heard.some.set())
        try:
            while not reader.done():
                await heard.some.wait()
                while (name := heard.take()) is not None:
                    yield name
            if reader.cancelled():
                raise EngineUnavailable("the connection to Docker was closed")
            reader.result()
        finally:
            self._readers.discard(reader)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self, heard: "_Heard") -> None:
        """Hear all that comes. Raises EngineUnavailable at the end of it."""
        try:
            async with await self._session() as session:
                async with asyncio.timeout(OPENING_TIMEOUT_S):
                    response = await self._open(session)
                async with response:
                    heard.add(LISTENING)
                    await _hear(session, response, heard, self._silence_s)
        except FOREIGN_ERRORS as error:
            why = str(error) or "no answer in time"
            raise EngineUnavailable(f"Docker tells no events, is it running? ({why})") from error

    async def _session(self) -> aiohttp.ClientSession:
        """For requests to the engine's address; an answer may take for ever."""
        forever = aiohttp.ClientTimeout(total=None)
        if self._url.startswith(_UNIX):
            unix = aiohttp.UnixConnector(path=self._url.removeprefix(_UNIX))
            return aiohttp.ClientSession("http://docker/", connector=unix, timeout=forever)
        encrypted = self._url.startswith("https://")
        trusted = await asyncio.to_thread(_authorities, self._url) if encrypted else True
        tcp = aiohttp.TCPConnector(ssl=trusted)
        base = f"{self._url.rstrip('/')}/"
        return aiohttp.ClientSession(base, connector=tcp, timeout=forever, trust_env=True)

    async def _open(self, session: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        """The stream of events from now on, by Docker's clock; none is missing."""
        version = msgspec.json.decode(await _get(session, "version"), type=_Version).api_version
        info = msgspec.json.decode(await _get(session, f"v{version}/info"), type=_Info)
        now = info.system_time - _ROUNDING
        filters = {
            "type": ["container"],
            "event": list(ACTIONS),
            "label": [f"{LABEL_OWNER}={self._owner}"],
        }
        response = await session.get(
            f"v{version}/events",
            params={
                "since": f"{int(now.timestamp())}.{now.microsecond:06d}",
                "filters": json.dumps(filters),
            },
            # Of one event a line; engines from 27 on know other forms.
            headers={"Accept": "application/json"},
        )
        await _require_success(response)
        return response


class _Heard:
    """Names that came and were not taken yet, in the order in which they came."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.some = asyncio.Event()

    def add(self, name: str) -> None:
        self.names[name] = None
        self.some.set()

    def take(self) -> str | None:
        """The one that has waited longest; None when there is none, and `some` begins anew."""
        for name in self.names:
            del self.names[name]
            return name
        self.some.clear()
        return None


async def _hear(
    session: aiohttp.ClientSession,
    response: aiohttp.ClientResponse,
    heard: _Heard,
    silence_s: float,
) -> None:
    """Hear events until the stream ends. Raises EngineUnavailable then, or foreign errors."""
    rest = b""
    while True:
        try:
            # Not readline: a limit would lose the half of a line that is there already.
            async with asyncio.timeout(silence_s):
                piece = await response.content.readany()
        except TimeoutError:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await _get(session, "_ping")
            continue
        if not piece:
            raise EngineUnavailable("Docker ended its stream of events; is it stopping?")
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            for name in _names(line):
                heard.add(name)


def _names(line: bytes) -> tuple[str, ...]:
    """Of the container that an event is about; the old one, too, when it was renamed."""
    event = msgspec.json.decode(line, type=_Event)
    attributes = event.actor.attributes
    if event.action == "rename":
        return attributes.old_name.lstrip("/"), attributes.name
    return (attributes.name,)


async def _get(session: aiohttp.ClientSession, path: str) -> bytes:
    async with session.get(path) as response:
        await _require_success(response)
        return await response.read()


async def _require_success(response: aiohttp.ClientResponse) -> None:
    """Raise EngineRefused, or EngineUnavailable when it is the engine that is in trouble."""
    if response.ok:
        return
    body = await response.read()
    try:
        words = msgspec.json.decode(body, type=_Denial).message
    except msgspec.DecodeError:
        words = body.decode(errors="replace").strip()  # of a proxy in between
    if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise EngineUnavailable(f"Docker tells no events: {response.status} {words}")
    raise EngineRefused(words, reason_of(words, response.status))


def _authorities(url: str) -> ssl.SSLContext:
    """The certificate authorities that docker-py's requests would trust. Reads files."""
    with requests.Session() as session:
        found = session.merge_environment_settings(url, {}, stream=None, verify=None, cert=None)
    verify = found["verify"]
    bundle = DEFAULT_CA_BUNDLE_PATH if verify is True else str(verify)
    if Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
