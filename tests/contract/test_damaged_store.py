"""A read store whose file is lost, rotten or somebody else's: it begins anew, and says why."""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from projections.schema import SCHEMA_VERSION
from projections.state import State
from projections.store import ReadStore, StoreDamaged
from tests.kit.filled_store import fill
from tests.kit.logs import content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "read.db"


def _delete(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 + 100)


def _garbage(path: Path) -> None:
    path.write_bytes(b"this was never a database" * 1_000)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _old_schema(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()


def _somebody_elses(path: Path) -> None:
    path.unlink()
    raw = sqlite3.connect(path)
    raw.execute("CREATE TABLE t (x)")
    raw.close()


def _rotten_page(path: Path) -> None:
    """Every page but the first few is overwritten: it opens, but the tables cannot be read."""
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xa5" * (path.stat().st_size - 4096 * 2))


def _rotten_body(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("UPDATE replica_sets SET body = CAST('{' AS BLOB)")
    raw.commit()
    raw.close()


@dataclass
class Loss:
    name: str
    happen: Callable[[Path], None]
    said: str = ""
    """What the log says of it; nothing when there is simply no file."""


LOSSES = [
    Loss("deleted", _delete),
    Loss("empty", _empty),
    Loss("truncated", _truncate, "malformed"),
    Loss("garbage", _garbage, "not a database"),
    Loss("old schema", _old_schema, f"version {SCHEMA_VERSION + 1}, not {SCHEMA_VERSION}"),
    Loss("somebody else's", _somebody_elses, "version 0"),
    Loss("rotten page", _rotten_page, "found damaged"),
    Loss("rotten body", _rotten_body, "found damaged"),
]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
async def test_a_lost_file_begins_anew(
    path: Path, loss: Loss, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "projections.store")
    async with ReadStore(path) as store:
        await fill(store, 2_000)
        full = await store.dump()
    loss.happen(path)
    async with ReadStore(path) as store:
        assert content(await store.load_state()) == content(State())
        assert await store.position() == 0
        await fill(store, 2_000)
        assert await store.dump() == full
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (1 if loss.said else 0)
    assert all(loss.said in text for text in said)


async def test_damage_met_by_a_query_is_healed_by_the_next_open(path: Path) -> None:
    async with ReadStore(path) as store:
        await fill(store, 2_000)
    _rotten_page(path)
    async with ReadStore(path) as store:
        with pytest.raises(StoreDamaged, match="cannot be read"):
            await store.history("replica_set", "set0", limit=10)
    async with ReadStore(path) as store:
        assert await store.position() == 0


async def test_a_body_that_says_nothing_is_damage_too(path: Path) -> None:
    async with ReadStore(path) as store:
        await fill(store, 2_000)
        _rotten_body(path)
        with pytest.raises(StoreDamaged, match="cannot be read"):
            await store.replica_sets()
        assert await store.lost() == "it was found damaged"


async def test_a_file_that_cannot_be_opened_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "read.db"
    path.mkdir()
    with pytest.raises(sqlite3.OperationalError):
        await ReadStore(path).open()
    assert path.is_dir()
