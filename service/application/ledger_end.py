"""Is the ledger whole at its end? Asked at a start, before anything is decided on it.

A clean end and a damaged file leave a server that says it holds records which it cannot give
out. Those that the read store was made from are not read again by a start, and new ones would be
appended behind the hole. So the newest are read once more: as many as the newest file of the
store holds at least. `gpuledger check` reads all of them.
"""

from contextlib import aclosing

from service.errors import LedgerDamaged
from service.ports import Ledger

NEWEST_RECORDS = 16_384
"""What fills the server's newest file of 8 MiB with records of 512 bytes. To read them took 0.33 s
on two busy cores."""


async def require_whole_end(
    ledger: Ledger, stored_seq: int, last_seq: int, read_store: str, cuts: list[str]
) -> None:
    """Return when the newest records are there, up to what the read store has seen.

    `cuts` says in a line each what the server cut off its files. Raises LedgerDamaged, naming
    the sequence and what to do, and LedgerUnavailable.
    """
    said = "".join(f" {cut}." for cut in cuts)
    if stored_seq > last_seq:
        raise LedgerDamaged(
            f"the read store has seen record {stored_seq}, but the ledger ends at {last_seq}:"
            f" records were lost, or this is another ledger.{said} Restore it from a backup; if"
            f" it is right as it is, delete {read_store} and start again"
        )
    if cuts and not stored_seq:
        raise LedgerDamaged(
            f"the ledger ends at record {last_seq}, and records behind it may have been lost:"
            f"{said} Without a read store nobody can tell whether they had been acknowledged."
            " Restore the ledger from a backup; to go on with what there is, move that file away"
            " and start again"
        )
    after = max(0, last_seq - NEWEST_RECORDS)
    if after < stored_seq:
        async with aclosing(ledger.read(after, stored_seq)) as batches:
            async for _ in batches:
                pass
