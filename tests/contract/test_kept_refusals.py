"""Refusals on a real log server: chained, forgotten by its limits, backed up and restored."""

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from service.adapters.audit_key import KeyFile
from service.adapters.checkpoint_files import CHECKPOINTS_FILE, CheckpointFiles
from service.adapters.jetstream_connection import NatsConnection
from service.adapters.jetstream_refusals import STREAM, JetStreamRefusals
from service.adapters.nats_child import NatsChild
from service.adapters.system import SystemClock
from service.application.refusal_chain import RefusalChain
from service.application.refusal_check import RefusalCheck, RefusalsBroken
from service.audit_ports import KEPT, Checkpoint, Refusal, RefusalsVerified, entry_of
from service.bootstrap import back_up, restore, verify_audit, verify_backup
from service.bootstrap.ledger import open_ledger
from service.cli.app import build_app
from service.cli.surroundings import Surroundings
from service.errors import LedgerDamaged, LedgerUnavailable, SettingsError
from service.ports import Entry, StoredEntry
from tests.kit import histories, refused
from tests.kit.backups import append, run, settings
from tests.kit.memory_audit import MemoryBook

RECORDS = 60
CALLERS = ("ci", "", "bob", "ci", "")


def refusal(number: int, actor: str = "ci") -> Refusal:
    now_us = SystemClock().now_us()
    return replace(refused.refusal(number, actor), at_us=now_us, message=f"no. {number}")


def some(first: int, count: int) -> list[Refusal]:
    return [refusal(at, CALLERS[at % len(CALLERS)]) for at in range(first, first + count)]


def found_in(
    entries: Sequence[StoredEntry], *checkpoints: Checkpoint, per_caller: int = KEPT.per_caller
) -> RefusalsVerified:
    bounds = replace(KEPT, per_caller=per_caller)
    check = RefusalCheck(checkpoints, SystemClock().now_us(), bounds)
    try:
        for entry in entries:
            check.take(entry)
        check.end()
    except RefusalsBroken as broken:
        return check.found(str(broken))
    return check.found()


async def keep_all(chain: RefusalChain, noted: Sequence[Refusal]) -> None:
    """Until the server took them."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await chain.keep(noted)
            except LedgerUnavailable:
                await SystemClock().sleep(0.02)


class TestOnAServer:
    async def test_a_chain_outlives_the_server_and_the_service(self, nats_child: NatsChild) -> None:
        async with JetStreamRefusals(nats_child.service, nats_child.admin) as kept:
            chain = RefusalChain(kept, MemoryBook().last)
            await chain.keep(some(0, 10))
            assert nats_child.pid is not None
            os.kill(nats_child.pid, signal.SIGKILL)
            await keep_all(chain, some(10, 10))
            await RefusalChain(kept, MemoryBook().last).keep(some(20, 10))
            entries = await kept.after(0, 100)
        assert len(entries) == 30
        assert found_in(entries) == RefusalsVerified(30, 0, 0, 0)

    async def test_another_writer_makes_no_second_chain(self, nats_child: NatsChild) -> None:
        """Such as the service of before, whose messages come late."""
        async with JetStreamRefusals(nats_child.service, nats_child.admin) as kept:
            chain, other = (RefusalChain(kept, MemoryBook().last) for _ in range(2))
            await chain.keep(some(0, 5))
            await other.keep(some(5, 1))
            with pytest.raises(LedgerUnavailable):
                await chain.keep(some(6, 5))
            await chain.keep(some(6, 5))
            entries = await kept.after(0, 100)
        assert [entry.message_id.partition(":")[0] for entry in entries] == [
            f"r{number}" for number in range(11)
        ]
        assert not found_in(entries).fault

    async def test_what_is_pushed_out_is_told_from_what_is_taken_out(
        self, nats_child: NatsChild
    ) -> None:
        async with JetStreamRefusals(
            nats_child.service, nats_child.admin, per_caller_max=40
        ) as kept:
            chain = RefusalChain(kept, MemoryBook().last)
            await chain.keep([refusal(0, "quiet"), *(refusal(at) for at in range(1, 101))])
            heads = await chain.heads(SystemClock().now_us())
            entries = await kept.after(0, 200)
        signed = Checkpoint("n", "o", 1, "", "then", 1, "key", refusals=heads)
        assert found_in(entries, signed, per_caller=40) == RefusalsVerified(41, 0, 60, 41)
        fault = found_in([entries[0], *entries[2:]], signed, per_caller=40).fault
        assert "refusals 1 to 61 of ci missing, and the log did not forget them" in fault


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An installation that was stopped, with records, refusals and a checkpoint of them."""
    path = tmp_path / "data"
    run(append(path, RECORDS))
    run(lived(path, some(0, 12)))
    return path


