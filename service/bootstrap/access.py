"""Who may reach the service: its tokens, its certificate, and what it refuses to start as."""

import asyncio
import secrets
from ssl import SSLContext

from msgspec import Struct

from service.access_ports import Role, Token
from service.adapters.system import SystemClock
from service.adapters.tls_files import TlsFiles
from service.adapters.token_file import LiveTokens, TokenFile, digest_of
from service.bootstrap.ledger import make_data_dir
from service.errors import SettingsError, TokenFileError
from service.ports import Clock
from service.settings import Settings
from service.settings_text import is_loopback
from service.web.access import Access
from service.web.cors import Cors
from service.web.limits import CallerLimits

PREFIX = "gpuledger_"
"""So that a token which lies about is known for what it is, by people and by secret scanners."""

RANDOM_BYTES = 32

DAY_US = 24 * 3600 * 1_000_000

RESERVED = frozenset(
    {
        *("anonymous", "executor", "gpu-access", "observer", "orphans", "retention", "retries"),
        *("service", "watcher", "webhooks"),
    }
)
"""What records name the service's own parts, and those who have no token."""


class Door(Struct, frozen=True):
    """Through what callers come in."""

    access: Access
    tls: TlsFiles | None
    detail: str
    """One line for people."""

    @property
    def context(self) -> SSLContext | None:
        """For the listener; None is plain http."""
        return self.tls.context if self.tls is not None else None

    @property
    def scheme(self) -> str:
        """As URLs of it begin."""
        return "https" if self.tls is not None else "http"


async def open_door(settings: Settings, clock: Clock) -> Door:
    """Raises SettingsError and TokenFileError where it would be open to whom it must not be."""
    make_data_dir(settings.data_dir)
    file = TokenFile(settings.data_dir)
    tokens = await asyncio.to_thread(LiveTokens, file, clock)
    given = settings.access
    _refuse_exposure(settings, tokens=await tokens.any())
    tls = await asyncio.to_thread(TlsFiles, *given.tls) if given.tls is not None else None
    local = is_loopback(settings.host)
    access = Access(
        tokens,
        CallerLimits(given.rate_limit, given.waiting_limit, clock.monotonic_s),
        Cors(given.cors_origins),
        may_be_open=local or given.insecure,
        local=local,
        proxies=given.trusted_proxies,
    )
    return Door(access, tls, await _detail(settings, tokens))


def _refuse_exposure(settings: Settings, *, tokens: bool) -> None:
    if is_loopback(settings.host) or settings.access.insecure:
        return
    begin = f"--addr {settings.addr} can be reached from other hosts, and"
    if not tokens:
        raise SettingsError(
            f"{begin} there is no token, so whoever reaches it would be root here: make one with"
            " gpuledger token create, or listen on 127.0.0.1, or allow it with --insecure"
        )
    if settings.access.tls is None:
        raise SettingsError(
            f"{begin} without TLS tokens can be read on their way: give --tls-cert and --tls-key,"
            " or listen on 127.0.0.1 (behind a proxy that does TLS), or allow it with --insecure"
        )


async def _detail(settings: Settings, tokens: LiveTokens) -> str:
    if await tokens.any():
        plain = "" if settings.access.tls or is_loopback(settings.host) else "; INSECURE: no TLS"
        return f"with a token{plain}"
    if is_loopback(settings.host):
        return "NO TOKEN is asked for: everybody on this host may do all (gpuledger token create)"
    return "INSECURE: no token is asked for, and whoever reaches this address is root here"


def create_token(
    settings: Settings, name: str, role: Role, tenant: str, days: float | None
) -> tuple[str, Token]:
    """A new token, shown this once, and what is kept of it. Raises TokenFileError."""
    if name in RESERVED:
        raise TokenFileError(f"a token cannot be named {name}: records name the service so")
    text = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    now_us = SystemClock().now_us()
    token = Token(
        name=name,
        role=role,
        tenant=tenant,
        sha256=digest_of(text),
        created_us=now_us,
        expires_us=None if days is None else now_us + round(days * DAY_US),
    )
    make_data_dir(settings.data_dir)
    TokenFile(settings.data_dir).add(token)
    return text, token


def list_tokens(settings: Settings) -> tuple[Token, ...]:
    """All tokens, in the order in which they were made. Raises TokenFileError."""
    return TokenFile(settings.data_dir).tokens()


def revoke_token(settings: Settings, name: str) -> bool:
    """Forget a token; False when there is none of that name. Raises TokenFileError."""
    return TokenFile(settings.data_dir).remove(name)
