"""The tokens of an installation: a file beside the ledger, changed while the service runs.

Only hashes are in it. Writers lock another file, since the file itself is replaced at every
change, so that a reader sees all of a change or nothing of it.
"""

import asyncio
import fcntl
import hashlib
import hmac
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from service.access_ports import Grant, Token
from service.errors import TokenFileError
from service.ports import Clock

FILE = "tokens.json"

LOOK_EVERY_S = 0.25
"""So long a change may go unseen: a revoked token is of use no longer than that."""

_PRIVATE = 0o600

log = logging.getLogger(__name__)


class _Stored(Struct, frozen=True):
    tokens: tuple[Token, ...]
    version: Literal[1] = 1


Mark = tuple[int, int, int]
"""Of a file's state: its inode, which is another one after every change, mtime and size."""


class TokenFile:
    """The file, read and written as a whole. Blocks; every method raises TokenFileError."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / FILE
        self._lock_path = data_dir / "tokens.lock"

    def tokens(self) -> tuple[Token, ...]:
        """All tokens, in the order in which they were made; none when there is no file."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=_Stored).tokens
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise TokenFileError(f"{self.path} cannot be read ({error.strerror})") from error
        except msgspec.DecodeError as error:
            raise TokenFileError(
                f"{self.path} is damaged ({error}); put it right from a copy, or delete it and"
                " make the tokens anew"
            ) from error

    def mark(self) -> Mark | None:
        """What changes whenever the file does; None when there is none."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TokenFileError(f"{self.path} cannot be read ({error.strerror})") from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def add(self, token: Token) -> None:
        """Keep one more; on disk when this returns. No two have the same name."""
        with self._locked():
            known = self.tokens()
            if any(other.name == token.name for other in known):
                raise TokenFileError(
                    f"there is a token {token.name} already; revoke it first, or take another name"
                )
            self._write((*known, token))

    def remove(self, name: str) -> bool:
        """Keep it no longer; False when there was none of that name."""
        with self._locked():
            known = self.tokens()
            left = tuple(token for token in known if token.name != name)
            if len(left) == len(known):
                return False
            self._write(left)
            return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = self._open(self._lock_path, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise TokenFileError(f"{self.path} cannot be written ({error.strerror})") from error

    def _write(self, tokens: tuple[Token, ...]) -> None:
        body = msgspec.json.format(msgspec.json.encode(_Stored(tokens)))
        fresh = self.path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(self._open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(body + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _open(self, path: Path, flags: int) -> int:
        """For the data directory's owner only, also when it is root who writes for a service
        that runs as somebody else."""
        descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE)
        owner = path.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return descriptor


class LiveTokens:
    """The port `Tokens` on a file: whatever changes in it holds within LOOK_EVERY_S."""

    def __init__(self, file: TokenFile, clock: Clock) -> None:
        """Reads the file, so it blocks this once. Raises TokenFileError."""
        self._file = file
        self._clock = clock
        self._mark = file.mark()
        self._tokens = file.tokens()
        self._looked_at_s = clock.monotonic_s()
        # Of two threads that read, the slower one would bring back what the other saw revoked.
        self._one_at_a_time = threading.Lock()

    async def any(self) -> bool:
        """As the port says."""
        await self._look(LOOK_EVERY_S)
        return bool(self._tokens)

    async def find(self, presented: str) -> Grant | None:
        """As the port says."""
        await self._look(LOOK_EVERY_S)
        found = self._match(presented)
        if found is None:
            # It may have been made a moment ago.
            await self._look(0)
            found = self._match(presented)
        return found

    def _match(self, presented: str) -> Grant | None:
        digest = digest_of(presented)
        now_us = self._clock.now_us()
        # All of them, and no way out on the way: how long it takes must tell nothing.
        same = [t for t in self._tokens if hmac.compare_digest(t.sha256, digest)]
        return next((Grant(t.name, t.tenant, t.role) for t in same if not t.expired(now_us)), None)

    async def _look(self, older_than_s: float) -> None:
        """Read the file again if it changed, unless that was looked at just now."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_at_s < older_than_s:
            return
        self._looked_at_s = now_s
        await asyncio.to_thread(self._reread)

    def _reread(self) -> None:
        with self._one_at_a_time:
            self._take()

    def _take(self) -> None:
        """Whatever is wrong with the file, the tokens known before go on: no door is opened by
        what cannot be read, and nobody is shut out."""
        try:
            mark = self._file.mark()
            if mark == self._mark:
                return
            # First the mark, then the file: what changes in between is seen the next time.
            self._mark = mark
            if mark is None:
                raise TokenFileError(f"{self._file.path} is gone")
            self._tokens = self._file.tokens()
        except TokenFileError as error:
            log.error("%s; the tokens that were known go on", error)
        else:
            log.info("%d tokens are known now", len(self._tokens))


def digest_of(token: str) -> str:
    """The hash that a token is kept as."""
    return hashlib.sha256(token.encode()).hexdigest()
