"""Checkpoints as lines of JSON in a file that only grows: in the data directory and elsewhere."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import BinaryIO

import msgspec

from service.adapters.daemon_thread import in_daemon_thread
from service.audit_ports import Checkpoint
from service.errors import AuditError

CHECKPOINTS_FILE = "audit-checkpoints.jsonl"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Checkpoint).decode

MIRROR_S = 30.0
"""Another host's directory that takes longer is away: it would hang for ever, and with it all
that comes after."""

_TAIL_BYTES = 4096
"""So much of the end is read at first: most lines are shorter, one about many callers is not."""


class CheckpointFiles:
    """The port `CheckpointBook` on the data directory, and perhaps on another."""

    def __init__(
        self, data_dir: Path, elsewhere: Path | None = None, mirror_s: float = MIRROR_S
    ) -> None:
        """`elsewhere` is a file in another directory, which must be there."""
        self._path = data_dir / CHECKPOINTS_FILE
        self._elsewhere = elsewhere
        self._mirror_s = mirror_s
        self._mirrored = False
        self._mirroring: Future[None] | None = None

    async def last(self) -> Checkpoint | None:
        """As the port says."""
        return await asyncio.to_thread(_last, self._path)

    async def following(self, seq: int) -> Checkpoint | None:
        """As the port says."""
        kept = await asyncio.to_thread(read_checkpoints, self._path)
        return min((one for one in kept if one.seq >= seq), key=lambda one: one.seq, default=None)

    async def add(self, checkpoint: Checkpoint) -> None:
        """As the port says."""
        self._mirrored = False
        await asyncio.to_thread(_append, self._path, _encode(checkpoint) + b"\n")

    async def mirror(self) -> None:
        """As the port says."""
        source, target = self._path, self._elsewhere
        if target is None or self._mirrored:
            return
        if self._mirroring is not None and not self._mirroring.done():
            raise AuditError(f"{target} still does not answer: is its file server away?")
        self._mirroring = in_daemon_thread("audit-dir", lambda: _mirror(source, target))
        try:
            async with asyncio.timeout(self._mirror_s):
                await asyncio.wrap_future(self._mirroring)
        except TimeoutError:
            raise AuditError(
                f"{target} does not answer within {self._mirror_s:g} s: is its file server away?"
            ) from None
        self._mirrored = True


def elsewhere_in(folder: Path, node: str) -> Path:
    """The file of an installation in a directory that several may share."""
    return folder / f"audit-checkpoints-{node}.jsonl"


def read_checkpoints(path: Path) -> Sequence[Checkpoint]:
    """All in a file, one or many; none when there is no file. Raises AuditError."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise AuditError(f"{path} cannot be read ({error.strerror})") from error
    return [_read(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _read(path: Path, number: int, line: bytes) -> Checkpoint:
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AuditError(f"line {number} of {path} is no checkpoint: {error}") from error


def _last(path: Path) -> Checkpoint | None:
    try:
        with path.open("rb") as file:
            # A line without its end was being written when the power went.
            whole = _tail(file).rpartition(b"\n")[0].splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuditError(f"{path} cannot be read ({error.strerror})") from error
    return _read(path, -1, whole[-1]) if whole else None


def _tail(file: BinaryIO) -> bytes:
    """The end of a file: all of its last whole line at least."""
    end = file.seek(0, os.SEEK_END)
    size = _TAIL_BYTES
    while True:
        file.seek(max(0, end - size))
        tail = file.read()
        if size >= end or tail.count(b"\n") > 1:
            return tail
        size *= 4


def _mirror(source: Path, target: Path) -> None:
    last = _last(target)
    count = last.count if last is not None else 0
    missing = [one for one in read_checkpoints(source) if one.count > count]
    if missing:
        _append(target, b"".join(_encode(one) + b"\n" for one in missing))


def _append(path: Path, line: bytes) -> None:
    """On disk when it returns; what was half written before it is cut off."""
    try:
        # No link: where others may write, one could lead to a file of this host's.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o644), "r+b") as file:
            torn = _tail(file).rpartition(b"\n")[2]
            file.truncate(file.seek(0, os.SEEK_END) - len(torn))
            file.seek(0, os.SEEK_END)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AuditError(f"{path} cannot be written ({error.strerror})") from error
