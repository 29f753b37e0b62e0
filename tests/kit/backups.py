"""Logs in data directories of their own, to back up and to restore."""

from collections.abc import Coroutine
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from events.codec import encode
from events.subjects import subject_of
from service.bootstrap.ledger import open_ledger, visit_ledger
from service.ports import Entry, StoredEntry
from service.settings import Settings
from tests.kit import histories

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """On a loop of its own, as a command does."""
    return uvloop.run(work)


def settings(data_dir: Path, nats: str = "embedded") -> Settings:
    """Of a service whose Docker is away."""
    return Settings.from_mapping(
        {}, data_dir=data_dir, node=histories.NODE, gpus="none", docker="unix:///no", nats=nats
    )


async def append(data_dir: Path, until: int, nats: str = "embedded") -> None:
    """Let the log grow to the first so many records of a made-up history."""
    async with open_ledger(settings(data_dir, nats)) as opened:
        last = await opened.ledger.last_seq()
        history = islice(histories.records(until, 20), last, None)
        while some := [
            Entry(subject_of(record), record.command_id, encode(record))
            for record in islice(history, 1_000)
        ]:
            last = await opened.ledger.append(some, last)


async def entries_of(data_dir: Path, nats: str = "embedded") -> list[StoredEntry]:
    """All that the log holds."""
    found: list[StoredEntry] = []
    async with visit_ledger(settings(data_dir, nats)) as ledger:
        async for batch in ledger.read(0, await ledger.last_seq()):
            found += batch
    return found
