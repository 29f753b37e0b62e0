"""A docker-py client that is made on first use, and made again after Docker was away.

The service starts before Docker, outlives it, and meets a newer one after an upgrade. So the
constructor never talks, and the API version is asked for again after every failure. Pinning a
version instead would lock us out: Docker 29 refuses clients below API 1.44.
"""

import socket
import threading
from typing import Any

import docker
from docker.transport import UnixHTTPAdapter
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool
from docker.utils import parse_host

API_VERSION_MIN = "1.41"
"""Docker 20.10; only used to ask which version the engine speaks."""

NEGOTIATION_TIMEOUT_S = 5.0


class DockerConnection:
    """The one client that all threads share. Thread-safe; its methods block."""

    def __init__(self, base_url: str | None, timeout_s: float, pool_size: int) -> None:
        self._base_url = base_url
        self._timeout_s = timeout_s
        self._pool_size = pool_size
        self._lock = threading.Lock()
        self._client: docker.APIClient | None = None

    @property
    def local(self) -> bool:
        """True when the engine is reached over a unix socket, so shares our file system."""
        return str(parse_host(self._base_url)).startswith("http+unix://")

    def client(self) -> docker.APIClient:
        """The client, connected now if need be. Raises docker-py's own errors."""
        with self._lock:
            if self._client is None:
                self._client = self._negotiate()
            return self._client

    def forget(self) -> None:
        """Start afresh with the next call, as the engine may come back as another version.

        Calls under way in other threads keep the connections they have checked out.
        """
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _negotiate(self) -> docker.APIClient:
        asking = self._open(API_VERSION_MIN, NEGOTIATION_TIMEOUT_S)
        try:
            version = asking.version(api_version=False)["ApiVersion"]
        finally:
            asking.close()
        return self._open(version, self._timeout_s)

    def _open(self, version: str, timeout_s: float) -> docker.APIClient:
        client = docker.APIClient(
            base_url=self._base_url,
            version=version,
            timeout=timeout_s,
            max_pool_size=self._pool_size,
        )
        if self.local:
            adapter = _UnixAdapter(
                parse_host(self._base_url), timeout_s, max_pool_size=self._pool_size
            )
            client.mount("http+docker://", adapter)
        return client


class _UnixConnection(UnixHTTPConnection):  # type: ignore[misc]
    """docker-py's own leaves its socket open when connecting fails (a ResourceWarning)."""

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self.unix_socket)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class _UnixPool(UnixHTTPConnectionPool):  # type: ignore[misc]
    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self.base_url, self.socket_path, self.timeout)


class _UnixAdapter(UnixHTTPAdapter):  # type: ignore[misc]
    def get_connection(self, url: str, proxies: Any = None) -> _UnixPool:
        with self.pools.lock:
            pool: _UnixPool | None = self.pools.get(url)
            if pool is None:
                pool = _UnixPool(url, self.socket_path, self.timeout, maxsize=self.max_pool_size)
                self.pools[url] = pool
            return pool
