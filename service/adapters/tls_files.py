"""A server's certificate and key, read from files, and read again when these change."""

import asyncio
import logging
import ssl
from pathlib import Path

from service.errors import SettingsError
from service.ports import Clock

LOOK_EVERY_S = 10.0
"""A renewed certificate is served within this time."""

log = logging.getLogger(__name__)


class TlsFiles:
    """The TLS context of a server. What it serves follows the files (`follow`)."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Reads both, so it blocks. Raises SettingsError that names the file."""
        self._cert = cert
        self._key = key
        self._marks = self._look()
        self.context = self._loaded()

    async def follow(self, clock: Clock) -> None:
        """Look for ever whether the files changed."""
        while True:
            await clock.sleep(LOOK_EVERY_S)
            await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Serve new connections with what is in the files now, if that is in order."""
        try:
            marks = self._look()
            if marks == self._marks:
                return
            self._marks = marks
            # Tried apart first: a pair that does not fit would leave the live context without key.
            self._loaded()
            self._load_into(self.context)
        except SettingsError as error:
            log.error("%s; the certificate of before is still served", error)
        else:
            log.info("%s is served from now on", self._cert)

    def _look(self) -> tuple[tuple[int, int, int], ...]:
        """What changes whenever a file does."""
        return tuple(self._mark(path) for path in (self._cert, self._key))

    def _mark(self, path: Path) -> tuple[int, int, int]:
        try:
            with path.open("rb"):
                found = path.stat()
        except OSError as error:
            flag = "--tls-cert" if path == self._cert else "--tls-key"
            raise SettingsError(f"{flag}: {path} cannot be read ({error.strerror})") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _loaded(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load_into(context)
        return context

    def _load_into(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self._cert, self._key, _no_password)
        except (ssl.SSLError, OSError) as error:
            raise SettingsError(
                f"--tls-cert {self._cert} and --tls-key {self._key} are no certificate with its key"
                f" in PEM ({error.strerror or error})"
            ) from error


def _no_password() -> str:
    """Without this OpenSSL asks the terminal for it, and the start hangs."""
    return ""
