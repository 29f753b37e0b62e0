"""Reading beside gives what reading gives, and says why when it cannot."""

from pathlib import Path

import pytest

from service.adapters.jetstream import JetStreamLedger
from service.adapters.nats_child import NatsChild
from service.adapters.read_process import Body, read_beside
from service.errors import LedgerDamaged
from service.ports import Entry


async def append(child: NatsChild, count: int, size: int) -> list[bytes]:
    """So many records of about this size; what they hold."""
    bodies = [b"%d " % number + b"x" * (size + number) for number in range(count)]
    entries = [Entry(f"ledger.n.a.b.{n}", f"id-{n}", body) for n, body in enumerate(bodies)]
    async with JetStreamLedger(child.service, child.admin) as ledger:
        await ledger.append(entries, 0)
    return bodies


@pytest.mark.parametrize(("count", "size"), [(1, 1), (300, 500), (20, 200_000)])
async def test_it_reads_what_is_there(nats_child: NatsChild, count: int, size: int) -> None:
    bodies = await append(nats_child, count, size)
    read = [body async for batch in read_beside(nats_child.service, 0, count) for body in batch]
    assert read == [Body(seq, body) for seq, body in enumerate(bodies, 1)]


async def test_it_begins_and_ends_where_it_is_told(nats_child: NatsChild) -> None:
    await append(nats_child, 30, 10)
    batches = [batch async for batch in read_beside(nats_child.service, 10, 20)]
    assert [body.seq for batch in batches for body in batch] == list(range(11, 21))


async def test_beyond_the_end_it_says_what_is_wrong(nats_child: NatsChild) -> None:
    await append(nats_child, 3, 10)
    with pytest.raises(LedgerDamaged, match="seq 4 of the ledger is missing"):
        async for _ in read_beside(nats_child.service, 7, 9):
            pass


async def test_leaving_it_early_leaves_no_process(nats_child: NatsChild) -> None:
    await append(nats_child, 50, 100_000)
    reading = read_beside(nats_child.service, 0, 50)
    assert await anext(reading)
    await reading.aclose()


async def test_no_module_is_taken_from_where_it_was_started(
    nats_child: NatsChild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may have started it in a folder that others may write to."""
    await append(nats_child, 3, 10)
    for name in ("msgspec", "struct", "service"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is not the module meant')")
    monkeypatch.chdir(tmp_path)
    batches = [batch async for batch in read_beside(nats_child.service, 0, 3)]
    assert [body.seq for batch in batches for body in batch] == [1, 2, 3]
