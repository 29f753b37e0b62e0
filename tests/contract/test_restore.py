"""Where a log is restored to: an empty place, all of it or nothing, whatever comes between."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.adapters.jetstream import JetStreamLedger
from service.adapters.jetstream_connection import JetStreamRefused, NatsAddress, NatsConnection
from service.adapters.jetstream_stream import (
    NO_STORE,
    STREAM,
    create_anew,
    create_stream,
    wanted_config,
)
from service.adapters.ledger_restore import restored_stream
from service.adapters.nats_child import NatsChild
from service.bootstrap import back_up, restore
from service.bootstrap.ledger import only_one, open_ledger, visit_ledger
from service.errors import LedgerDamaged, LedgerError, LedgerUnavailable, SettingsError
from service.ports import StoredEntry
from tests.kit.backups import append, entries_of, run, settings
from tests.kit.service_process import eventually

RECORDS = 600
WINDOW_NS = 120 * 10**9


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a log; tests only read it."""
    folder = tmp_path_factory.mktemp("restore")
    run(append(folder / "data", RECORDS))
    run(back_up(settings(folder / "data"), folder / "backup"))
    return folder / "backup"


def url_of(server: NatsChild) -> str:
    """A server as somebody's own is named, with user and password."""
    admin = server.admin
    return server.url.replace("nats://", f"nats://{admin.user}:{admin.password}@")


def numbered(ids: Sequence[str]) -> list[StoredEntry]:
    return [
        StoredEntry(seq, "ledger.n1.node.n1.register", message_id, b"%d" % seq)
        for seq, message_id in enumerate(ids, 1)
    ]


async def batches(entries: Sequence[StoredEntry]) -> AsyncIterator[Sequence[StoredEntry]]:
    for begin in range(0, len(entries), 7):
        yield entries[begin : begin + 7]


async def all_of(address: NatsAddress) -> list[StoredEntry]:
    found: list[StoredEntry] = []
    async with JetStreamLedger(address) as ledger:
        async for batch in ledger.read(0, await ledger.last_seq()):
            found += batch
    return found


async def stream_of(address: NatsAddress) -> dict[str, object]:
    """The stream's state and settings; raises LedgerUnavailable when there is none."""
    async with NatsConnection.open(address) as connection:
        return await connection.call(f"STREAM.INFO.{STREAM}")


@pytest.mark.parametrize("name", ["read.db", "ledger", "anything"])
def test_only_into_an_empty_data_directory(backup: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).touch()
    with pytest.raises(SettingsError, match=rf"is not empty \({name}\)"):
        run(restore(settings(tmp_path / "data"), backup))
    assert [path.name for path in (tmp_path / "data").iterdir()] == [name]


def test_beside_data_disks_and_what_a_killed_restore_left(backup: Path, tmp_path: Path) -> None:
    for folder in ("volumes", "lost+found", ".restoring/ledger/jetstream"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    (tmp_path / "data" / "tokens.json").touch()
    run(restore(settings(tmp_path / "data"), backup))
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"volumes", "tokens.json", "lost+found", "ledger"}
    assert len(run(entries_of(tmp_path / "data"))) == RECORDS


