"""The supervisor and the health page: a part that fails stops alone, and it shows."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from events.codec import hash_of
from projections.projector import ProjectorStopped
from projections.store import ReadStoreError
from projections.tables import Batch
from service.application.intake import Caller
from service.application.service_health import ANSWER_S
from service.application.supervisor import Supervisor
from service.domain.commands import CreateVolume
from service.errors import LedgerDamaged, LedgerUnavailable
from service.ports import Entry
from tests.kit.builders import GIB
from tests.kit.inline_store import InlineStore
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual


class MoodyLedger(MemoryLedger):
    """`damaged`: an append finds the log broken; `silent`: nothing is answered."""

    damaged = False
    silent = False

    async def append(self, entries: Sequence[Entry], expected_last_seq: int) -> int:
        if self.damaged:
            raise LedgerDamaged("record 2 is missing")
        return await super().append(entries, expected_last_seq)

    async def last_seq(self) -> int:
        if self.silent:
            await asyncio.get_running_loop().create_future()
        return await super().last_seq()


class FullStore(InlineStore):
    """A read store on a disk that is full once `full`."""

    full = False

    async def apply(self, batch: Batch) -> None:
        if self.full:
            raise ReadStoreError("the disk is full")
        await super().apply(batch)


async def red(service: SimulatedService) -> dict[str, str]:
    """The components that are not well, and what is said of them."""
    report = await service.health.report()
    return {name: part.detail for name, part in report.items() if not part.ok}


@virtual
async def test_a_part_that_fails_stops_alone(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[str] = []

    async def fails() -> None:
        raise LedgerDamaged("record 7 is missing")

    async def goes_on() -> None:
        while True:
            await asyncio.sleep(1)
            turns.append("turn")

    with caplog.at_level(logging.CRITICAL):
        async with Supervisor() as supervisor:
            supervisor.start("bad", fails())
            supervisor.start("good", goes_on())
            await asyncio.sleep(3.5)
            assert supervisor.failures == {"bad": "record 7 is missing"}
    assert turns == ["turn"] * 3
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


@virtual
async def test_parts_stop_in_reverse_order_and_that_is_no_failure() -> None:
    stopped: list[str] = []

    async def part(name: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(1)
            stopped.append(name)

    async with Supervisor() as supervisor:
        for name in ("ledger", "writer", "web"):
            supervisor.start(name, part(name))
        await asyncio.sleep(0)
    assert stopped == ["web", "writer", "ledger"]
    assert supervisor.failures == {}


@virtual
async def test_a_part_that_never_had_a_turn_is_put_away() -> None:
    async def part() -> None:
        raise AssertionError("it has begun")

    # A coroutine that nobody awaits would be a warning, and warnings are errors here.
    async with Supervisor() as supervisor:
        supervisor.start("late", part())
    assert supervisor.failures == {}


@virtual
async def test_two_supervisors_share_their_failures() -> None:
    async def fails() -> None:
        raise ValueError

    async with Supervisor() as outer, Supervisor(outer.failures) as inner:
        inner.start("bad", fails())
        await asyncio.sleep(1)
        assert outer.failures == {"bad": "ValueError()"}


@virtual
async def test_when_all_is_well_nothing_is_red() -> None:
    async with SimulatedService(SimulatedHost()) as service:
        await service.succeed(CreateVolume("vol", GIB))
        report = await service.health.report()
        assert {name for name, part in report.items() if part.ok} == {
            *("ledger", "projector", "docker", "system disks", "gpus")
        }
        assert await red(service) == {}


@virtual
async def test_a_writer_that_fails_is_red_and_reads_go_on() -> None:
    host = SimulatedHost()
    host.ledger = ledger = MoodyLedger()
    async with SimulatedService(host) as service:
        await service.succeed(CreateVolume("vol", GIB))
        ledger.damaged = True
        for _ in range(2):
            with pytest.raises(LedgerUnavailable):
                await service.submit(CreateVolume("two", GIB))
        assert "record 2 is missing" in (await red(service))["writer"]
        assert [volume.name for volume in await host.store.volumes()] == ["vol"]
        assert await service.engine.list_containers({}) == ()


@virtual
async def test_a_projector_that_fails_is_red() -> None:
    host = SimulatedHost()
    host.store = store = FullStore()
    async with SimulatedService(host) as service:
        store.full = True
        await service.submit(CreateVolume("vol", GIB))
        await host.clock.sleep(1)
        assert "the disk is full" in (await red(service))["projector"]


@virtual
async def test_parts_outside_that_do_not_answer_are_red() -> None:
    host = SimulatedHost()
    host.ledger = ledger = MoodyLedger()
    async with SimulatedService(host) as service:
        ledger.silent = host.engine.down = True
        begun = host.clock.monotonic_s()
        assert set(await red(service)) == {"ledger", "docker"}
        assert host.clock.monotonic_s() - begun <= ANSWER_S
        ledger.silent = host.engine.down = False
        assert await red(service) == {}


@virtual
async def test_a_record_of_a_newer_version_is_named_and_nothing_is_skipped() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.succeed(CreateVolume("vol", GIB))
        newer = entry_of(host.ledger.entries[-1].body.replace(b"ed.v1", b"ed.v9"))
        before = await host.ledger.last_seq()
        await host.ledger.append([newer, entry_of(host.ledger.entries[-1].body)], before)
        (why,) = [text for name, text in (await told_red(service)).items() if name == "projector"]
        assert f"record {before + 1} cannot be read" in why
        assert "ed.v9" in why
        assert service.projector.folded_seq == before
        with pytest.raises(LedgerUnavailable):
            await service.intake.submit(CreateVolume("later", GIB), {}, Caller())
    with pytest.raises(ProjectorStopped, match=rf"record {before + 1} cannot be read: .*ed\.v9"):
        await SimulatedService(host).__aenter__()  # it does not begin without what it cannot read


def entry_of(body: bytes) -> Entry:
    """A record that somebody else appends."""
    return Entry("ledger.n1.volume.vol.outcome", hash_of(body), body)


async def told_red(service: SimulatedService) -> dict[str, str]:
    """What is not well, once the projector is not."""
    while "projector" not in (found := await red(service)):
        await service.host.clock.sleep(0.1)
    return found
