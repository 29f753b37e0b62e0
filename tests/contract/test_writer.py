"""The writer: what it tells is true, whatever the ledger does; what it leases is stored."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from events.codec import RECORD_BYTES_MAX, RecordTooLarge, decode
from service.application.writer import RECOVERY_S, WAITING_MAX, Receipt
from service.domain.commands import (
    Command,
    CreateVolume,
    DeleteVolume,
    Envelope,
    ObserveGpus,
    Request,
)
from service.domain.rejections import Reason, Rejected
from service.errors import GpuledgerError, LedgerUnavailable, ServiceBusy
from service.ports import Entry
from tests.kit.builders import GIB, gpu, run
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual

Told = Receipt | Rejected | GpuledgerError


class WatchedLedger(MemoryLedger):
    """Notes how many entries came with each append. `away`: last_seq does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[int] = []
        self.away = False

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        self.appends.append(len(entries))
        return await super().append(entries, expected_last_seq)

    async def last_seq(self) -> int:
        if self.away:
            await asyncio.get_running_loop().create_future()
        return await super().last_seq()


class HeldLedger(MemoryLedger):
    """Appends wait while `held` is not set; `reached` says that one does."""

    def __init__(self) -> None:
        super().__init__()
        self.held = asyncio.Event()
        self.held.set()
        self.reached = asyncio.Event()

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        if not self.held.is_set():
            self.reached.set()
            await self.held.wait()
        return await super().append(entries, expected_last_seq)


def envelope(service: SimulatedService, command: Command, id: str = "") -> Envelope:
    host = service.host
    return Envelope(id or host.ids.new(), host.clock.now_us(), command, service.facts())


async def at_once(service: SimulatedService, *envelopes: Envelope) -> list[Told]:
    """What each was told, when all were waiting before the first was decided."""
    answers = await asyncio.gather(
        *(service.writer.submit(one) for one in envelopes), return_exceptions=True
    )
    told: list[Told] = []
    for answer in answers:
        assert isinstance(answer, Receipt | Rejected | GpuledgerError), answer
        told.append(answer)
    return told


async def stored_ids(ledger: MemoryLedger) -> list[str]:
    last_seq = await ledger.last_seq()
    return [decode(entry.body).command_id async for b in ledger.read(0, last_seq) for entry in b]


async def leases(service: SimulatedService) -> dict[str, str | None]:
    """Who holds which GPU, once everything stored is folded."""
    await service.projector.wait_folded(await service.host.ledger.last_seq())
    return {uuid: unit.holder for uuid, unit in service.state.gpus.items()}


@pytest.mark.parametrize("names", [("ann", "bob"), ("bob", "ann")])
@virtual
async def test_the_last_gpu_goes_to_the_first_who_asks(names: tuple[str, str]) -> None:
    async with SimulatedService(SimulatedHost(gpus=1)) as service:
        both = [envelope(service, run(name, 1)) for name in names]
        first, second = await at_once(service, *both)
        assert isinstance(first, Receipt)
        assert isinstance(second, Rejected)
        assert second.reason == Reason.GPUS_EXHAUSTED
        assert await leases(service) == {"gpu-0": names[0]}


@virtual
async def test_what_the_ledger_refused_is_not_leased() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        host.ledger.fail_next("refused")
        (told,) = await at_once(service, envelope(service, run("ann", 1)))
        assert isinstance(told, LedgerUnavailable)
        assert "nothing was stored" in str(told)
        assert await leases(service) == {"gpu-0": None}
        assert isinstance(await service.writer.submit(envelope(service, run("bob", 1))), Receipt)
        assert await leases(service) == {"gpu-0": "bob"}


@virtual
async def test_what_was_stored_is_told_though_the_reply_was_lost() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        host.ledger.fail_next("lost_reply")
        told = await service.writer.submit(envelope(service, run("ann", 1), "op-1"))
        assert told == Receipt(3, "op-1")
        assert (await stored_ids(host.ledger)).count("op-1") == 1
        assert await leases(service) == {"gpu-0": "ann"}


