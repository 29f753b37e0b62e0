"""A record as a line of a backup, and back: byte for byte.

`{"seq", "subject", "id", "crc", "body"}`. The body stands there as it is stored; one that is no
JSON of one line stands as `base64` instead. `crc`, the CRC-32 of all the rest, tells which line of
a damaged file was changed.
"""

import zlib

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from service.ports import StoredEntry

LINE_BYTES_MAX = 8 << 20
"""A line is a record of at most 1 MB; what is longer was made by damage."""


class _Line(Struct, frozen=True):
    seq: int
    subject: str
    id: str
    crc: int
    body: Raw | UnsetType = UNSET
    base64: bytes | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


class BadLine(Exception):
    """A line that is not as it was written. The text says how."""


def encode_line(entry: StoredEntry) -> bytes:
    """A record as a line, without its end."""
    crc = _crc(entry)
    if _is_one_line_of_json(entry.body):
        body = Raw(entry.body)
        return _encode(_Line(entry.seq, entry.subject, entry.message_id, crc, body))
    return _encode(_Line(entry.seq, entry.subject, entry.message_id, crc, base64=entry.body))


def decode_line(line: bytes) -> StoredEntry:
    """The record of a line. Raises BadLine."""
    try:
        read = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(str(error)) from error
    body = bytes(read.body) if isinstance(read.body, Raw) else read.base64
    if isinstance(body, UnsetType):
        raise BadLine("it has no body")
    entry = StoredEntry(read.seq, read.subject, read.id, body)
    if _crc(entry) != read.crc:
        raise BadLine("its content is not what was written")
    return entry


def _crc(entry: StoredEntry) -> int:
    head = f"{entry.seq} {entry.subject} {entry.message_id}\n"
    return zlib.crc32(entry.body, zlib.crc32(head.encode()))


def _is_one_line_of_json(body: bytes) -> bool:
    if b"\n" in body or b"\r" in body or body != body.strip():
        return False
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
