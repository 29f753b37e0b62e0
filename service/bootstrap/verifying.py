"""`gpuledger audit verify`: of an installation, of a backup, and of an export."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

from msgspec import UNSET
from msgspec.structs import replace

from events.chain import ChainCheck
from events.codec import read_time
from service.adapters.audit_export import ExportFile
from service.adapters.audit_key import KEY_FILE, key_id_of, read_public, see_signed
from service.adapters.checkpoint_files import CHECKPOINTS_FILE, elsewhere_in, read_checkpoints
from service.adapters.ledger_backup import load_manifest, read_parts
from service.adapters.system import SystemClock
from service.application.audit import Wanted
from service.application.exported import Row, RowsClaimed
from service.application.exported_refusals import RefusedClaimed
from service.application.refusal_check import RefusalCheck
from service.application.verifying import verify, verify_refusals
from service.audit_ports import Checkpoint, Fault, RefusalsVerified, Verified
from service.bootstrap.ledger import require_log, visit
from service.bootstrap.paced import SILENCE_S
from service.bootstrap.refusals_read import read_refusals, refusals_of
from service.errors import AuditError, LedgerDamaged, LedgerUnavailable
from service.ports import Ledger, StoredEntry
from service.settings import Settings


async def verify_audit(
    settings: Settings, files: Sequence[Path], key: Path | None
) -> Verified:
    """The log and the refusals of this installation, beside the running service or without it.

    It is compared with the checkpoints in the data directory, in --audit-dir and in `files`.
    Raises SettingsError where there is no log, AuditError where a checkpoint cannot be believed,
    and LedgerUnavailable.
    """
    require_log(settings)
    known = [settings.data_dir / CHECKPOINTS_FILE]
    if settings.audit_dir is not None:
        known.append(elsewhere_in(settings.audit_dir, settings.node))
    own_key = settings.data_dir / KEY_FILE
    checkpoints = await asyncio.to_thread(_believed, known, files, key or own_key)
    async with visit(settings) as opened:
        ledger = opened.ledger
        until = await ledger.last_seq()
        async with aclosing(_read(ledger, until)) as batches:
            found = await verify(batches, checkpoints)
        check = RefusalCheck(checkpoints, SystemClock().now_us())
        async with aclosing(read_refusals(opened)) as batches:
            return replace(found, refusals=await verify_refusals(batches, check))


async def verify_backup_chain(
    settings: Settings, folder: Path, files: Sequence[Path], key: Path | None
) -> Verified:
    """A backup, with nothing else at hand but checkpoints and a public key. Raises AuditError."""
    own_key = settings.data_dir / KEY_FILE
    checkpoints = await asyncio.to_thread(_believed, (), files, key or own_key)
    try:
        manifest = await load_manifest(folder)
    except LedgerDamaged as damaged:
        return Verified(0, 0, 0, 0, 0, Fault(0, str(damaged)))
    async with aclosing(read_parts(folder, manifest.parts)) as batches:
        found = await verify(batches, checkpoints)
    try:
        return replace(found, refusals=await refusals_of(folder, manifest, checkpoints))
    except LedgerDamaged as damaged:
        broken = RefusalCheck(checkpoints, 0).found(str(damaged))
        return replace(found, refusals=broken)


async def verify_export(settings: Settings, path: Path, key: Path | None) -> Verified:
    """An export: its records and refusals up to its checkpoint, and its rows against them.

    Raises AuditError.
    """
    export = await asyncio.to_thread(ExportFile, path)
    if not export.about.records:
        raise AuditError(f"{path} holds no records, which prove its rows: export with --records")
    checkpoint = await asyncio.to_thread(export.checkpoint)
    if checkpoint is None:
        raise AuditError(f"{path} ends without a checkpoint: it was cut off")
    public = await asyncio.to_thread(read_public, key or settings.data_dir / KEY_FILE)
    see_signed(checkpoint, public)
    rows = await asyncio.to_thread(export.rows)
    claimed = RowsClaimed(rows)
    about = export.about
    start = ChainCheck(about.first - 1, "" if about.first == 1 else None)
    async with aclosing(_batches(export.batches())) as batches:
        found = await verify(batches, [checkpoint], start, claimed.take)
    if found.fault is None and (checkpoint.seq, found.last_seq) != (about.last, about.last):
        found = replace(found, fault=Fault(about.last, "the checkpoint is of another record"))
    if found.fault is None and (wrong := claimed.fault(about.last)) is not None:
        found = replace(found, fault=Fault(*wrong))
    return replace(found, refusals=await _refusals_of_export(export, rows, checkpoint))


async def _refusals_of_export(
    export: ExportFile, rows: Sequence[Row], checkpoint: Checkpoint
) -> RefusalsVerified | None:
    """None where nothing proves them: before 0.6.0 they were not in it."""
    if checkpoint.refusals is UNSET:
        return None
    about = export.about
    wanted = Wanted(about.first, about.last, _instant(about.begin), _instant(about.end))
    claimed = RefusedClaimed(rows, wanted)
    check = RefusalCheck([checkpoint], 0, part=True)
    async with aclosing(_batches(export.refusals())) as batches:
        found = await verify_refusals(batches, check, claimed.take)
    return found if found.fault else replace(found, fault=claimed.fault())


def _instant(point: str) -> int | None:
    """None of a sequence, and where nothing was asked for."""
    return None if not point or point.isdecimal() else read_time(point)


def _believed(
    known: Sequence[Path], files: Sequence[Path], key: Path
) -> Sequence[Checkpoint]:
    """The checkpoints of all files, each signed by the key. Raises AuditError."""
    found = [one for path in known for one in read_checkpoints(path)]
    for path in files:
        given = read_checkpoints(path)
        if not given:
            raise AuditError(f"{path} holds no checkpoint")
        found.extend(given)
    if not found:
        return ()
    public = read_public(key)
    own = key_id_of(public)
    for one in found:
        if one.key != own:
            raise AuditError(
                f"the checkpoint of seq {one.seq} names the key {one.key}, and {key} is {own}:"
                " name the key that signed it with --key"
            )
        see_signed(one, public)
    return found


async def _read(
    ledger: Ledger, until: int
) -> AsyncGenerator[Sequence[StoredEntry], None]:
    """All records. Raises LedgerUnavailable when none comes for SILENCE_S."""
    async with aclosing(ledger.read(0, until)) as batches:
        seq = 0
        while seq < until:
            try:
                async with asyncio.timeout(SILENCE_S):
                    batch = await anext(batches)
            except TimeoutError as error:
                raise LedgerUnavailable(
                    f"no record came for {SILENCE_S:.0f} s after seq {seq}; try again"
                ) from error
            seq = batch[-1].seq
            yield batch


async def _batches(
    batches: Iterator[Sequence[StoredEntry]],
) -> AsyncGenerator[Sequence[StoredEntry], None]:
    while batch := await asyncio.to_thread(next, batches, None):
        yield batch
