"""Damage to the files of a ledger's store, as a bad disk does it."""

from pathlib import Path


def block_of(data_dir: Path) -> Path:
    """The one block of a small ledger."""
    (block,) = (path for path in (data_dir / "ledger").rglob("LEDGER/msgs/1.blk"))
    return block


def place_of(data_dir: Path, number: int) -> int:
    """A byte in the body of the n-th record, from 1 on."""
    content, at = block_of(data_dir).read_bytes(), 0
    for _ in range(number):
        at = content.index(b"Nats-Msg-Id:", at) + 1
    return content.index(b"\r\n\r\n", at) + 8


def flip(path: Path, at: int) -> None:
    """Turn one bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
