"""Ledgers of any length, on a real nats-server, to measure on."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import uvloop

from events.codec import encode
from events.record import Record
from events.subjects import subject_of
from service.adapters.jetstream import BATCH_MAX
from service.bootstrap.ledger import open_ledger
from service.ports import Entry
from service.settings import Settings
from tests.kit.histories import NODE, records

FLAGS = ("--node", NODE, "--gpus", "none", "--log-level", "error")
"""How the service is started on such a ledger: it is of a node, and none of its GPUs is here."""

NODE_RECORDS = 1
"""The first record of every history: the node is registered."""

NAMES_RUN_RECORDS = 6
"""A name needs so many records to be there: its GPU's, and the five of its `run`."""


def settings_for(data_dir: Path) -> Settings:
    """The settings of a service on a data directory."""
    return Settings.from_mapping({}, data_dir=data_dir, node=NODE, gpus="none", docker=no_docker())


def no_docker() -> str:
    """An address where no Docker answers: refused at once, so that its absence costs nothing."""
    return "unix:///nonexistent/docker.sock"


def fill(data_dir: Path, count: int, names: int) -> None:
    """Make a ledger with the first `count` records of a made-up history of so many names."""
    uvloop.run(_fill(data_dir, records(count, names)))


async def _fill(data_dir: Path, history: Iterable[Record]) -> None:
    stream = iter(history)
    last_seq = 0
    async with open_ledger(settings_for(data_dir)) as opened:
        while batch := [_entry(record) for record in islice(stream, BATCH_MAX)]:
            last_seq = await opened.ledger.append(batch, last_seq)


def _entry(record: Record) -> Entry:
    return Entry(subject_of(record), record.command_id, encode(record))
