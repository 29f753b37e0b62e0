"""`gpuledger backup` and `gpuledger restore`: the log as files, and the files as a log again.

With it go the refusals.
"""

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from events.codec import show_time
from projections.projector import ProjectorStopped
from projections.projector import rebuild as rebuild_store
from projections.schema import SCHEMA_VERSION
from projections.state import State
from projections.store import ReadStore
from service.adapters.audit_key import KEY_FILE
from service.adapters.checkpoint_files import CHECKPOINTS_FILE
from service.adapters.jetstream_connection import NatsAddress
from service.adapters.ledger_backup import (
    FORMAT,
    BackupFolder,
    Manifest,
    load_manifest,
    read_parts,
)
from service.adapters.ledger_restore import restored_stream
from service.adapters.nats_child import NatsChild
from service.adapters.refusals_backup import read_refusals_file, write_refusals
from service.adapters.refusals_restore import restored_refusals
from service.adapters.system import SystemClock
from service.audit_ports import RefusalsVerified
from service.bootstrap.ledger import (
    LEDGER,
    address_of,
    make_data_dir,
    only_one,
    require_log,
    visit,
    visit_ledger,
)
from service.bootstrap.maintaining import READ_STORE
from service.bootstrap.paced import as_written, read_paced
from service.bootstrap.refusals_read import read_refusals, refusals_of
from service.errors import LedgerDamaged, LedgerError, SettingsError
from service.ports import Ledger, StoredEntry
from service.settings import Settings

STAGING = ".restoring"
"""In the data directory, so that the last step is one rename also where that is a mount."""

MAY_BE_THERE = {
    *("volumes", "tokens.json", "tokens.lock", KEY_FILE, CHECKPOINTS_FILE),
    *("webhooks.key", "webhooks.db", "webhooks.db-wal", "webhooks.db-shm"),
    *("lost+found", STAGING),
}
"""What an empty data directory may hold: what no backup has and was put back by hand, and what
was left over by a restore that was killed."""


class BackupSummary(Struct, frozen=True):
    """What a backup holds."""

    new_records: int
    records: int
    bytes: int
    """Of its files."""
    node: str
    fold_compared: bool = True
    """False when another version's schema made the digest, so that only checksums could tell."""
    refusals: RefusalsVerified | None = None
    """What was found of them; None where the backup has none: before 0.6.0 they were in none."""


class _Fold(Struct, frozen=True):
    node: str
    owner: str
    sha256: str
    state: State


async def back_up(settings: Settings, folder: Path) -> BackupSummary:
    """Write what is new in the log to the folder; all that is there is checked on the way.

    Also beside a running service. Raises LedgerDamaged when what is there is damaged or is of
    another log, SettingsError when there is no log or the folder is no place for a backup.
    """
    require_log(settings)
    async with visit(settings) as opened, BackupFolder(folder) as backup:
        ledger = opened.ledger
        until = await ledger.last_seq()
        known = backup.manifest
        if known is not None:
            await _see_that_it_goes_on(known, backup.path, ledger, until)
        after = known.last_seq if known else 0
        if not until:
            raise LedgerError("the log is empty: there is nothing to back up yet")
        added = await backup.write(read_paced(ledger, after, until))
        async with aclosing(read_refusals(opened)) as batches:
            refusals = await write_refusals(backup.path, batches)
        parts = (*(known.parts if known else ()), *added)
        fold = await _folded(lambda _: read_parts(backup.path, parts))
        unchanged = known is not None and not added and _is_same_fold(backup.path, known, fold)
        manifest = Manifest(
            format=FORMAT,
            node=fold.node,
            owner=fold.owner,
            first_seq=1,
            last_seq=until,
            made_at=show_time(SystemClock().now_us()),
            gpuledger=version("gpuledger"),
            fold_sha256=fold.sha256,
            fold_schema=SCHEMA_VERSION,
            parts=parts,
            refusals=refusals,
        )
        if known is None or not unchanged or known.refusals != refusals:
            await backup.commit(manifest)
        found = await refusals_of(backup.path, manifest)
    return replace(_summary(manifest, True, found), new_records=until - after)


async def verify_backup(folder: Path) -> BackupSummary:
    """Check every file of a backup and fold it, with nothing else at hand. Raises LedgerDamaged."""
    manifest = await load_manifest(folder)
    fold = await _folded(lambda _: read_parts(folder, manifest.parts))
    compared = _is_same_fold(folder, manifest, fold)
    return _summary(manifest, compared, await refusals_of(folder, manifest))


async def restore(settings: Settings, folder: Path) -> BackupSummary:
    """Make the log anew from a backup, in an empty data directory; the same log, or none at all.

    Raises SettingsError when the data directory or the server's stream is not empty,
    LedgerDamaged when the backup is damaged, or what was stored is not what it holds.
    """
    manifest = await load_manifest(folder)
    _see_that_it_is_empty(settings.data_dir)
    async with aclosing(read_parts(folder, manifest.parts)) as batches:
        async for _ in batches:
            pass  # reading is the check: nothing is begun with a backup that is damaged
    refusals = manifest.refusals
    if refusals is not None and not await asyncio.to_thread((folder / refusals.name).exists):
        manifest = replace(manifest, refusals=None)  # somebody chose to go without
    found = await refusals_of(folder, manifest)
    make_data_dir(settings.data_dir)
    with only_one(settings.data_dir):
        if settings.nats != "embedded":
            compared = await _fill(address_of(settings), folder, manifest)
        else:
            async with _staged(settings.data_dir) as child:
                compared = await _fill(child.admin, folder, manifest)
    return _summary(manifest, compared, found)


