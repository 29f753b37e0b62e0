"""The refusals of an installation or of a backup, for who only reads them."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from events.codec import read_time
from service.adapters.jetstream_refusals import JetStreamRefusals
from service.adapters.ledger_backup import Manifest
from service.adapters.refusals_backup import read_refusals_file
from service.adapters.system import SystemClock
from service.application.refusal_check import RefusalCheck
from service.application.verifying import verify_refusals
from service.audit_ports import Checkpoint, RefusalsVerified
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


async def refusals_of(
    folder: Path, manifest: Manifest, checkpoints: Sequence[Checkpoint] = ()
) -> RefusalsVerified | None:
    """What is found of the refusals in a backup; None where it has none.

    What does not fit is told, as it was so when they were backed up. Raises LedgerDamaged when the
    file is not the one that was written.
    """
    if manifest.refusals is None:
        return None
    async with aclosing(read_refusals_file(folder, manifest.refusals)) as batches:
        async for _ in batches:
            pass  # to its end, where its checksum is
    check = RefusalCheck(checkpoints, read_time(manifest.made_at) or SystemClock().now_us())
    async with aclosing(read_refusals_file(folder, manifest.refusals)) as batches:
        return await verify_refusals(batches, check)
