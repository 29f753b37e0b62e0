"""Logs to replay: told by a simulated service, and laid down as a backup for the command line."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from events.codec import CloudEvent, read
from projections.schema import SCHEMA_VERSION
from service.adapters.ledger_backup import FORMAT, BackupFolder, Manifest
from service.domain.commands import (
    CreateVolume,
    DeleteReplicaSet,
    RestartReplicaSet,
    StopReplicaSet,
)
from service.ports import StoredEntry
from tests.kit.backups import run as run_loop
from tests.kit.builders import GIB, NODE, OWNER, patch, run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import run_virtually

STORY_S = 3600.0

Events = list[tuple[int, CloudEvent]]


def story(keep_revisions: int = 10) -> list[StoredEntry]:
    """foo runs, gets a second GPU, is stopped; bar takes one; foo is restarted, bar deleted.

    Record 8 is the patch of foo, 21 the run of bar.
    """
    host = SimulatedHost(gpus=4, keep_revisions=keep_revisions)

    async def told() -> None:
        async with SimulatedService(host) as service:
            await service.succeed(
                run("foo", 1, 1, env=("API_TOKEN=hush", "MODE=train")),
                patch("foo", gpu_count=2),
                CreateVolume("v", GIB),
                StopReplicaSet("foo"),
                run("bar", 1, 1),
                RestartReplicaSet("foo"),
                DeleteReplicaSet("bar"),
            )

    run_virtually(told(), STORY_S)
    return list(host.ledger.entries)


def events_of(entries: Sequence[StoredEntry]) -> Events:
    """The records as a replay takes them."""
    return [(entry.seq, read(entry.body)) for entry in entries]


def lay_down(entries: Sequence[StoredEntry], folder: Path) -> Path:
    """A backup that holds these records."""

    async def batches() -> AsyncIterator[Sequence[StoredEntry]]:
        yield entries

    async def write() -> None:
        async with BackupFolder(folder) as backup:
            parts = await backup.write(batches())
            manifest = Manifest(
                format=FORMAT,
                node=NODE,
                owner=OWNER,
                first_seq=1,
                last_seq=len(entries),
                made_at="",
                gpuledger="0.0.0",
                fold_sha256="",
                fold_schema=SCHEMA_VERSION,
                parts=parts,
            )
            await backup.commit(manifest)

    run_loop(write())
    return folder
