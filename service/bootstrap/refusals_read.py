"""The refusals of an installation, for who only reads them: to verify, and to back up."""

from collections.abc import AsyncGenerator, Sequence

from service.adapters.jetstream_refusals import JetStreamRefusals
from service.bootstrap.ledger import OpenLedger
from service.ports import StoredEntry

READ_ENTRIES = 1_000


async def read_refusals(opened: OpenLedger) -> AsyncGenerator[Sequence[StoredEntry], None]:
    """All of them that are kept, oldest first. Raises LedgerUnavailable."""
    async with JetStreamRefusals(opened.address, opened.admin) as kept:
        if await kept.is_missing():
            return
        number = 0
        # To the end as it is by then: what is pushed out meanwhile has others in its place.
        while entries := await kept.after(number, READ_ENTRIES):
            yield entries
            number = entries[-1].seq
