"""How much there is of everything: the image, the three diffs, the data disk.

Bytes are decimal (1 MB is 1,000,000) but for the data disk, whose size the API takes in its own
units. `scaled` shrinks all of it for a quick try; the goals are meant for the full size.
"""

import os
from collections.abc import Iterator
from typing import Self

from msgspec import Struct

MB = 1_000_000

_POOL = os.urandom(32 * MB)
_STRIDE = 4_099


class Amount(Struct, frozen=True):
    """So many files of equal size."""

    files: int
    size_bytes: int
    """Of all of them together."""

    def scaled(self, scale: float) -> Self:
        """A part of it, at least one file."""
        return type(self)(max(1, round(self.files * scale)), round(self.size_bytes * scale))

    @property
    def file_bytes(self) -> int:
        """Of one file."""
        return self.size_bytes // self.files


IMAGE = Amount(20_000, 1_500 * MB)
DIFFS = {"S": Amount(200, 10 * MB), "M": Amount(5_000, 500 * MB), "L": Amount(4, 2_000 * MB)}


class Amounts(Struct, frozen=True):
    """All amounts of a run."""

    image: Amount
    twice_image: Amount
    diffs: dict[str, Amount]
    """What a container adds to its image, by the diff's letter."""
    revision_bytes: int
    """What is changed in each of many revisions."""
    data_disk_gb: int
    """In units of 1024³ bytes, as the API takes it."""
    data_bytes: int
    """What is in the data disk."""

    @classmethod
    def at(cls, scale: float) -> Self:
        """The amounts of a run at this scale; 1 is the full size."""
        image = IMAGE.scaled(scale)
        return cls(
            image=image,
            twice_image=Amount(2 * image.files, 2 * image.size_bytes),
            diffs={letter: amount.scaled(scale) for letter, amount in DIFFS.items()},
            revision_bytes=round(5 * MB * scale),
            data_disk_gb=max(1, round(100 * scale)),
            data_bytes=round(500 * MB * scale),
        )


def incompressible(number: int, size_bytes: int) -> Iterator[memoryview]:
    """The content of file `number` in pieces; no two files begin at the same place."""
    start = number * _STRIDE % (len(_POOL) // 2)
    while size_bytes > 0:
        piece = memoryview(_POOL)[start : start + size_bytes]
        yield piece
        size_bytes -= len(piece)
        start = (start + _STRIDE) % (len(_POOL) // 2)