@pytest.mark.parametrize("stored", [0, 1, 2])
@virtual
async def test_each_of_a_batch_is_told_what_became_of_it(stored: int) -> None:
    host = SimulatedHost(gpus=3)
    async with SimulatedService(host) as service:
        host.ledger.fail_next("prefix", stored)
        names = ("ann", "bob", "cid")
        told = await at_once(service, *(envelope(service, run(n, 1), n) for n in names))
        assert [isinstance(one, Receipt) for one in told] == [n < stored for n in range(3)]
        held = [holder for holder in (await leases(service)).values() if holder]
        assert held == list(names[:stored])
        again = await at_once(service, *(envelope(service, run(n, 1), n) for n in names))
        assert all(isinstance(one, Receipt) for one in again)
        ids = await stored_ids(host.ledger)
        assert [ids.count(name) for name in names] == [1, 1, 1]


@virtual
async def test_a_refusal_is_not_told_when_what_it_rests_on_was_not_stored() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        host.ledger.fail_next("refused")
        both = [envelope(service, run(name, 1)) for name in ("ann", "bob")]
        told = await at_once(service, *both)
        assert [type(one) for one in told] == [LedgerUnavailable, LedgerUnavailable]
        assert await leases(service) == {"gpu-0": None}


@virtual
async def test_a_batch_is_answered_only_after_those_before_it() -> None:
    """Bob is refused because ann has the GPU; then it turns out that nobody ever gave it to her."""
    host = SimulatedHost(gpus=1)
    host.ledger = ledger = HeldLedger()
    async with SimulatedService(host) as service:
        ledger.held.clear()
        first = asyncio.create_task(at_once(service, envelope(service, run("ann", 1))))
        await ledger.reached.wait()
        second = asyncio.create_task(at_once(service, envelope(service, run("bob", 1))))
        await host.clock.sleep(1)
        assert not second.done()
        ledger.fail_next("refused")
        ledger.held.set()
        told = [*await first, *await second]
        assert [type(one) for one in told] == [LedgerUnavailable, LedgerUnavailable]
        assert set((await leases(service)).values()) == {None}
        (again,) = await at_once(service, envelope(service, run("bob", 1)))
        assert isinstance(again, Receipt)


@virtual
async def test_64_waiting_commands_are_one_append() -> None:
    host = SimulatedHost()
    host.ledger = ledger = WatchedLedger()
    async with SimulatedService(host) as service:
        ledger.appends.clear()
        many = [envelope(service, CreateVolume(f"v{n}", GIB)) for n in range(64)]
        told = await at_once(service, *many)
        assert all(isinstance(one, Receipt) for one in told)
        assert ledger.appends[0] == 64


@virtual
async def test_a_command_sent_again_is_known_also_when_the_append_beside_it_fails() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        known = envelope(service, CreateVolume("one", GIB), "op-1")
        told = await service.writer.submit(known)
        host.ledger.fail_next("refused")
        other = envelope(service, CreateVolume("two", GIB))
        again, refused = await at_once(service, known, other)
        assert again == told
        assert isinstance(refused, LedgerUnavailable)


@virtual
async def test_another_command_under_a_known_id_is_never_accepted() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        one = replace(envelope(service, CreateVolume("one", GIB), "op-1"), fingerprint="a")
        two = replace(envelope(service, CreateVolume("two", GIB), "op-1"), fingerprint="b")
        host.ledger.fail_next("lost_reply")
        first, second = await at_once(service, one, two)
        assert isinstance(first, Receipt)
        assert isinstance(second, LedgerUnavailable)
        now = await service.writer.submit(two)
        assert isinstance(now, Rejected)
        assert now.reason == Reason.IDEMPOTENCY_KEY_REUSED


@virtual
async def test_after_somebody_else_appended_it_decides_on_what_is_there() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service, SimulatedService(host) as other:
        # The other service folds the same ledger, so both could lease the GPU.
        first, (told,) = await asyncio.gather(
            other.writer.submit(envelope(other, run("ann", 1))),
            at_once(service, envelope(service, run("bob", 1))),
        )
        assert isinstance(first, Receipt)
        assert isinstance(told, LedgerUnavailable)
        now = await service.writer.submit(envelope(service, run("bob", 1)))
        assert isinstance(now, Rejected)
        assert now.reason == Reason.GPUS_EXHAUSTED


