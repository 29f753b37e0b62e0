"""The intake: a command is stored once, however often and whenever its key comes."""

import asyncio
from collections.abc import Iterable

import pytest

from events.codec import encode
from events.operations import OperationAccepted, OperationSucceeded
from events.record import Record
from events.subjects import subject_of
from projections.state import FINISHED_OPERATIONS_MAX
from projections.store import ReadStoreError
from projections.tables import Batch
from service.application.intake import Accepted
from service.domain.commands import (
    CreateVolume,
    DeleteVolume,
    ExecuteInReplicaSet,
    Request,
    StopReplicaSet,
)
from service.domain.rejections import Reason, Rejected
from service.errors import EngineUnavailable, LedgerUnavailable
from service.ports import Entry
from tests.kit.builders import GIB, NODE, run
from tests.kit.inline_store import InlineStore
from tests.kit.memory_ledger import MemoryLedger
from tests.kit.simulated_service import SimulatedHost, SimulatedService
from tests.kit.virtual_time import virtual

ONE = CreateVolume("one", GIB)
OTHER_OPERATIONS = 10_000


class StuckStore(InlineStore):
    """A read store that cannot be written to any more once `stuck`."""

    stuck = False

    async def apply(self, batch: Batch) -> None:
        if self.stuck:
            raise ReadStoreError("the disk is full")
        await super().apply(batch)


async def stored(ledger: MemoryLedger) -> int:
    return await ledger.last_seq()


async def other_operations(ledger: MemoryLedger, count: int) -> None:
    """So many operations that began and ended, one record each."""
    begin = await ledger.last_seq()
    for first in range(0, count, 1000):
        some = range(first, min(first + 1000, count))
        await ledger.append(list(_entries(some)), begin + first)


def _entries(numbers: Iterable[int]) -> Iterable[Entry]:
    for number in numbers:
        id = f"other-{number}"
        accepted = OperationAccepted(id, "execute", "replica_set", "ann", {})
        events = (accepted, OperationSucceeded(id))
        record = Record(id, NODE, "replica_set", "ann", "execute", number, events, operation_id=id)
        yield Entry(subject_of(record), id, encode(record))


@virtual
async def test_the_same_key_at_once_is_one_command() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        before = await stored(host.ledger)
        same = await asyncio.gather(*(service.submit(ONE, key="k") for _ in range(10)))
        assert isinstance(same[0], Accepted)
        assert same == [same[0]] * 10
        await service.ended(same[0])
        assert await stored(host.ledger) == before + 3


@virtual
async def test_the_same_key_after_the_end_is_the_same_operation() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        first = await service.submit(ONE, key="k")
        ended = await service.ended(first)
        seq = await stored(host.ledger)
        assert await service.submit(ONE, key="k") == first
        assert await service.ended(first) == ended
        assert await stored(host.ledger) == seq


@virtual
async def test_the_same_key_after_a_restart_is_the_same_operation() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        first = await service.submit(ONE, key="k")
    async with SimulatedService(host) as service:
        assert await service.submit(ONE, key="k") == first
        assert (await service.ended(first)).state == "succeeded"


@virtual
async def test_the_same_key_after_ten_thousand_others_is_the_same_operation() -> None:
    assert OTHER_OPERATIONS > FINISHED_OPERATIONS_MAX
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        first = await service.submit(ONE, key="k")
        ended = await service.ended(first)
    await other_operations(host.ledger, OTHER_OPERATIONS)
    async with SimulatedService(host) as service:
        seq = await stored(host.ledger)
        assert ended.id not in service.state.operations
        assert await service.submit(ONE, key="k") == first
        assert await service.ended(first) == ended
        other = await service.submit(CreateVolume("two", GIB), key="k")
        assert isinstance(other, Rejected)
        assert await stored(host.ledger) == seq


@pytest.mark.parametrize("other", [CreateVolume("one", 2 * GIB), DeleteVolume("one")])
@virtual
async def test_the_same_key_with_another_body_is_refused(other: Request) -> None:
    async with SimulatedService(SimulatedHost()) as service:
        at_once = await asyncio.gather(service.submit(ONE, "k"), service.submit(other, "k"))
        await service.ended(at_once[0])
        for refused in (at_once[1], await service.submit(other, "k")):
            assert isinstance(refused, Rejected)
            assert refused.reason == Reason.IDEMPOTENCY_KEY_REUSED


