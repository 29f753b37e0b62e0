"""`gpuledger replay`: the log to go through, of an installation or of a backup."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec

from service.adapters.ledger_backup import load_manifest, read_parts
from service.adapters.log_copy import LogCopy
from service.bootstrap.ledger import require_log, visit_ledger
from service.bootstrap.paced import SILENCE_S
from service.domain.alterations import Alterations, NoSuchHistory, see_that_it_makes_sense
from service.errors import LedgerError, LedgerUnavailable, NoSuchPoint, SettingsError
from service.ports import StoredEntry
from service.settings import Settings

_Batches = AsyncGenerator[Sequence[StoredEntry], None]


async def copy_log(settings: Settings, until: int | None) -> LogCopy:
    """The log of an installation, also beside its service, up to a record or its end.

    Raises SettingsError when there is none, NoSuchPoint when it ends before, LedgerError.
    """
    require_log(settings, ", or a backup with --file")
    async with visit_ledger(settings) as ledger:
        end = _end(await ledger.last_seq(), until)
        return await _copied(ledger.read(0, end), end)


async def copy_backup(folder: Path, until: int | None) -> LogCopy:
    """The log that a backup holds, up to a record or its end. Raises LedgerDamaged, NoSuchPoint."""
    manifest = await load_manifest(folder)
    end = _end(manifest.last_seq, until)
    parts = [part for part in manifest.parts if part.first_seq <= end]
    return await _copied(read_parts(folder, parts), end)


def read_alterations(path: Path) -> Alterations:
    """What a file of `--what-if` says. Raises SettingsError, naming the field."""
    try:
        altered = msgspec.toml.decode(path.read_bytes(), type=Alterations)
        see_that_it_makes_sense(altered)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError, NoSuchHistory) as error:
        raise SettingsError(f"{path}: {error}") from error
    return altered


def _end(last_seq: int, until: int | None) -> int:
    if not last_seq:
        raise LedgerError("the log is empty: there is nothing to replay yet")
    if until is not None and not 1 <= until <= last_seq:
        raise NoSuchPoint(f"there is no record {until}; the log has 1 to {last_seq}")
    return until or last_seq


async def _copied(batches: _Batches, end: int) -> LogCopy:
    copy = LogCopy()
    try:
        async with _paced(batches) as paced:
            async for entries in paced:
                some = [entry for entry in entries if entry.seq <= end]
                await asyncio.to_thread(copy.append, some)
                if copy.last_seq == end:
                    break
    except BaseException:
        copy.__exit__(None, None, None)
        raise
    return copy


@asynccontextmanager
async def _paced(batches: _Batches) -> AsyncIterator[AsyncIterator[Sequence[StoredEntry]]]:
    """A service that is stopped takes its log server with it: raises LedgerUnavailable then."""

    async def paced() -> _Batches:
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    batch = await anext(batches, None)
            except TimeoutError as error:
                raise LedgerUnavailable(
                    f"no record came for {SILENCE_S:.0f} s; was the service stopped? Try again"
                ) from error
            if batch is None:
                return
            yield batch

    async with aclosing(batches), aclosing(paced()) as some:
        yield some
