"""What is signed, when, and what is not: on a ledger in memory, and on files."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from events.codec import hash_of
from service.adapters.audit_key import KEY_FILE, KeyFile, read_public, see_signed
from service.adapters.checkpoint_files import (
    CHECKPOINTS_FILE,
    CheckpointFiles,
    elsewhere_in,
    read_checkpoints,
)
from service.application.checkpointing import INTERVAL_S, LOOK_EVERY_S, RECORDS, Checkpointing
from service.application.health import Component
from service.application.refusal_chain import RefusalChain
from service.audit_ports import Checkpoint, CheckpointBook, Refusal
from service.bootstrap.auditing import OpenAudit
from service.domain.commands import CreateVolume, DeleteVolume
from service.errors import AuditError, LedgerDamaged, NoSuchPoint
from service.ports import StoredEntry
from service.telemetry import Metrics
from tests.kit.builders import GIB, NODE, OWNER
from tests.kit.memory_audit import MemoryAudit, MemoryBook, MemoryKey
from tests.kit.memory_refusals import MemoryRefusals
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.tampering import written_anew
from tests.kit.virtual_time import virtual

KEY = MemoryKey()


def signing_on(
    host: SimulatedHost, book: CheckpointBook, kept: MemoryRefusals | None = None
) -> Checkpointing:
    return Checkpointing(
        host.ledger,
        book,
        RefusalChain(MemoryRefusals() if kept is None else kept, book.last),
        KEY,
        host.clock,
        lambda: len(host.ledger.entries),
        NODE,
        OWNER,
        Metrics().registry,
    )


async def lived(host: SimulatedHost, times: int = 1) -> None:
    """Some records more."""
    async with SimulatedService(host) as service:
        for _ in range(times):
            await service.succeed(CreateVolume("x", GIB), DeleteVolume("x"))


def change(host: SimulatedHost, seq: int, make: Callable[[StoredEntry], StoredEntry]) -> None:
    """Change a record behind the ledger's back."""
    host.ledger._entries[seq - 1] = make(host.ledger._entries[seq - 1])


class TestSigning:
    @virtual
    async def test_the_end_is_signed(self) -> None:
        host, book = SimulatedHost(), MemoryBook()
        await lived(host)
        signing = signing_on(host, book)
        made = await signing.sign()
        last = host.ledger.entries[-1]
        assert (made.node, made.owner, made.seq) == (NODE, OWNER, last.seq)
        assert (made.hash, made.count, made.key) == (hash_of(last.body), 1, KEY.key_id)
        see_signed(made, KEY.public)
        assert book.kept == [made]
        assert await signing.sign() == made, "nothing is new"
        await lived(host)
        again = await signing.sign()
        assert (again.count, book.kept) == (2, [made, again])

    @virtual
    async def test_a_record_of_before_is_signed_when_what_follows_proves_it(self) -> None:
        host, book = SimulatedHost(), MemoryBook()
        await lived(host)
        signing = signing_on(host, book)
        await signing.sign(3)
        await signing.sign()
        for seq in (1, 3, 5):
            one = await signing.sign(seq)
            assert one.hash == hash_of(host.ledger.entries[seq - 1].body)
            see_signed(one, KEY.public)
        assert len(book.kept) == 2
        with pytest.raises(NoSuchPoint):
            await signing.sign(10_000)

    @virtual
    async def test_what_was_changed_since_is_not_signed(self) -> None:
        for seq, asked in ((3, None), (5, None), (2, 2), (4, 4)):
            host, book = SimulatedHost(), MemoryBook()
            await lived(host)
            signing = signing_on(host, book)
            await signing.sign(3)
            if asked is not None:
                await signing.sign()
            change(host, seq, lambda entry: replace(entry, body=entry.body + b" "))
            with pytest.raises(LedgerDamaged):
                await signing.sign(asked)

    @pytest.mark.parametrize("asked", [None, 4])
    @virtual
    async def test_a_ledger_that_was_written_anew_is_not_signed(self, asked: int | None) -> None:
        """Nothing but what was signed before tells."""
        host, book = SimulatedHost(), MemoryBook()
        await lived(host)
        signing = signing_on(host, book)
        await signing.sign(3)
        if asked is not None:
            await signing.sign()
        host.ledger._entries[:] = written_anew(host.ledger.entries, 2 if asked is None else 3)
        with pytest.raises(LedgerDamaged, match="vouches for"):
            await signing.sign(asked)

    @virtual
    async def test_an_end_that_was_cut_off_is_not_signed(self) -> None:
        host, book = SimulatedHost(), MemoryBook()
        await lived(host)
        signing = signing_on(host, book)
        made = await signing.sign()
        host.ledger._entries.pop()
        with pytest.raises(LedgerDamaged, match=f"vouches for seq {made.seq}"):
            await signing.sign()

    @virtual
    async def test_another_installation_s_checkpoints_are_not_gone_on_with(self) -> None:
        host, book = SimulatedHost(), MemoryBook()
        await lived(host)
        signing = signing_on(host, book)
        book.kept = [replace(await signing.sign(), owner="somebody")]
        with pytest.raises(AuditError, match="another installation"):
            await signing.sign()


