"""Checkpoints: states of the fold along the log, as files. A cache: all may be deleted.

A file is a header, one line of JSON, and a compressed body: what is other than in the checkpoint
it is based on, or all of the state when it is based on none. A state is found by two files at
most, and most of them are small. Operations that had ended are left out: they are in the read
store as they were, since the row of an ended operation changes no more.

Nothing in a file is believed that its checksum does not vouch for. Whether it is of this ledger
the reader tells by the id of the record that it stands at. All of this blocks.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from projections import tables
from projections.bodies import Bodies
from projections.schema import SCHEMA_VERSION
from projections.state import Node, State

FORMAT = 1
"""Raised with every change to the form of the files."""

_SUFFIX = ".checkpoint"
_LEVEL = 1
"""Of zlib: the fastest; JSON shrinks to a tenth all the same."""

Key = str | int | tuple[str, int]

_TABLES: dict[str, Callable[[bytes], Any]] = {
    "replica_sets": tables.read_replica_set,
    "revisions": tables.read_revision,
    "volumes": tables.read_volume,
    "gpus": tables.read_gpu,
    "ports": tables.read_port,
    "operations": tables.read_operation,
    "prices": tables.read_price,
    "months": tables.read_month,
    "webhooks": tables.read_webhook,
}
"""The tables of the state, in the order in which their bodies stand in a file."""


class CheckpointUnusable(Exception):
    """A file is damaged, of another version, or based on one that is gone. The text says which."""


class _Header(Struct, frozen=True):
    format: int
    schema: int
    seq: int
    record: str
    base: int
    base_sum: int
    sum: int


class _Table(Struct, frozen=True):
    keys: tuple[Key, ...]
    """Of what is other than in the base; their bodies follow in this order."""
    gone: tuple[Key, ...]


class _Index(Struct, frozen=True):
    node: Node | None
    volumes_used: dict[str, list[str]]
    tables: dict[str, _Table]


class Checkpoint(Struct, frozen=True):
    """A state, and what tells its file from another. Nobody may change the state."""

    state: State
    record: str
    """The id of the record that it stands at."""
    sum: int


_read_header = msgspec.json.Decoder(_Header).decode
_read_index = msgspec.json.Decoder(_Index).decode
_encode = msgspec.json.Encoder().encode


class Checkpoints:
    """The files in a folder, which is made when the first is written. Not for two threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._base: Checkpoint | None = None
        """The one that was last loaded to base another on."""

    def seqs(self) -> list[int]:
        """Where there are files, in order. Raises OSError."""
        if not self._folder.exists():
            return []
        names = (path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def write(self, state: State, record: str, base: Checkpoint | None) -> Checkpoint:
        """Write a file, all of it or none. Raises OSError."""
        on = base.state if base is not None else State()
        body = zlib.compress(b"\n".join(_lines(state, on)), _LEVEL)
        base_seq, base_sum = (on.seq, base.sum) if base is not None else (0, 0)
        checksum = _sum(state.seq, record, base_seq, base_sum, body)
        header = _Header(
            FORMAT, SCHEMA_VERSION, state.seq, record, base_seq, base_sum, checksum
        )
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(state.seq)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(_encode(header) + b"\n" + body)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        return Checkpoint(state, record, checksum)

    def load(self, seq: int) -> Checkpoint:
        """The state of a file. Raises CheckpointUnusable and OSError."""
        header, body = self._read(seq)
        state = State()
        if header.base:
            if self._base is None or self._base.sum != header.base_sum:
                self._base = self.load(header.base)
            if self._base.sum != header.base_sum:
                raise CheckpointUnusable(f"it is based on another one at {header.base}")
            state = self._base.state.copy()
        try:
            _apply(state, body)
        except (msgspec.DecodeError, ValueError) as error:
            raise CheckpointUnusable(f"its body cannot be read: {error}") from error
        state.seq = seq
        return Checkpoint(state, header.record, header.sum)

    def discard(self, seq: int) -> None:
        """Remove a file, if it is there. Raises OSError."""
        self._base = None
        self._path(seq).unlink(missing_ok=True)

    def size_bytes(self) -> int:
        """What all files take. Raises OSError."""
        return sum(self._path(seq).stat().st_size for seq in self.seqs())

    def _path(self, seq: int) -> Path:
        return self._folder / f"{seq:012}{_SUFFIX}"

    def _read(self, seq: int) -> tuple[_Header, bytes]:
        try:
            line, _, body = self._path(seq).read_bytes().partition(b"\n")
            header = _read_header(line)
        except FileNotFoundError:
            raise CheckpointUnusable("it is gone") from None
        except msgspec.DecodeError as error:
            raise CheckpointUnusable(f"its header cannot be read: {error}") from error
        if (header.format, header.schema) != (FORMAT, SCHEMA_VERSION):
            raise CheckpointUnusable("another version wrote it")
        found = _sum(header.seq, header.record, header.base, header.base_sum, body)
        if header.seq != seq or header.base >= seq or found != header.sum:
            raise CheckpointUnusable("its checksum is wrong")
        try:
            return header, zlib.decompress(body)
        except zlib.error as error:
            raise CheckpointUnusable(f"its body cannot be unpacked: {error}") from error


def _sum(seq: int, record: str, base: int, base_sum: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(f"{seq} {record} {base} {base_sum}".encode()))


def _lines(state: State, base: State) -> Iterator[bytes]:
    """The index, then the body of each aggregate that is other than in the base."""
    index: dict[str, _Table] = {}
    bodies: list[list[bytes]] = []
    for table in _TABLES:
        new, old = _kept(state, table), _kept(base, table)
        # What is the same was shared by a copy: aggregates are frozen.
        changed = {key: one for key, one in new.items() if old.get(key) is not one}
        gone = tuple(key for key in old if key not in new)
        index[table] = _Table(tuple(changed), gone)
        bodies.append([one if type(one) is bytes else _encode(one) for one in changed.values()])
    used = {name: sorted(volumes) for name, volumes in state.volumes_used.items()}
    yield _encode(_Index(state.node, used, index))
    yield from chain.from_iterable(bodies)


def _kept(state: State, table: str) -> dict[Any, Any]:
    """A table as it is kept, its bodies not decoded; of the operations those that go on."""
    if table != "operations":
        return dict(getattr(state, table))
    going_on = {id for id, one in state.operations.items() if one.finished_seq is None}
    return {id: one for id, one in dict(state.operations).items() if id in going_on}


def _apply(state: State, body: bytes) -> None:
    """Put what a body says over a state that it is based on."""
    line, *bodies = body.split(b"\n")
    index = _read_index(line)
    rest = iter(bodies)
    for table, read in _TABLES.items():
        entry = index.tables[table]
        aggregates = dict(getattr(state, table))
        for key in entry.gone:
            aggregates.pop(key, None)
        its_own = islice(rest, len(entry.keys))
        aggregates.update(zip(entry.keys, its_own, strict=True))
        setattr(state, table, Bodies(read, aggregates))
    state.node = index.node
    state.finished.clear()
    state.volumes_used = {name: frozenset(used) for name, used in index.volumes_used.items()}
    state.volume_users = {}
    for name, used in state.volumes_used.items():
        for volume in used:
            state.volume_users.setdefault(volume, set()).add(name)
