"""From where a request comes: the peer's address, or what a proxy that is trusted says of it."""

import ipaddress
from collections.abc import Sequence

from aiohttp import web

from service.settings_text import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

REMOTE = web.RequestKey("remote", str)
"""The address that a request comes from, on every request."""

HOPS_MAX = 32
"""Of a header that is longer only the end is looked at."""


class Remotes:
    """Tells where requests come from. `proxies` are the networks of proxies that are trusted."""

    def __init__(self, proxies: Sequence[Network] = ()) -> None:
        self._proxies = tuple(proxies)

    def of(self, request: web.Request) -> str:
        """The rightmost address of X-Forwarded-For that is no trusted proxy's, as everything left
        of it can be made up by whoever has that address; the peer's own where that is none."""
        peer = request.remote or ""
        if not self._proxies or not self._trusts(_parsed(peer)):
            return peer
        found = peer
        hops = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
        for hop in reversed(hops[-HOPS_MAX:]):
            address = _parsed(hop.strip())
            if address is None:
                break  # a proxy that is trusted vouches for what it saw, and this is no address
            found = str(address)
            if not self._trusts(address):
                break
        return found

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._proxies)


def _parsed(text: str) -> Address | None:
    """An address, also with a port: 192.0.2.1:80, [2001:db8::1]:80."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address