async def lived(data_dir: Path, noted: Sequence[Refusal]) -> None:
    """The service noted these, and signed them."""
    book, key = CheckpointFiles(data_dir), KeyFile(data_dir)
    async with (
        open_ledger(settings(data_dir)) as opened,
        JetStreamRefusals(opened.address, opened.admin) as kept,
    ):
        chain = RefusalChain(kept, book.last)
        await chain.keep(noted)
        last = await book.last()
        bare = Checkpoint(
            node=histories.NODE,
            owner=histories.OWNER,
            seq=0,
            hash="",
            at="2026-11-22T00:00:00Z",
            count=last.count + 1 if last else 1,
            key=key.key_id,
            refusals=await chain.heads(SystemClock().now_us()),
        )
        await book.add(replace(bare, signature=key.signature(bare.signed_text())))


async def stored_in(data_dir: Path) -> list[Entry]:
    async with (
        open_ledger(settings(data_dir)) as opened,
        JetStreamRefusals(opened.address, opened.admin) as kept,
    ):
        found = await kept.after(0, 1_000)
    return [Entry(one.subject, one.message_id, one.body) for one in found]


async def put_in_place(data_dir: Path, entries: Sequence[Entry]) -> None:
    """What somebody does who can write all of the server's files."""
    async with open_ledger(settings(data_dir)) as opened:
        assert opened.admin is not None
        async with NatsConnection.open(opened.admin) as connection:
            await connection.call(f"STREAM.DELETE.{STREAM}", timeout_s=10)
        async with JetStreamRefusals(opened.address, opened.admin) as kept:
            await kept.append(entries, 0)


def verified(data_dir: Path) -> RefusalsVerified:
    found = run(verify_audit(settings(data_dir), [], None)).refusals
    assert found is not None
    return found


class TestAnInstallation:
    def test_what_nobody_touched_is_right(self, data_dir: Path) -> None:
        assert verified(data_dir) == RefusalsVerified(12, 0, 0, 12)

    @pytest.mark.parametrize("at", [0, 4, 11])
    def test_one_that_was_taken_out_is_named(self, data_dir: Path, at: int) -> None:
        entries = run(stored_in(data_dir))
        run(put_in_place(data_dir, [*entries[:at], *entries[at + 1 :]]))
        caller = CALLERS[at % len(CALLERS)] or "unknown callers"
        assert f" of {caller} missing" in verified(data_dir).fault

    def test_an_installation_without_any_is_right_and_gets_no_stream(self, tmp_path: Path) -> None:
        run(append(tmp_path / "data", RECORDS))
        assert verified(tmp_path / "data") == RefusalsVerified(0, 0, 0, 0)
        assert not list((tmp_path / "data").glob(f"ledger/jetstream/*/streams/{STREAM}"))


