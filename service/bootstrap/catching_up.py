"""The start's first step: all of the ledger folded, or one line that says why not."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projections.projector import Projector, ProjectorStopped, RowsBehind
from projections.store import ReadStoreError
from service.adapters.newest_block import kept_cuts, vouch
from service.application.ledger_end import require_whole_end
from service.application.rows_watch import watch_rows
from service.application.supervisor import Supervisor
from service.bootstrap.maintaining import READ_STORE
from service.errors import LedgerDamaged, SettingsError
from service.ports import Clock, Ledger


@contextmanager
def told(data_dir: Path) -> Iterator[None]:
    """Errors of the fold, the read store and the disk in a line for people.

    Raises LedgerDamaged and SettingsError.
    """
    try:
        yield
    except (RowsBehind, ReadStoreError, sqlite3.Error, OSError) as error:
        raise SettingsError(f"the data directory {data_dir} cannot be used: {error}") from error
    except ProjectorStopped as error:
        raise LedgerDamaged(
            f"the ledger in {data_dir} cannot be folded: {error}. Nothing may be skipped: run the"
            " version that wrote it, or restore a backup"
        ) from error


async def catch_up(
    ledger: Ledger, projector: Projector, supervisor: Supervisor, clock: Clock, data_dir: Path
) -> None:
    """Fold to the end of the ledger before anything is decided or done.

    Raises LedgerDamaged when a record is missing or cannot be read, LedgerUnavailable, and
    SettingsError when the rows cannot be written.
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
