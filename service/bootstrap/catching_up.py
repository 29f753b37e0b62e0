"""The start's first step: all of the ledger folded, or one line that says why not."""

import asyncio
from pathlib import Path

from projections.projector import Projector
from service.adapters.newest_block import kept_cuts, vouch
from service.application.ledger_end import require_whole_end
from service.application.rows_watch import watch_rows
from service.application.supervisor import Supervisor
from service.bootstrap.maintaining import READ_STORE
from service.ports import Clock, Ledger


async def catch_up(
    ledger: Ledger, projector: Projector, supervisor: Supervisor, clock: Clock, data_dir: Path
) -> None:
    """Fold to the end of the ledger before anything is decided or done.

    Raises LedgerDamaged when a record is missing, ProjectorStopped when one cannot be read,
    RowsBehind when the rows cannot be written, and LedgerUnavailable.
    """
    last_seq = await ledger.last_seq()
    await projector.load()
    cuts = await asyncio.to_thread(kept_cuts, data_dir)
    await require_whole_end(
        ledger, projector.stored_seq, last_seq, str(data_dir / READ_STORE), [*map(str, cuts)]
    )
    supervisor.start("projector", projector.run())
    await projector.wait_stored(last_seq)
    await asyncio.to_thread(vouch, cuts)
    supervisor.start("rows", watch_rows(projector, clock))
