"""The port `WebhookSender` over aiohttp."""

import os
from collections.abc import Mapping
from contextlib import suppress

import aiohttp

from service.webhook_ports import Reply

TIMEOUT_S = 10.0
"""From the first byte of a connection to the last one of the answer."""

ANSWER_BYTES_MAX = 16 * 1024
"""So much of an answer is read; a longer one costs the connection."""

SHOWN_LENGTH_MAX = 200
"""So much of what a receiver says is kept, for people."""


class HttpSender:
    """Requests over connections that are kept for the next one."""

    def __init__(self, user_agent: str, timeout_s: float = TIMEOUT_S) -> None:
        self._headers = {"User-Agent": user_agent}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """As the port says."""
        if self._session is None:
            # No limit: there are only so many webhooks, each with one request at a time. And no
            # cookies: a receiver is no page.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=self._headers,
                timeout=self._timeout,
            )
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                return await _reply(response)
        except TimeoutError:
            return Reply(0, f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reply(0, _shown(_why(error)) or type(error).__name__)

    async def close(self) -> None:
        """As the port says."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _why(error: aiohttp.ClientError | OSError | ValueError) -> str:
    """In words for people, where aiohttp's are about sockets and ssl."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        fault = error.certificate_error
        return f"its certificate is not valid: {getattr(fault, 'verify_message', '') or fault}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the host {error.host} is not known ({error.strerror})"
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno is not None:
        return f"cannot connect to {error.host}:{error.port}: {os.strerror(error.errno)}"
    return str(error)


async def _reply(response: aiohttp.ClientResponse) -> Reply:
    if 200 <= response.status < 300:
        # It was taken, whatever becomes of the rest, which is read for the connection's sake.
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            await _body(response)
        return Reply(response.status)
    text = _shown((await _body(response)).decode(errors="replace"))
    error = f"HTTP {response.status}{': ' if text else ''}{text}"
    asked = response.headers.get("Retry-After", "")
    retry_after_s = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) < 10 else 0
    return Reply(response.status, error, retry_after_s)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The begin of it; the connection is closed where there is more."""
    said = bytearray()
    async for some in response.content.iter_chunked(ANSWER_BYTES_MAX):
        said += some
        if len(said) > ANSWER_BYTES_MAX:
            response.close()
            break
    return bytes(said)


def _shown(text: str) -> str:
    """On one line, without what would act on a terminal, and not long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= SHOWN_LENGTH_MAX else f"{line[:SHOWN_LENGTH_MAX]}…"
