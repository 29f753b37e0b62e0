"""What every record bears: the hash of the one before, and what it was decided on."""

import contextlib
import itertools

import pytest
from msgspec.structs import replace

from events.codec import RECORD_BYTES_MAX, RecordTooLarge, hash_of, read
from events.record import Record
from events.volumes import VolumeDeleted
from service.application.chain import FACTS_EVERY, Chain
from service.application.intake import Caller
from service.application.writer import Receipt
from service.domain.basis import NO_OTHER_FACTS
from service.domain.commands import CreateVolume, DeleteVolume, Envelope, ResizeVolume
from service.errors import LedgerUnavailable
from tests.kit.builders import GIB, facts, patch, run
from tests.kit.decided_again import decided_again
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual


def check(ledger: MemoryLedger) -> None:
    """One chain, and each record decided again as it is."""
    assert sum(1 for _ in decided_again(ledger.entries)) == len(ledger.entries)


def with_facts(ledger: MemoryLedger) -> list[int]:
    """The sequences of the records that have facts."""
    basis = ((entry.seq, read(entry.body).data.basis) for entry in ledger.entries)
    return [seq for seq, one in basis if one and bytes(one.facts) != bytes(NO_OTHER_FACTS)]


def volume(service: SimulatedService, name: str) -> Envelope:
    host = service.host
    command = CreateVolume(name, GIB)
    return Envelope(host.ids.new(), host.clock.now_us(), command, service.facts())


def volume_record(at_us: int) -> Record:
    event = VolumeDeleted("one")
    return Record("op-1", "n1", "volume", "one", "outcome", at_us, (event,))


@virtual
async def test_each_record_has_the_hash_of_the_one_before() -> None:
    host = SimulatedHost(gpus=2)
    async with SimulatedService(host) as service:
        await service.succeed(run("foo", 1, 1), patch("foo", gpu_count=2), CreateVolume("v", GIB))
    entries = host.ledger.entries
    assert read(entries[0].body).prevhash == ""
    for before, entry in itertools.pairwise(entries):
        assert read(entry.body).prevhash == hash_of(before.body)
    check(host.ledger)


@virtual
async def test_the_chain_goes_on_after_a_restart() -> None:
    host = SimulatedHost()
    for name in ("one", "two"):
        async with SimulatedService(host) as service:
            await service.succeed(CreateVolume(name, GIB))
    check(host.ledger)


@pytest.mark.parametrize("fault", ["refused", "lost_reply", "prefix"])
@virtual
async def test_the_chain_goes_on_after_an_append_that_was_not_confirmed(fault: str) -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(CreateVolume("one", GIB))
        host.ledger.fail_next(fault)  # type: ignore[arg-type]
        with contextlib.suppress(LedgerUnavailable):
            await service.writer.submit(volume(service, "two"))
        await service.succeed(CreateVolume("three", GIB))
    check(host.ledger)


@virtual
async def test_a_record_too_large_is_no_link() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        huge = replace(volume(service, "one"), request={"x": "x" * RECORD_BYTES_MAX})
        with pytest.raises(RecordTooLarge):
            await service.writer.submit(huge)
        assert isinstance(await service.writer.submit(volume(service, "two")), Receipt)
    check(host.ledger)


def test_the_same_command_decided_again_is_another_message() -> None:
    """So that what was sent to follow the first cannot be stored behind the second."""
    made = volume_record(at_us=1)
    envelope = Envelope(made.command_id, made.at_us, CreateVolume("one", GIB), facts())
    first = Chain("").link(1, made, envelope)
    assert Chain("").link(1, made, envelope) == first
    later = Chain("").link(1, volume_record(at_us=2), envelope)
    behind_another = Chain("0" * 64).link(1, made, envelope)
    assert len({first.message_id, later.message_id, behind_another.message_id}) == 3


@virtual
async def test_facts_are_stored_when_they_are_others_and_now_and_then() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(CreateVolume("v", GIB))
        before = len(with_facts(host.ledger))
        for _ in range(2):
            await service.succeed(CreateVolume("x", GIB), DeleteVolume("x"))
        assert len(with_facts(host.ledger)) == before
        await service.succeed(ResizeVolume("v", 2 * GIB))  # how it may be resized is a fact of it
        while len(host.ledger.entries) < FACTS_EVERY:
            await service.succeed(CreateVolume("x", GIB), DeleteVolume("x"))
    assert FACTS_EVERY in with_facts(host.ledger)
    assert len(with_facts(host.ledger)) < before + 5
    check(host.ledger)


@virtual
async def test_a_record_says_from_where_its_command_came() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        caller = Caller("ann", "lab", "192.0.2.7")
        await service.intake.submit(CreateVolume("one", GIB), {}, caller)
        seq = await host.ledger.last_seq()
    event = read(host.ledger.entries[seq - 1].body)
    assert (event.actor, event.tenant, event.remote) == ("ann", "lab", "192.0.2.7")