@virtual
async def test_a_ledger_that_does_not_come_back_is_told_in_time() -> None:
    host = SimulatedHost()
    host.ledger = ledger = WatchedLedger()
    async with SimulatedService(host) as service:
        ledger.fail_next("lost_reply")
        ledger.away = True
        begun = host.clock.monotonic_s()
        (told,) = await at_once(service, envelope(service, CreateVolume("one", GIB), "op-1"))
        assert isinstance(told, LedgerUnavailable)
        assert "not known" in str(told)
        assert host.clock.monotonic_s() - begun == pytest.approx(RECOVERY_S)
        ledger.away = False
        again = await service.writer.submit(envelope(service, CreateVolume("one", GIB), "op-1"))
        assert again == Receipt(3, "op-1")


@virtual
async def test_one_too_many_is_told_that_it_is_busy() -> None:
    async with SimulatedService(SimulatedHost()) as service:
        many = [envelope(service, ObserveGpus((gpu(n),))) for n in range(WAITING_MAX + 1)]
        told = await at_once(service, *many)
        assert isinstance(told[-1], ServiceBusy)
        assert all(isinstance(one, Receipt) for one in told[:-1])


@virtual
async def test_nobody_is_left_waiting_when_it_ends() -> None:
    host = SimulatedHost()
    host.ledger = ledger = WatchedLedger()
    async with SimulatedService(host) as service:
        ledger.fail_next("lost_reply")
        ledger.away = True
        deciding = asyncio.create_task(at_once(service, envelope(service, run("ann"))))
        await host.clock.sleep(1.0)  # it waits for the ledger, and those to come wait for it
        waiting = asyncio.create_task(at_once(service, envelope(service, run("bob"))))
        await host.clock.sleep(1.0)
    told = [*await deciding, *await waiting, *await at_once(service, envelope(service, run()))]
    assert [type(one) for one in told] == [LedgerUnavailable] * 3


@pytest.mark.parametrize("request_", [run("ann", 1), CreateVolume("ann", GIB)])
@virtual
async def test_a_caller_that_goes_away_takes_nothing_back(request_: Request) -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        waiting = asyncio.create_task(service.writer.submit(envelope(service, request_, "op-1")))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        operation = await service.intake.wait("op-1", 60)
        assert operation is not None
        assert operation.state == "succeeded"


@pytest.mark.parametrize("goes_away", [False, True])
@virtual
async def test_a_record_too_large_ends_only_its_command(goes_away: bool) -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        huge = envelope(service, CreateVolume("one", GIB))
        huge = replace(huge, request={"x": "x" * RECORD_BYTES_MAX})
        waiting = asyncio.create_task(service.writer.submit(huge))
        await asyncio.sleep(0)
        if goes_away:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError if goes_away else RecordTooLarge):
            await waiting
        told = await service.writer.submit(envelope(service, CreateVolume("two", GIB)))
        assert isinstance(told, Receipt)
        (entries,) = [batch async for batch in host.ledger.read(told.seq - 1, told.seq)]
        assert decode(entries[0].body).name == "two"


@virtual
async def test_what_another_writer_stored_late_counts_for_the_next_refusal() -> None:
    """A process that was killed may have sent an append that arrives after the next has looked."""
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(CreateVolume("vol", GIB))
        other = SimulatedHost()
        other.ledger, other.ids = host.ledger, host.ids
        async with SimulatedService(other) as before:
            await before.succeed(CreateVolume("late", GIB))
        await service.projector.wait_folded(await host.ledger.last_seq())
        told = await service.writer.submit(envelope(service, CreateVolume("late", GIB)))
        assert isinstance(told, Rejected)
        assert told.reason == Reason.VOLUME_EXISTS
        await service.succeed(DeleteVolume("late"))