class TestByItself:
    @virtual
    async def test_after_so_long_when_there_is_something_new(self) -> None:
        host, book = SimulatedHost(), MemoryBook()
        async with SimulatedService(host) as service:
            signing = signing_on(host, book)
            service.supervisor.start("checkpoints", signing.run())
            await host.clock.sleep(1)
            assert [one.count for one in book.kept] == [1], "where there is none, at once"
            await service.succeed(CreateVolume("x", GIB))
            await host.clock.sleep(INTERVAL_S - 10)
            assert len(book.kept) == 1
            await host.clock.sleep(10 + LOOK_EVERY_S)
            assert [one.count for one in book.kept] == [1, 2]
            assert book.elsewhere == book.kept
            await host.clock.sleep(3 * INTERVAL_S)
            assert len(book.kept) == 2

    @virtual
    async def test_after_so_many_records(self) -> None:
        host, book = SimulatedHost(), MemoryBook()
        await lived(host)
        signing = signing_on(host, book)
        await signing.sign()
        begun = host.clock.monotonic_s()
        async with SimulatedService(host) as service:
            while len(host.ledger.entries) < book.kept[0].seq + RECORDS:
                await service.succeed(CreateVolume("x", GIB), DeleteVolume("x"))
            assert host.clock.monotonic_s() - begun < INTERVAL_S
            service.supervisor.start("checkpoints", signing.run())
            await host.clock.sleep(1)
        assert len(book.kept) == 2

    @virtual
    async def test_trouble_is_told_and_tried_again(self) -> None:
        host, book = SimulatedHost(), MemoryBook()
        book.unreachable = "no such directory"
        async with SimulatedService(host) as service:
            signing = signing_on(host, book)
            service.supervisor.start("checkpoints", signing.run())
            await host.clock.sleep(1)
            assert (signing.trouble, signing.broken) == ("no such directory", False)
            assert len(book.kept) == 1
            book.unreachable = ""
            await host.clock.sleep(100)
            assert signing.trouble is None
            assert book.elsewhere == book.kept

    @virtual
    async def test_a_ledger_that_was_changed_is_told(self) -> None:
        host, book = SimulatedHost(), MemoryBook()
        async with SimulatedService(host) as service:
            signing = signing_on(host, book)
            service.supervisor.start("checkpoints", signing.run())
            await host.clock.sleep(1)
            await service.succeed(CreateVolume("x", GIB))
            change(host, book.kept[0].seq + 1, lambda entry: replace(entry, subject="ledger.x"))
            await host.clock.sleep(INTERVAL_S + LOOK_EVERY_S)
            assert signing.broken
            assert f"seq {book.kept[0].seq + 1}" in (signing.trouble or "")
            assert len(book.kept) == 1


class TestHealth:
    @virtual
    async def test_only_a_ledger_that_was_changed_makes_the_service_unready(self) -> None:
        host = SimulatedHost()
        parts = MemoryAudit(host.store, host.ledger, host.clock, lambda: 1, Metrics())
        opened = OpenAudit(parts.refusals, parts.chain, parts.audit)
        assert opened.component() == Component(True, "refusals are kept")
        parts.kept.away = "no server"
        parts.signing.trouble = "no such directory"
        parts.refusals.note(refused())
        assert not await parts.refusals.keep()
        told = opened.component()
        assert (told.ok, "no server; no such directory" in told.detail) == (True, True)
        parts.signing.broken = True
        assert not opened.component().ok


def refused() -> Refusal:
    return Refusal("id-1", 1, 1, 1013, 409, "gpus_exhausted", "none", "POST", "/api/v1/replicaSet")


Made = tuple[CheckpointBook, Callable[[], Awaitable[list[Checkpoint]]]]


