"""Records that are read to be copied: each in time, and as it was written."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from service.adapters.backup_lines import encode_line
from service.adapters.ledger_backup import Part
from service.errors import LedgerDamaged, LedgerUnavailable
from service.ports import Ledger, StoredEntry

SILENCE_S = 60.0
"""A service that is stopped takes its log server with it: a reader would wait for it for ever."""


async def as_written(
    batches: AsyncGenerator[Sequence[StoredEntry], None], parts: Sequence[Part]
) -> AsyncGenerator[Sequence[StoredEntry], None]:
    """Hand records on, and see that each part's lines come out as they were written."""
    waiting = iter(parts)
    part, lines = next(waiting), hashlib.sha256()
    async with aclosing(_paced(batches, 0, parts[-1].last_seq)) as paced:
        async for batch in paced:
            for entry in batch:
                lines.update(encode_line(entry) + b"\n")
                if entry.seq == part.last_seq:
                    if lines.hexdigest() != part.lines_sha256:
                        raise LedgerDamaged(
                            f"what was stored of {part.name} is not what stands in it"
                        )
                    part, lines = next(waiting, part), hashlib.sha256()
            yield batch


def read_paced(
    ledger: Ledger, after: int, until: int
) -> AsyncGenerator[Sequence[StoredEntry], None]:
    """Records of a ledger. Raises LedgerUnavailable when none comes for SILENCE_S."""
    return _paced(ledger.read(after, until), after, until)


async def _paced(
    batches: AsyncGenerator[Sequence[StoredEntry], None], after: int, until: int
) -> AsyncGenerator[Sequence[StoredEntry], None]:
    """The records up to `until`. Raises LedgerUnavailable when none comes for SILENCE_S."""
    async with aclosing(batches):
        while after < until:
            try:
                async with asyncio.timeout(SILENCE_S):
                    batch = await anext(batches)
            except TimeoutError as error:
                raise LedgerUnavailable(
                    f"no record came for {SILENCE_S:.0f} s after seq {after}; was the service"
                    " stopped? Try again"
                ) from error
            after = batch[-1].seq
            yield batch
