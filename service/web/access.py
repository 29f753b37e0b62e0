"""Who is let in, and to what: asked once for every request, before anything else is.

While no token exists, whoever is on this host is let in (or, with `--insecure`, whoever reaches
it): then a browser must not be the bridge for somebody else's page, so what a page can have sent
is looked at. As soon as there is a token, one is asked for.
"""

import ipaddress
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

from service.access_ports import Grant, Role, Tokens
from service.settings_text import Network, is_loopback
from service.web.cors import Cors
from service.web.limits import CallerLimits
from service.web.problems import Code, Problem
from service.web.remote import REMOTE, Remotes

GRANT = web.RequestKey("grant", Grant)
"""Who sent the request, on every request that is served but those to open routes."""

CALLER = web.RequestKey("caller", str)
"""For whom such a request counts: a token, or an address."""

ANYBODY = Grant("anonymous", "", "admin")
"""What a caller is granted while no token is asked for: who is on this host may do all of it."""

_HOW = (
    "send it as 'Authorization: Bearer TOKEN' (the command line: --token, GPULEDGER_TOKEN or"
    " ~/.config/gpuledger/token); gpuledger token create makes one, on the service's host"
)
_BEARER = re.compile(r"[Bb]earer +([!-~]{1,512}) *")
_WAIT_S = 1
"""For whom too many requests wait: how long until it makes sense to come again is not known."""
_REMEMBERED = 256
"""So many names and addresses are not looked into again: most requests come from a few."""

_IPV6_PREFIX = 64
"""One customer has at least that many addresses: they count as one caller."""

_log = logging.getLogger(__name__)


class NotAdmitted(Exception):
    """The request is not let in."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.headers = headers


class Access:
    """The door. `may_be_open`: without tokens everybody is let in, not nobody. `local`: it
    listens on a loopback address, so every honest caller calls it by a name of that."""

    def __init__(
        self,
        tokens: Tokens,
        limits: CallerLimits,
        cors: Cors,
        *,
        may_be_open: bool,
        local: bool,
        proxies: Sequence[Network] = (),
    ) -> None:
        """`proxies` are the networks of proxies whose X-Forwarded-For is believed."""
        self.cors = cors
        self.remotes = Remotes(proxies)
        self._tokens = tokens
        self._limits = limits
        self._may_be_open = may_be_open
        self._local = local

    async def admit(self, request: web.Request, needed: Role) -> str:
        """Let a request in, and note on it who sent it; for whom it counts.

        Raises NotAdmitted.
        """
        # Whoever has no token counts by address: trying to find one costs what calling does.
        grant, caller = await self._granted(request), _counted_as(request[REMOTE])
        if grant is not None:
            caller = f"token {grant.actor}"
        elif self._may_be_open and not await self._tokens.any():
            self._check_site(request)
            grant = ANYBODY
        if grant is not None:
            request[GRANT] = grant  # also of who is refused below: the audit names him
        if wait_s := self._limits.take(caller):
            raise NotAdmitted(_too_many("sends too many requests", math.ceil(wait_s)))
        if grant is None:
            raise _unknown(request)
        if not grant.covers(needed):
            raise NotAdmitted(_too_small(grant, needed))
        return caller

    async def still_admits(self, request: web.Request) -> bool:
        """Is who sent a request that was let in still who he was? For answers that go on."""
        grant = await self._granted(request)
        if grant is None and self._may_be_open and not await self._tokens.any():
            grant = ANYBODY
        return grant == request[GRANT]

    @contextmanager
    def counted(self, caller: str) -> Iterator[None]:
        """Around the serving of a request that was let in. Raises NotAdmitted."""
        with self._limits.waiting(caller) as let_in:
            if not let_in:
                raise NotAdmitted(_too_many("has too many requests waiting", _WAIT_S))
            yield

    async def _granted(self, request: web.Request) -> Grant | None:
        bearer = _BEARER.fullmatch(request.headers.get("Authorization", ""))
        return None if bearer is None else await self._tokens.find(bearer[1])

    def _check_site(self, request: web.Request) -> None:
        """Refuse what a page of another site may have sent by the browser of someone on this
        host. Its address in DNS can be changed to ours, so the name that was asked for counts."""
        host = request.headers.get("Host", "")
        if self._local and not _is_local_name(host):
            raise _other_site(
                f"the host is {host[:128]!r}: while no token is asked for, only localhost and"
                " loopback addresses are answered; call it by one of these, or make a token"
            )
        origin = request.headers.get("Origin")
        if origin is None or self.cors.lists(request) or _site_of(origin) == host:
            return
        raise _other_site(
            f"this comes from a page of {origin[:128]!r}: while no token is asked for, only"
            " origins in --cors-origin may call it; list it there, or make a token"
        )


def _unknown(request: web.Request) -> NotAdmitted:
    """Logged, for those who watch for it; never with what was presented."""
    given = "Authorization" in request.headers
    _log.info("%s %s from %s: no valid token", request.method, request.path, request[REMOTE])
    text = "the token is wrong, revoked or expired" if given else "a token is needed"
    problem = Problem(Code.TOKEN_NEEDED, HTTPStatus.UNAUTHORIZED, f"{text}: {_HOW}", "token_needed")
    return NotAdmitted(problem, {"WWW-Authenticate": 'Bearer realm="gpuledger"'})


def _too_small(grant: Grant, needed: Role) -> Problem:
    text = (
        f"{grant.actor} is {grant.role}, and this needs the role {needed}: use another token;"
        f" gpuledger token create --role {needed} makes one, on the service's host"
    )
    return Problem(Code.ROLE_TOO_SMALL, HTTPStatus.FORBIDDEN, text, "role_too_small")


def _too_many(what: str, retry_after_s: int) -> Problem:
    return Problem(
        Code.TOO_MANY_REQUESTS,
        HTTPStatus.TOO_MANY_REQUESTS,
        f"this caller {what}; send it again in {retry_after_s} s",
        "too_many_requests",
        retry_after_s=retry_after_s,
    )


def _other_site(text: str) -> NotAdmitted:
    return NotAdmitted(Problem(Code.OTHER_SITE, HTTPStatus.FORBIDDEN, text, "other_site"))


def _site_of(origin: str) -> str | None:
    """The host and port of an origin; None of what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:  # brackets without an address in them
        return None


@lru_cache(_REMEMBERED)
def _is_local_name(host: str) -> bool:
    """Does a Host header name this host itself, with any port?"""
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
    except ValueError:  # brackets without an address in them
        return False
    if parts.netloc != host or "@" in host:
        return False
    # Names below localhost never leave a host (RFC 6761): browsers do not ask DNS for them.
    return is_loopback(name) or name.endswith(".localhost")


@lru_cache(_REMEMBERED)
def _counted_as(remote: str) -> str:
    """For whom an address counts that has no token."""
    try:
        address = ipaddress.ip_address(remote)
    except ValueError:
        return remote
    if address.version == 4:
        return remote
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