@virtual
async def test_a_key_whose_answer_was_lost_finds_what_was_stored() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        asking = asyncio.create_task(service.submit(ONE, key="k"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait((asking,))
        assert (await service.do(ONE, key="k")).state == "succeeded"
        assert len(service.state.operations) == 1


@virtual
async def test_without_a_key_every_command_is_its_own() -> None:
    async with SimulatedService(SimulatedHost()) as service:
        first, second = await service.submit(ONE), await service.submit(ONE)
        assert isinstance(first, Accepted)
        assert isinstance(second, Rejected)
        assert second.reason == Reason.VOLUME_EXISTS


@virtual
async def test_with_the_engine_away_nothing_is_stored_and_what_is_known_is_told() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        known = await service.submit(ONE, key="k")
        await service.ended(known)
        await host.clock.sleep(5)
        seq = await stored(host.ledger)
        host.engine.down = True
        for _ in range(3):
            with pytest.raises(EngineUnavailable, match="nothing was begun"):
                await service.submit(run("ann", 1))
        assert await service.submit(ONE, key="k") == known
        assert await stored(host.ledger) == seq
        assert service.state.gpus["gpu-0"].holder is None
        host.engine.down = False
        await service.succeed(run("ann", 1))


@virtual
async def test_with_the_ledger_away_nothing_is_promised() -> None:
    host = SimulatedHost(gpus=1)
    async with SimulatedService(host) as service:
        host.ledger.fail_next("refused")
        with pytest.raises(LedgerUnavailable):
            await service.submit(run("ann", 1), key="k")
        assert service.state.gpus["gpu-0"].holder is None
        assert (await service.do(run("ann", 1), key="k")).state == "succeeded"


@virtual
async def test_the_caller_goes_away_and_the_operation_goes_on() -> None:
    async with SimulatedService(SimulatedHost()) as service:
        accepted = await service.submit(run("ann"))
        waiting = [asyncio.create_task(service.ended(accepted)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait(waiting)
        assert waiting[0].cancelled()
        assert waiting[1].result().state == "succeeded"


@virtual
async def test_a_wait_is_over_when_time_is_up() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        await service.gate.require()
        host.engine.down = True  # for a second that is not noticed
        accepted = await service.submit(ONE)
        assert isinstance(accepted, Accepted)
        assert await service.intake.wait(accepted.operation_id, 30) is None
        assert await service.intake.wait("no such operation", 30) is None
        assert host.clock.monotonic_s() == pytest.approx(60)
        host.engine.down = False
        assert (await service.ended(accepted)).state == "succeeded"


@virtual
async def test_whoever_is_told_finds_it_in_the_rows() -> None:
    host = SimulatedHost()
    async with SimulatedService(host) as service:
        first, same = await asyncio.gather(service.submit(ONE, "k"), service.submit(ONE, "k"))
        assert isinstance(first, Accepted)
        assert isinstance(same, Accepted)
        await service.intake.caught_up()
        assert await host.store.operation(first.operation_id) is not None
        ended = await service.ended(first)
        assert await host.store.operation(first.operation_id) == ended


@virtual
async def test_what_is_stored_is_told_also_when_no_rows_are_written_any_more() -> None:
    host = SimulatedHost()
    host.store = store = StuckStore()
    async with SimulatedService(host) as service:
        store.stuck = True
        accepted = await service.submit(ONE)
        assert accepted == Accepted("id-000003", 3)
        assert await service.intake.wait("id-000003", 30) is None


@virtual
async def test_the_output_of_a_command_is_kept_for_its_caller() -> None:
    async with SimulatedService(SimulatedHost()) as service:
        await service.succeed(run("ann", cmd=("sleep", "600")))
        ended = await service.do(ExecuteInReplicaSet("ann", ("echo", "hello")))
        output = service.intake.output(ended.id)
        assert output is not None
        assert output.stdout == b"hello\n"
        assert ended.result["exitCode"] == 0
        await service.succeed(StopReplicaSet("ann"))
        assert service.intake.output("no such operation") is None