async def state_of_backup(folder: Path) -> State:
    """What the records of a backup say in the end. Raises LedgerDamaged."""
    manifest = await load_manifest(folder)
    return (await _folded(lambda _: read_parts(folder, manifest.parts))).state


async def state_of_log(settings: Settings) -> State:
    """The same of the log of a data directory, also beside its service.

    Raises SettingsError where there is none, LedgerError.
    """
    require_log(settings, ", or a backup")
    async with visit_ledger(settings) as ledger:
        until = await ledger.last_seq()
        return (await _folded(lambda _: read_paced(ledger, 0, until))).state


async def is_restored(settings: Settings, folder: Path) -> bool:
    """Is this backup's log in the data directory already, with or without more behind it?

    Raises LedgerDamaged when another is. Of a server of one's own it is not known: False.
    """
    if settings.nats != "embedded" or not (settings.data_dir / LEDGER).is_dir():
        return False
    manifest = await load_manifest(folder)
    async with visit_ledger(settings) as ledger:
        await _see_that_it_goes_on(manifest, folder, ledger, await ledger.last_seq())
    return True


async def _fill(address: NatsAddress, folder: Path, manifest: Manifest) -> bool:
    """Fill the streams and read them back; was the fold's digest compared? None if it differs."""
    async with restored_stream(address) as stream:
        async with aclosing(read_parts(folder, manifest.parts)) as batches:
            await stream.fill(batches)
        fold = await _folded(lambda _: as_written(stream.stored(), manifest.parts))
        compared = _is_same_fold(folder, manifest, fold)
        if manifest.refusals is not None:
            async with (
                restored_refusals(address) as refusals,
                aclosing(read_refusals_file(folder, manifest.refusals)) as entries,
            ):
                await refusals.fill(entries)
        return compared


@asynccontextmanager
async def _staged(data_dir: Path) -> AsyncIterator[NatsChild]:
    """A server on a folder aside, which becomes the data directory's log when all went well."""
    staging = data_dir / STAGING
    try:
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
        await asyncio.to_thread(staging.mkdir, 0o700)
        try:
            async with NatsChild(staging) as child:
                yield child
            await asyncio.to_thread(_move, staging / LEDGER, data_dir / LEDGER)
        finally:
            await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
    except OSError as error:
        raise LedgerError(f"{data_dir}: the log cannot be restored: {error}") from error


def _move(source: Path, target: Path) -> None:
    source.rename(target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _see_that_it_is_empty(data_dir: Path) -> None:
    try:
        found = sorted({entry.name for entry in data_dir.iterdir()} - MAY_BE_THERE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(f"{data_dir} cannot be read ({error.strerror})") from error
    if found:
        raise SettingsError(
            f"{data_dir} is not empty ({found[0]}); restore into another --data-dir, or move what"
            " is there away"
        )


async def _see_that_it_goes_on(known: Manifest, folder: Path, ledger: Ledger, until: int) -> None:
    """The log must hold the backup's last record where the backup has it."""
    last = known.last_seq
    kept: StoredEntry | None = None
    if until >= last:
        async with aclosing(read_parts(folder, known.parts[-1:])) as batches:
            async for batch in batches:
                kept = batch[-1]
        async with aclosing(read_paced(ledger, last - 1, last)) as stored:
            async for found in stored:
                if list(found) == [kept]:
                    return
    raise LedgerDamaged(
        f"{folder} holds seq 1 to {last} of node {known.node} (owner {known.owner}), and this log,"
        f" which ends at {until}, is another, or has lost records: use another folder for it"
    )


async def _folded(read: Callable[[int], AsyncIterator[Sequence[StoredEntry]]]) -> _Fold:
    """Fold records into a read store of their own, and make a digest of its rows."""
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix="gpuledger-fold-") as scratch:
        async with ReadStore(Path(scratch) / READ_STORE) as store:
            try:
                await rebuild_store(read, store)
            except ProjectorStopped as stopped:
                if isinstance(stopped.__cause__, LedgerError):
                    raise stopped.__cause__ from None
                raise LedgerDamaged(f"the log cannot be folded: {stopped}") from stopped
            async for table, rows in store.rows():
                for row in rows:
                    digest.update(msgspec.json.encode((table, *row)) + b"\n")
            state = await store.load_state()
            node = state.node
    if node is None:
        raise LedgerDamaged("the log does not say which installation it is of")
    return _Fold(node.node, node.owner, digest.hexdigest(), state)


def _is_same_fold(folder: Path, manifest: Manifest, fold: _Fold) -> bool:
    """False when the digests cannot be compared; raises LedgerDamaged when they differ."""
    if (manifest.node, manifest.owner) != (fold.node, fold.owner):
        raise LedgerDamaged(
            f"{folder}: the manifest names node {manifest.node} (owner {manifest.owner}), the"
            f" records node {fold.node} (owner {fold.owner})"
        )
    if manifest.fold_schema != SCHEMA_VERSION:
        return False
    if manifest.fold_sha256 != fold.sha256:
        raise LedgerDamaged(
            f"{folder}: the records up to seq {manifest.last_seq} fold to something else than when"
            f" gpuledger {manifest.gpuledger} backed them up"
        )
    return True


def _summary(
    manifest: Manifest, fold_compared: bool, refusals: RefusalsVerified | None
) -> BackupSummary:
    size = sum(part.bytes for part in manifest.parts)
    if manifest.refusals is not None:
        size += manifest.refusals.bytes
    return BackupSummary(0, manifest.last_seq, size, manifest.node, fold_compared, refusals)