def test_never_beside_another(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (
        only_one(tmp_path / "data"),
        pytest.raises(LedgerUnavailable, match="another gpuledger runs on this data directory"),
    ):
        run(restore(settings(tmp_path / "data"), backup))


def test_a_restore_that_is_killed_leaves_no_log(backup: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    command = [sys.executable, "-m", "service", "restore", str(backup), "--data-dir"]
    with subprocess.Popen([*command, str(data_dir)], stdout=subprocess.DEVNULL) as process:
        eventually(lambda: list(data_dir.glob(".restoring/ledger/jetstream/*/streams/LEDGER")))
        process.send_signal(signal.SIGKILL)
    assert [path.name for path in data_dir.iterdir()] == [".restoring"]
    run(restore(settings(data_dir), backup))
    assert len(run(entries_of(data_dir))) == RECORDS


def test_without_a_backup_it_wants_to_know_what_to_do(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "restore", "--data-dir", str(tmp_path / "data")]
    told = subprocess.run(command, capture_output=True, text=True)
    assert (told.returncode, told.stderr.count("\n")) == (2, 1), told.stderr
    assert "name the folder of the backup, or give --execute or --dry-run" in told.stderr


def test_other_lines_than_were_written_are_refused(backup: Path, tmp_path: Path) -> None:
    """A digest of the fold tells nothing of subjects and ids: the lines are compared as well."""
    folder = tmp_path / "backup"
    shutil.copytree(backup, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"][0]["lines_sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(LedgerDamaged, match=r"what was stored of ledger-.* is not what stands in"):
        run(restore(settings(tmp_path / "data"), folder))
    assert list((tmp_path / "data").iterdir()) == []


async def test_an_id_that_is_there_twice(nats_child: NatsChild) -> None:
    """In one batch, and in two: the service may have sent it again after hours."""
    ids = [f"id-{number}" for number in range(1_300)]
    ids[40] = ids[20]
    ids[1_100] = ids[600]
    ids[1_101] = ids[30]
    ids[50] = ids[51] = ""
    entries = numbered(ids)
    async with restored_stream(nats_child.admin) as stream:
        await stream.fill(batches(entries))
    assert await all_of(nats_child.service) == entries


async def fill_and_fail(server: NatsChild) -> None:
    async with restored_stream(server.admin) as stream:
        await stream.fill(batches(numbered(["a", "b"])))
        raise LedgerDamaged("by the way")


async def test_half_a_restore_is_no_ledger(nats_child: NatsChild) -> None:
    async with restored_stream(nats_child.admin) as stream:
        await stream.fill(batches(numbered(["a", "b"])))
        with pytest.raises(SettingsError, match="deny_delete is False"):
            await all_of(nats_child.service)
    assert len(await all_of(nats_child.service)) == 2
    config = (await stream_of(nats_child.admin))["config"]
    assert isinstance(config, dict)
    assert (config["deny_delete"], config["deny_purge"]) == (True, True)
    assert config["duplicate_window"] == 3_600 * 10**9


async def test_a_restore_that_fails_leaves_no_stream(nats_child: NatsChild) -> None:
    with pytest.raises(LedgerDamaged, match="by the way"):
        await fill_and_fail(nats_child)
    with pytest.raises(LedgerUnavailable, match="stream not found"):
        await stream_of(nats_child.admin)


async def test_a_stream_with_records_is_left_alone(nats_child: NatsChild) -> None:
    async with restored_stream(nats_child.admin) as stream:
        await stream.fill(batches(numbered(["a", "b"])))
    with pytest.raises(SettingsError, match=r"is not empty \(it goes to seq 2\)"):
        async with restored_stream(nats_child.admin):
            pass
    assert len(await all_of(nats_child.service)) == 2


def get_in_the_way(files: Path) -> None:
    files.parent.mkdir(parents=True, exist_ok=True)
    files.touch()


async def test_files_of_a_stream_that_was_there_may_be_in_the_way(
    nats_child: NatsChild, tmp_path: Path
) -> None:
    """The server removes them after it has said that they are."""
    async with NatsConnection.open(nats_child.admin) as connection:
        await create_stream(connection, 1)
        (files,) = await asyncio.to_thread(lambda: list(tmp_path.rglob(STREAM)))
        await connection.call(f"STREAM.DELETE.{STREAM}")
        await asyncio.to_thread(eventually, lambda: not files.exists())
        get_in_the_way(files)
        with pytest.raises(JetStreamRefused, match=f"{NO_STORE}"):
            await create_stream(connection, 1)
        get_in_the_way(files)  # again: the server took it away when it could not use it
        assert (await create_anew(connection, wanted_config(1)))["name"] == STREAM


@asynccontextmanager
async def own_stream(server: NatsChild) -> AsyncIterator[None]:
    """An empty stream that somebody made, with a setting of their own."""
    async with NatsConnection.open(server.admin) as connection:
        made = await create_stream(connection, 1)
        config = {**made, "duplicate_window": WINDOW_NS}
        await connection.call(f"STREAM.UPDATE.{STREAM}", config)
        yield


@pytest.mark.parametrize("fails", [False, True])
async def test_an_empty_stream_of_ones_own_keeps_its_settings(
    nats_child: NatsChild, fails: bool
) -> None:
    async with own_stream(nats_child):
        if fails:
            with pytest.raises(LedgerDamaged, match="by the way"):
                await fill_and_fail(nats_child)
        else:
            async with restored_stream(nats_child.admin) as stream:
                await stream.fill(batches(numbered(["a", "b"])))
    info = await stream_of(nats_child.admin)
    assert isinstance(info["config"], dict)
    assert isinstance(info["state"], dict)
    assert info["config"]["duplicate_window"] == WINDOW_NS
    assert info["config"]["deny_purge"] is True
    assert info["state"]["last_seq"] == (0 if fails else 2)


def test_from_one_server_of_ones_own_to_another(backup: Path, tmp_path: Path) -> None:
    async def there_and_back() -> None:
        async with NatsChild(tmp_path / "one") as one, NatsChild(tmp_path / "two") as two:
            await restore(settings(tmp_path / "data1", url_of(one)), backup)
            again = tmp_path / "again"
            assert (await back_up(settings(tmp_path / "data1", url_of(one)), again)).records == 600
            await restore(settings(tmp_path / "data2", url_of(two)), again)
            with pytest.raises(SettingsError, match="is not empty"):
                await restore(settings(tmp_path / "data3", url_of(two)), again)
            assert await all_of(one.service) == await all_of(two.service)
            # Beside a service that holds the data directory.
            with only_one(tmp_path / "data1"):
                async with visit_ledger(settings(tmp_path / "data1", url_of(one))) as ledger:
                    assert await ledger.last_seq() == RECORDS

    run(there_and_back())


def test_one_service_at_a_time_also_on_a_server_of_ones_own(tmp_path: Path) -> None:
    async def twice() -> None:
        async with NatsChild(tmp_path / "server") as server:
            mine = settings(tmp_path / "data", url_of(server))
            async with open_ledger(mine):
                with pytest.raises(LedgerUnavailable, match="another gpuledger runs on this"):
                    async with open_ledger(mine):
                        pass
            async with open_ledger(mine):
                pass

    run(twice())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that 16 kB fit on."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.usefixtures("root")
def test_a_full_disk_is_told_and_leaves_no_backup(tmp_path: Path, small_disk: Path) -> None:
    run(append(tmp_path / "data", RECORDS))
    with pytest.raises(LedgerError, match=r"cannot be written: .*No space left on device"):
        run(back_up(settings(tmp_path / "data"), small_disk / "backup"))
    assert list((small_disk / "backup").iterdir()) == []