@pytest.fixture(params=["memory", "files"])
async def made(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Made]:
    """A book, and what is in its other place."""
    if request.param == "memory":
        book = MemoryBook()

        async def mirrored() -> list[Checkpoint]:
            return book.elsewhere

        yield book, mirrored
        return
    elsewhere = elsewhere_in(tmp_path, "n1")

    async def on_disk() -> list[Checkpoint]:
        return list(read_checkpoints(elsewhere))

    yield CheckpointFiles(tmp_path, elsewhere), on_disk


def checkpoint(count: int) -> Checkpoint:
    return Checkpoint("n1", "o1", 10 * count, "0" * 64, "2026-11-22T00:00:00Z", count, "k", "s")


class TestBooks:
    async def test_a_book(self, made: Made) -> None:
        book, elsewhere = made
        assert await book.last() is None
        assert await book.following(1) is None
        await book.mirror()
        assert await elsewhere() == []
        for count in (1, 2, 3):
            await book.add(checkpoint(count))
        assert await book.last() == checkpoint(3)
        assert await book.following(11) == checkpoint(2)
        assert await book.following(20) == checkpoint(2)
        assert await book.following(31) is None
        await book.mirror()
        await book.add(checkpoint(4))
        await book.mirror()
        assert await elsewhere() == [checkpoint(count) for count in (1, 2, 3, 4)]

    async def test_what_was_half_written_is_written_anew(self, tmp_path: Path) -> None:
        book = CheckpointFiles(tmp_path)
        await book.add(checkpoint(1))
        with (tmp_path / CHECKPOINTS_FILE).open("ab") as file:
            file.write(b'{"node":"n1","own')
        assert await book.last() == checkpoint(1)
        await book.add(checkpoint(2))
        assert list(read_checkpoints(tmp_path / CHECKPOINTS_FILE)) == [checkpoint(1), checkpoint(2)]

    async def test_another_place_that_is_away_is_named_and_brought_up_to_date(
        self, tmp_path: Path
    ) -> None:
        away = tmp_path / "mount"
        book = CheckpointFiles(tmp_path, elsewhere_in(away, "n1"))
        await book.add(checkpoint(1))
        with pytest.raises(AuditError, match="mount"):
            await book.mirror()
        away.mkdir()
        await book.add(checkpoint(2))
        await book.mirror()
        assert len(read_checkpoints(elsewhere_in(away, "n1"))) == 2

    async def test_a_file_that_is_none_is_named(self, tmp_path: Path) -> None:
        (tmp_path / CHECKPOINTS_FILE).write_text("{}\n")
        with pytest.raises(AuditError, match=CHECKPOINTS_FILE):
            await CheckpointFiles(tmp_path).last()


class TestKeys:
    def test_a_key_is_made_once_and_is_its_owner_s_only(self, tmp_path: Path) -> None:
        first, again = KeyFile(tmp_path), KeyFile(tmp_path)
        assert first.key_id == again.key_id
        assert os.stat(tmp_path / KEY_FILE).st_mode & 0o777 == 0o600
        public = tmp_path / "public.pem"
        public.write_text(first.public_pem)
        for path in (public, tmp_path / KEY_FILE):
            signed = replace(checkpoint(1), signature=first.signature(checkpoint(1).signed_text()))
            see_signed(signed, read_public(path))

    @pytest.mark.parametrize("field", ["seq", "hash", "at", "node", "owner", "count", "key"])
    def test_a_forged_checkpoint_is_found(self, field: str) -> None:
        one = checkpoint(1)
        signed = replace(one, signature=KEY.signature(one.signed_text()))
        see_signed(signed, KEY.public)
        other = 7 if field in ("seq", "count") else "other"
        with pytest.raises(AuditError, match="forged"):
            see_signed(replace(signed, **{field: other}), KEY.public)
        with pytest.raises(AuditError, match="forged"):
            see_signed(signed, MemoryKey(2).public)
        for signature in ("", "no base64", signed.signature[:-4] + "AAA="):
            with pytest.raises(AuditError, match="forged"):
                see_signed(replace(signed, signature=signature), KEY.public)

    @pytest.mark.parametrize("text", ["", "no key", "-----BEGIN PRIVATE KEY-----\nx\n"])
    def test_a_damaged_key_is_named_and_not_replaced(self, tmp_path: Path, text: str) -> None:
        (tmp_path / KEY_FILE).write_text(text)
        with pytest.raises(AuditError, match=KEY_FILE):
            KeyFile(tmp_path)
        assert (tmp_path / KEY_FILE).read_text() == text
