"""What the fold, the read store and the disk raise, in a line for people."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from projections.projector import ProjectorStopped, RowsBehind
from projections.store import ReadStoreError
from service.errors import LedgerDamaged, SettingsError


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
