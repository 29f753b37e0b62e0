"""The listener: HTTP, or HTTPS, on the address of the settings."""

import logging
import resource
import ssl
from contextlib import AsyncExitStack

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service.bootstrap.stopping import ANSWERS_S
from service.errors import SettingsError
from service.settings import Settings

REQUEST_LINE_BYTES_MAX = 64 * 1024
IDLE_S = 75.0
"""A connection on which no request begins, or comes to the end of its headers, is closed then:
who has no token must not have every socket for as long as he likes."""

SOCKETS_MAX = 16_384
"""Files that may be open at once: readers of events alone can be 2,000. Shells allow 1,024."""


def is_ours(record: logging.LogRecord) -> bool:
    """Not a request that is no HTTP, nor a body that is not what its headers say: aiohttp logs
    them as errors of the server, also when they were answered.

    Anybody could fill the log with those.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


async def listen(
    stack: AsyncExitStack,
    settings: Settings,
    app: web.Application,
    tls: ssl.SSLContext | None,
    idle_s: float = IDLE_S,
) -> str:
    """Begin to answer; the address, with the port that the system chose if it was to choose."""
    _allow_sockets()
    runner = web.AppRunner(
        # A handler whose caller has gone away ends its waiting; the operation goes on.
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        keepalive_timeout=idle_s,
        shutdown_timeout=ANSWERS_S,
        # So that a name which is far too long reaches us, and gets its code.
        max_line_size=REQUEST_LINE_BYTES_MAX,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, settings.host, settings.port, ssl_context=tls)
    try:
        await site.start()
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.addr} ({error.strerror}); choose another --addr"
        ) from error
    port = runner.addresses[0][1]
    return settings.addr if settings.port else f"{settings.addr.rpartition(':')[0]}:{port}"


def _allow_sockets() -> None:
    """As many as this process may allow itself, up to SOCKETS_MAX."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SOCKETS_MAX if hard == resource.RLIM_INFINITY else min(SOCKETS_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
