"""The newest block of the ledger's store, and what the server cuts off it at a start.

At a start that follows no clean end, nats-server reads its newest block back and cuts it off at
the first record that it cannot read. That is right for a torn one, as a power loss leaves it; but
of a damaged one it takes all whole records behind it along, without a word in its log (measured
with 2.15.1: one flipped bit in record 30 of 60 took 31 records out of the file). So the block is
copied before each start, and the copy is kept when the block is shorter afterwards.

These functions block: run them in a thread.
"""

import shutil
from pathlib import Path

from msgspec import Struct

from events.subjects import STREAM

FOLDER = "ledger-cut"
"""Below the data directory: copies of blocks as they were before they were cut."""

_BLOCKS = f"jetstream/*/streams/{STREAM}/msgs/*.blk"
"""Only of the ledger: what other streams lose, no record is missing for."""
_FRESH = "before-start"


class Copy(Struct, frozen=True):
    """A block as it is before a start. `size_bytes` is at most the server's 8 MiB."""

    block: Path
    path: Path
    size_bytes: int


class Cut(Struct, frozen=True):
    """A block that a start has made shorter."""

    kept: Path
    """As it was before."""
    size_bytes: int
    cut_at: int
    """The byte where the first record stands that could not be read."""

    def __str__(self) -> str:
        return (
            f"the ledger server could not read the record at byte {self.cut_at} of its newest"
            f" block and cut off {self.size_bytes - self.cut_at} bytes there; the block as it was"
            f" is kept in {self.kept}"
        )


def copy_newest(store_dir: Path, data_dir: Path) -> Copy | None:
    """Copy the newest block, when there is one. Raises OSError: full, or read-only."""
    blocks = [path for path in store_dir.glob(_BLOCKS) if path.stem.isdigit()]
    if not blocks:
        return None
    newest = max(blocks, key=lambda path: int(path.stem))
    folder = data_dir / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / _FRESH
    shutil.copyfile(newest, path)
    path.chmod(0o600)
    return Copy(newest, path, path.stat().st_size)


def compare(copy: Copy) -> Cut | None:
    """What the start has cut off; without a cut the copy is removed. Raises OSError."""
    now = copy.block.stat().st_size if copy.block.exists() else 0
    if now >= copy.size_bytes:
        copy.path.unlink()
        return None
    kept = copy.path.with_name(f"{copy.block.stem}-{copy.size_bytes}-{now}.blk")
    copy.path.replace(kept)
    return Cut(kept, copy.size_bytes, now)


def kept_cuts(data_dir: Path) -> list[Cut]:
    """The cuts that nobody has vouched for yet, oldest block first. Raises OSError."""
    cuts = []
    for path in sorted((data_dir / FOLDER).glob("*-*-*.blk")):
        _, size_bytes, cut_at = path.stem.split("-")
        cuts.append(Cut(path, int(size_bytes), int(cut_at)))
    return cuts


def vouch(cuts: list[Cut]) -> None:
    """What was cut off was never acknowledged: the copies need not be asked about again.

    The last one stays, as `vouched`, for people. Raises OSError.
    """
    for cut in cuts:
        cut.kept.replace(cut.kept.with_name("vouched"))