class TestBackups:
    def test_they_are_restored_as_they_were_and_gone_on_with(
        self, data_dir: Path, tmp_path: Path
    ) -> None:
        folder, target = tmp_path / "backup", tmp_path / "restored"
        done = run(back_up(settings(data_dir), folder))
        assert done.refusals == RefusalsVerified(12, 0, 0, 0)
        assert run(verify_backup(folder)).refusals == done.refusals
        assert run(restore(settings(target), folder)).refusals == done.refusals
        assert run(stored_in(target)) == run(stored_in(data_dir))
        for name in ("audit.key", CHECKPOINTS_FILE):
            (target / name).write_bytes((data_dir / name).read_bytes())
        assert verified(target) == RefusalsVerified(12, 0, 0, 12)
        run(lived(target, some(12, 5)))
        assert verified(target) == RefusalsVerified(17, 0, 0, 17)

    def test_a_second_backup_has_the_new_ones_in_the_old_one_s_place(
        self, data_dir: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "backup"
        run(back_up(settings(data_dir), folder))
        (first,) = folder.glob("refusals-*")
        manifest = (folder / "manifest.json").read_bytes()
        run(back_up(settings(data_dir), folder))
        assert [*folder.glob("refusals-*")] == [first]
        assert (folder / "manifest.json").read_bytes() == manifest, "nothing is new"
        run(lived(data_dir, some(12, 5)))
        done = run(back_up(settings(data_dir), folder))
        (second,) = folder.glob("refusals-*")
        assert (second != first, done.new_records) == (True, 0)
        assert run(verify_backup(folder)).refusals == RefusalsVerified(17, 0, 0, 0)

    def test_one_of_before_that_has_none_is_restored_and_says_so(
        self, data_dir: Path, tmp_path: Path
    ) -> None:
        folder, target = older(data_dir, tmp_path), tmp_path / "restored"
        none = "it holds no refusals"
        assert none in told("backup", str(folder), "--verify")
        assert none in told("restore", str(folder), "--data-dir", str(target))
        assert run(stored_in(target)) == []
        run(lived(target, some(0, 3)))
        assert verified(target) == RefusalsVerified(3, 0, 0, 3), "they begin anew"
        run(back_up(settings(data_dir), folder))
        assert run(verify_backup(folder)).refusals == RefusalsVerified(12, 0, 0, 0)

    def test_a_damaged_file_is_named_and_can_be_left_away(
        self, data_dir: Path, tmp_path: Path
    ) -> None:
        folder, target = tmp_path / "backup", tmp_path / "restored"
        run(back_up(settings(data_dir), folder))
        (path,) = folder.glob("refusals-*")
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        for work in (verify_backup(folder), restore(settings(target), folder)):
            with pytest.raises(LedgerDamaged, match=rf"{path.name} is damaged at line"):
                run(work)
        assert not target.exists()
        path.unlink()
        with pytest.raises(LedgerDamaged, match=r"is missing, with 12 refusals"):
            run(verify_backup(folder))
        assert run(restore(settings(target), folder)).refusals is None

    def test_what_was_taken_out_before_is_told_and_restored_as_it_is(
        self, data_dir: Path, tmp_path: Path
    ) -> None:
        entries = run(stored_in(data_dir))
        run(put_in_place(data_dir, [*entries[:3], *entries[4:]]))
        folder, target = tmp_path / "backup", tmp_path / "restored"
        done = run(back_up(settings(data_dir), folder))
        assert done.refusals is not None
        assert "of ci missing" in done.refusals.fault
        wrong = "refusals are NOT as they were written: refusal 2 of ci missing"
        assert wrong in told("backup", str(folder), "--verify", exit_code=1)
        assert run(restore(settings(target), folder)).refusals == done.refusals
        assert run(stored_in(target)) == run(stored_in(data_dir))

    def test_those_of_before_that_were_stored_twice_come_back(
        self, data_dir: Path, tmp_path: Path
    ) -> None:
        double = replace(entry_of(refusal(1)), message_id="r1")
        other = replace(entry_of(refusal(2)), message_id="r2")
        run(put_in_place(data_dir, [double, other]))
        run(append_late(data_dir, double))
        run(back_up(settings(data_dir), tmp_path / "backup"))
        run(restore(settings(tmp_path / "restored"), tmp_path / "backup"))
        assert run(stored_in(tmp_path / "restored")) == [double, other, double]

    def test_never_into_a_server_that_has_some(self, data_dir: Path, tmp_path: Path) -> None:
        folder = tmp_path / "backup"
        run(back_up(settings(data_dir), folder))

        async def into_another() -> None:
            async with NatsChild(tmp_path / "server") as server:
                async with JetStreamRefusals(server.admin) as kept:
                    await kept.append([entry_of(refusal(1))], 0)
                admin = server.admin
                url = server.url.replace("//", f"//{admin.user}:{admin.password}@")
                with pytest.raises(SettingsError, match="REFUSALS is not empty"):
                    await restore(settings(tmp_path / "own", url), folder)
                async with NatsConnection.open(admin) as connection:
                    names = (await connection.call("STREAM.NAMES"))["streams"]
                assert names == [STREAM], "no half of a restore is left"

        run(into_another())


def told(*args: str, exit_code: int = 0) -> str:
    """What a command says on stdout."""
    surroundings = Surroundings({"HOME": "/nonexistent"}, "rig", False, lambda: 0.0, lambda: "k")
    done = CliRunner().invoke(build_app(), list(args), obj=surroundings)
    assert done.exit_code == exit_code, done.output
    return done.stdout


def older(data_dir: Path, tmp_path: Path) -> Path:
    """A backup as 0.5.0 made it."""
    folder = tmp_path / "backup"
    run(back_up(settings(data_dir), folder))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / manifest.pop("refusals")["name"]).unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


async def append_late(data_dir: Path, entry: Entry) -> None:
    """When the server has forgotten that it had one of this name."""
    async with open_ledger(settings(data_dir)) as opened:
        assert opened.admin is not None
        async with NatsConnection.open(opened.admin) as connection:
            config = (await connection.call(f"STREAM.INFO.{STREAM}"))["config"]
            short = {**config, "duplicate_window": 100_000_000}
            await connection.call(f"STREAM.UPDATE.{STREAM}", short)
            async with asyncio.timeout(20):
                async with JetStreamRefusals(opened.address, opened.admin) as kept:
                    while True:
                        try:
                            await kept.append([entry], (await kept.ends())[0])
                            return
                        except LedgerUnavailable:
                            await SystemClock().sleep(0.02)
