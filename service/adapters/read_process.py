"""Reading a long ledger in a process of its own, so that folding it has a core to itself.

Taking messages out of NATS' protocol costs about as much as decoding and folding them, and one
Python process does one thing at a time. The child sends bodies over a pipe, each with its length
before it; their sequences follow one another, which the reader in the child has made sure of.
"""

import asyncio
import struct
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import Struct

from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import NatsAddress
from service.errors import GpuledgerError, LedgerDamaged

_LENGTH = struct.Struct("<I")
_CHUNK_BYTES = 1 << 20


class Body(Struct, frozen=True, gc=False):
    """A record as the ledger holds it, without what only the ledger needs."""

    seq: int
    body: bytes


async def read_beside(
    address: NatsAddress, after_seq: int, until_seq: int
) -> AsyncGenerator[list[Body], None]:
    """The records after one sequence up to another, in order, in batches.

    Raises LedgerDamaged with what the child said when it did not come to the end.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", __name__, str(after_seq), str(until_seq)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=4 * _CHUNK_BYTES,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        # Not on the command line, which everybody on the host can see: it has the password in it.
        child.stdin.write(msgspec.json.encode(address))
        child.stdin.close()
        seq, rest = after_seq, b""
        while chunk := await child.stdout.read(_CHUNK_BYTES):
            batch, rest = _split(rest + chunk, seq)
            if batch:
                seq = batch[-1].seq
                yield batch
        said = (await child.stderr.read()).decode("utf-8", "replace").strip()
        if await child.wait() != 0 or seq != until_seq:
            raise LedgerDamaged(said or f"reading ended after record {seq} of {until_seq}")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


def _split(data: bytes, seq: int) -> tuple[list[Body], bytes]:
    """The whole bodies in it, numbered from `seq` + 1, and what is left of the next one."""
    batch: list[Body] = []
    at, end, header = 0, len(data), _LENGTH.size
    while at + header <= end:
        (length,) = _LENGTH.unpack_from(data, at)
        begin = at + header
        if begin + length > end:
            break
        seq += 1
        batch.append(Body(seq, data[begin : begin + length]))
        at = begin + length
    return batch, data[at:]


async def _send(after_seq: int, until_seq: int) -> None:
    address = msgspec.json.decode(sys.stdin.buffer.read(), type=NatsAddress)
    pack, out = _LENGTH.pack, sys.stdout.buffer
    async with (
        JetStreamLedger(address) as ledger,
        aclosing(ledger.read(after_seq, until_seq)) as batches,
    ):
        async for entries in batches:
            out.write(b"".join(pack(len(e.body)) + e.body for e in entries))
    out.flush()


def main() -> int:
    """The child: sequences in its arguments, the ledger's address on its input."""
    import uvloop

    try:
        uvloop.run(_send(int(sys.argv[1]), int(sys.argv[2])))
    except GpuledgerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
