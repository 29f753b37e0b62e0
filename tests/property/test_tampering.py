"""Whatever is done to a recorded ledger is found, and where it is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.codec import decode, encode, hash_of, read, record_of
from events.subjects import subject_of
from service.application.verifying import verify
from service.audit_ports import Checkpoint, Verified
from service.domain.commands import CreateVolume
from service.ports import StoredEntry
from tests.kit.builders import GIB, NODE, OWNER, patch, run
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.tampering import forged, renamed, written_anew
from tests.kit.virtual_time import run_virtually

Entries = list[StoredEntry]


def recorded() -> Entries:
    """A small ledger with all kinds of records in it."""
    host = SimulatedHost(gpus=2)

    async def live() -> None:
        async with SimulatedService(host) as service:
            await service.succeed(
                run("foo", 1, 1), patch("foo", gpu_count=2), CreateVolume("v", GIB)
            )

    run_virtually(live())
    return list(host.ledger.entries)


RECORDED = sorted((Path(__file__).parents[1] / "replay" / "ledgers").glob("v0.[1-4].*.jsonl"))

LEDGER = recorded()
END = len(LEDGER)


def checkpoint(seq: int, entries: Sequence[StoredEntry] = LEDGER) -> Checkpoint:
    digest = hash_of(entries[seq - 1].body)
    return Checkpoint(NODE, OWNER, seq, digest, "2026-11-22T00:00:00Z", 1, "key")


def verified(entries: Sequence[StoredEntry], *checkpoints: Checkpoint) -> Verified:
    async def one_batch() -> AsyncIterator[Sequence[StoredEntry]]:
        yield entries

    return asyncio.run(verify(one_batch(), checkpoints))


def numbered(entries: Sequence[StoredEntry]) -> Entries:
    """As a file that was made anew would have them: no sequence is missing."""
    return [replace(entry, seq=seq) for seq, entry in enumerate(entries, 1)]


def test_what_nobody_touched_is_right() -> None:
    found = verified(LEDGER, checkpoint(3), checkpoint(END))
    assert (found.fault, found.records, found.unchained) == (None, END, 0)
    assert (found.checkpoints, found.vouched_seq, found.last_seq) == (2, END, END)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_byte_that_was_changed_is_found(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, END - 1))
    entry = LEDGER[at]
    place = data.draw(st.integers(0, len(entry.body) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != entry.body[place]))
    body = entry.body[:place] + bytes([other]) + entry.body[place + 1 :]
    fault = verified([*LEDGER[:at], replace(entry, body=body), *LEDGER[at + 1 :]]).fault
    assert fault is not None
    assert fault.seq == at + 1


@pytest.mark.parametrize("at", range(END))
def test_a_record_that_was_changed_and_renamed_is_found_by_the_next(at: int) -> None:
    changed = [*LEDGER[:at], renamed(LEDGER[at], forged(LEDGER[at])), *LEDGER[at + 1 :]]
    fault = verified(changed).fault
    if at == END - 1:
        assert fault is None, "the last has none behind it"
        fault = verified(changed, checkpoint(END)).fault
        assert fault is not None
        assert fault.seq == END
        return
    assert fault is not None
    assert fault.seq == at + 2
    assert f"seq {at + 1}: that one was changed" in fault.what


@pytest.mark.parametrize("at", range(END))
def test_a_record_that_was_taken_out_is_found(at: int) -> None:
    left = [*LEDGER[:at], *LEDGER[at + 1 :]]
    closed = verified(numbered(left)).fault
    if at < END - 1:
        fault = verified(left).fault
        assert fault is not None
        assert (fault.seq, "missing" in fault.what) == (at + 1, True)
        assert closed is not None
        assert closed.seq == at + 1
    else:
        assert closed is None, "an end that was cut off has nobody to tell"
        fault = verified(left, checkpoint(END)).fault
        assert fault is not None
        assert (fault.seq, "missing" in fault.what) == (END, True)


@pytest.mark.parametrize("at", range(1, END))
def test_a_record_that_was_put_in_is_found(at: int) -> None:
    event = read(LEDGER[at].body)
    body = encode(
        replace(record_of(event), actor="mallory"),
        hash_of(LEDGER[at - 1].body),
        event.data.basis,
    )
    put_in = renamed(LEDGER[at], body)
    fault = verified(numbered([*LEDGER[:at], put_in, *LEDGER[at:]])).fault
    assert fault is not None
    assert (fault.seq, "was put in" in fault.what) == (at + 1, True)


@pytest.mark.parametrize("at", range(END - 1))
def test_records_that_changed_places_are_found(at: int) -> None:
    swapped = [*LEDGER[:at], LEDGER[at + 1], LEDGER[at], *LEDGER[at + 2 :]]
    fault = verified(numbered(swapped)).fault
    assert fault is not None
    assert fault.seq == at + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: replace(entry, subject="ledger.other.gpu.x.y"),
        lambda entry: replace(entry, message_id=f"{entry.message_id}0"),
        lambda entry: replace(entry, message_id=read(entry.body).id),
    ],
    ids=["subject", "message", "message of before 0.5.0"],
)
def test_what_it_is_stored_under_has_to_fit(change: Callable[[StoredEntry], StoredEntry]) -> None:
    fault = verified([*LEDGER[:4], change(LEDGER[4]), *LEDGER[5:]]).fault
    assert fault is not None
    assert fault.seq == 5


@pytest.mark.parametrize("first", range(1, END))
def test_a_log_that_was_written_anew_is_found_by_a_checkpoint_only(first: int) -> None:
    anew = written_anew(LEDGER, first)
    assert verified(anew).fault is None
    fault = verified(anew, checkpoint(first), checkpoint(END)).fault
    assert fault is not None
    assert fault.seq == END


def test_a_checkpoint_of_another_installation_is_none() -> None:
    fault = verified(LEDGER, replace(checkpoint(5), owner="somebody")).fault
    assert fault is not None
    assert "another installation" in fault.what


def of_before(entries: Sequence[StoredEntry]) -> Entries:
    """The same records as 0.4.0 stored them."""
    found = []
    for entry in entries:
        event = read(entry.body)
        body = encode(record_of(event))
        found.append(replace(entry, body=body, message_id=event.id))
    return found


def test_records_of_before_have_no_hash_and_are_counted() -> None:
    old = of_before(LEDGER[:6])
    event = read(LEDGER[6].body)
    first = encode(record_of(event), hash_of(old[-1].body), event.data.basis)
    mixed = [*old, renamed(LEDGER[6], first)]
    found = verified(mixed)
    assert (found.fault, found.records, found.unchained) == (None, 7, 6)
    changed = [*old[:5], replace(old[5], body=old[5].body + b" "), mixed[6]]
    fault = verified(changed).fault
    assert fault is not None
    assert fault.seq == 7, "the last of them is proven by the first that has a hash"


@pytest.mark.parametrize("ledger", RECORDED, ids=lambda path: path.stem)
def test_what_earlier_versions_recorded_is_gone_on_from(ledger: Path) -> None:
    entries = [
        StoredEntry(seq, subject_of(decode(line)), decode(line).command_id, line)
        for seq, line in enumerate(ledger.read_bytes().splitlines(), 1)
    ]
    follows = encode(decode(entries[-1].body), hash_of(entries[-1].body))
    entries.append(renamed(replace(entries[-1], seq=len(entries) + 1), follows))
    found = verified(entries)
    assert (found.fault, found.unchained) == (None, len(entries) - 1)


def test_a_record_without_a_hash_behind_one_that_has_one_is_found() -> None:
    fault = verified([*LEDGER[:6], *of_before(LEDGER[6:])]).fault
    assert fault is not None
    assert fault.seq == 7
